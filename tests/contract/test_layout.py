"""What holds for the tree as a whole: who imports whom, what scripts promise, what no file may say."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.stack import ROOT

SCRIPTS = sorted(p for p in (ROOT / "scripts").iterdir() if p.is_file() and not p.suffix)
# Written so that they do not match themselves.
HOSTS = re.compile(
    r"pypi[.]org|pythonhosted[.]org|npmjs[.]org|deb[.]debian[.]org|debian[.]org/debian|archive[.]ubuntu|ghcr[.]io|"
    r"quay[.]io|docker[.]io/|registry-1[.]docker|artifact[o]ry|nexus[.]|conda[.]anaconda|index-url\s*=",
    re.IGNORECASE,
)
PLACES = re.compile(
    r"/[h]ome/[a-z]|/[r]oot/[a-z.]|/[U]sers/[A-Za-z]|/[w]ork/[a-z.]|/[t]mp/x/|[A-Z]:\\\\[U]sers"
)


def files() -> list[Path]:
    """Every file that is tracked, or would be by `git add -A`."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this tree is no git checkout, so there is no list of its files")
    argv = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def python_files(*folders: str) -> list[Path]:
    found = [p for folder in folders for p in (ROOT / folder).rglob("*.py")]
    return sorted([*found, *(SCRIPTS if "scripts" in folders else [])])


def imports(path: Path) -> set[str]:
    """The first names of all modules that a file imports, at whatever depth."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize(
    ("folder", "strangers"),
    [
        (
            "builder",
            {"client", "cluster", "gateway", "monitoring", "ops", "scripts", "triton", "triton_stack_client"},
        ),
        ("client", {"builder", "client", "cluster", "gateway", "monitoring", "ops", "scripts", "triton"}),
        ("scripts", {"builder", "client", "cluster", "monitoring", "triton", "triton_stack_client"}),
        (
            "triton",
            {
                "builder",
                "client",
                "cluster",
                "gateway",
                "monitoring",
                "ops",
                "scripts",
                "triton_stack_client",
            },
        ),
        (
            "gateway",
            {"builder", "client", "cluster", "monitoring", "ops", "scripts", "triton", "triton_stack_client"},
        ),
        (
            "monitoring",
            {"builder", "client", "cluster", "gateway", "ops", "scripts", "triton", "triton_stack_client"},
        ),
        (
            "models_volume",
            {
                "builder",
                "client",
                "cluster",
                "gateway",
                "monitoring",
                "ops",
                "scripts",
                "triton",
                "triton_stack_client",
            },
        ),
        # Its agent drives a rollout of its own, with the operator's order of steps; what it pulls goes
        # through the builder's gates, in the builder's environment.
        (
            "cluster",
            {"client", "gateway", "monitoring", "scripts", "triton", "triton_stack_client"},
        ),
    ],
)
def test_the_parts_never_import_each_other(folder: str, strangers: set[str]) -> None:
    found = {str(p.relative_to(ROOT)): imports(p) & strangers for p in python_files(folder)}
    assert {name: names for name, names in found.items() if names} == {}


def test_of_the_cluster_s_code_the_agent_alone_imports_the_operator_s() -> None:
    found = {str(p.relative_to(ROOT)) for p in python_files("cluster") if "ops" in imports(p)}
    assert {name for name in found if not name.startswith("cluster/agent/")} == set()


def test_tensorflow_is_imported_by_the_exporter_alone() -> None:
    heavy = {"tensorflow", "tf2onnx", "keras"}
    found = {
        str(p.relative_to(ROOT))
        for p in python_files("builder", "client", "cluster", "models_volume", "scripts", "triton")
        if imports(p) & heavy
    }
    assert found == {"builder/export/tensorflow.py"}


def test_the_scripts_need_nothing_but_python_apart_from_docker_s_sdk() -> None:
    ours = {"gateway", "models_volume", "ops", "__future__"}
    foreign = {
        str(p.relative_to(ROOT)): imports(p) - ours - set(sys.stdlib_module_names)
        for p in python_files("scripts")
    }
    assert set().union(*foreign.values()) <= {"docker"}


def test_only_the_scripts_run_docker() -> None:
    callers = [
        str(p.relative_to(ROOT))
        for p in python_files(
            "builder", "client", "cluster", "gateway", "models_volume", "monitoring", "triton"
        )
        if re.search(r"""["']docker["']""", p.read_text("utf-8"))
    ]
    assert callers == []


def test_no_file_names_a_package_registry() -> None:
    found = {
        f"{p.relative_to(ROOT)}: {m.group()}"
        for p in files()
        if (m := HOSTS.search(p.read_text("utf-8", "replace")))
    }
    assert found == set()


def test_the_only_image_registry_named_is_nvidia_s() -> None:
    image = re.compile(r"\b([a-z0-9-]+(?:[.][a-z0-9-]+)+(?::\d+)?)/[a-z0-9-]+/[a-z0-9-]+:[\w${]")
    named = {
        m.group(1)
        for p in files()
        if p.name.startswith(("Dockerfile", "compose")) or p.name == ".env"
        for m in image.finditer(p.read_text("utf-8"))
    }
    assert named <= {"nvcr.io"}


def test_no_file_names_a_place_on_somebody_s_machine() -> None:
    found = {
        f"{p.relative_to(ROOT)}: {m.group()}"
        for p in files()
        if (m := PLACES.search(p.read_text("utf-8", "replace")))
    }
    assert found == set()


def test_what_up_makes_is_never_committed() -> None:
    names = {str(p.relative_to(ROOT)) for p in files()}
    made = {
        n for n in names if n.startswith((".venvs/", "models/")) or n.endswith((".plan", ".onnx", ".whl"))
    }
    assert made == set()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name if isinstance(p, Path) else "")
def test_a_script_is_executable_and_answers_help_at_once(script: Path, tmp_path: Path) -> None:
    if script.suffix or not script.read_bytes().startswith(b"#!"):
        pytest.fail(f"{script.name} has no first line that says what runs it")
    assert os.access(script, os.X_OK)
    env = {
        **os.environ,
        "VENVS_DIR": str(tmp_path / "venvs"),
        "MODELS_DIR": str(tmp_path / "models"),
        "PIP_NO_INDEX": "1",
    }  # fmt: skip  (a script that sets up first fails at once)
    began = time.monotonic()
    done = subprocess.run(
        [str(script), "--help"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()
    assert time.monotonic() - began < 10
    assert list(tmp_path.iterdir()) == [], "asking for help makes nothing"


@pytest.mark.parametrize("folder", ["builder", "gateway", "models_volume", "monitoring", "triton", "scripts"])
def test_what_may_run_on_python_3_8_has_its_syntax(folder: str) -> None:
    for path in python_files(folder):
        ast.parse(path.read_text("utf-8"), str(path), feature_version=(3, 8))


@pytest.mark.parametrize(
    "folder", ["builder", "gateway", "models_volume", "monitoring", "triton", "scripts/ops"]
)
def test_annotations_there_are_not_evaluated(folder: str) -> None:
    """Without the future import, ``list[str]`` in a signature is an error on 3.8 when it is imported."""
    modern = re.compile(r"(->|:)[^#\n\"']*\b(list|dict|tuple|set)\[|\| None")
    without = [
        str(p.relative_to(ROOT))
        for p in python_files(folder)
        if modern.search(text := p.read_text("utf-8")) and "from __future__ import annotations" not in text
    ]
    assert without == []


@pytest.fixture(scope="session")
def python38() -> str:
    places = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for candidate in [shutil.which("python3.8"), *map(str, places.glob("3.8*/bin/python3.8"))]:
        if candidate is None:
            continue
        argv = [candidate, "-c", "import sys; print(sys.version_info[:2] == (3, 8))"]
        if subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip() == "True":
            return candidate
    pytest.skip("this machine has no Python 3.8, which NGC 22.11's images have")


def test_a_real_python_3_8_compiles_them(python38: str, tmp_path: Path) -> None:
    argv = [
        python38,
        "-m",
        "compileall",
        "-q",
        "-f",
        *map(str, python_files("gateway", "models_volume", "monitoring", "triton", "scripts")),
    ]
    env = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path)}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("script", ["stack", "up", "down", "status", "doctor", "keys", "classify", "bench"])
def test_a_real_python_3_8_runs_a_script(python38: str, script: str) -> None:
    argv = [python38, "-B", str(ROOT / "scripts" / script), "--help"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_places_that_the_design_names_are_there() -> None:
    text = (ROOT / "docs" / "design.md").read_text("utf-8")
    roots = (
        "builder/",
        "client/",
        "cluster/",
        "gateway/",
        "models_volume/",
        "monitoring/",
        "scripts/",
        "triton/",
    )
    named = {n for n in re.findall(r"`([\w./-]+/[\w./-]*)`", text) if n.startswith(roots)}
    missing = {n for n in named if not (ROOT / n).exists()}
    assert len(named) > 10
    assert missing == set()
