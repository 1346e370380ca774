"""The format of the models volume is written once: in models_volume, which every part and image has."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.stack import ROOT, free_ports

PARTS = ("builder", "client", "cluster", "gateway", "scripts/ops", "triton")
# What only a reader of the format says: following the live link, and the names of a release's files.
WORDS = {"readlink", "manifest.json", "golden.npz", "verified.npz", ".pending"}
# Looks at the processes of the server, in /proc, not at the volume.
OTHERS = {"triton/cpu/leftovers.py": {"readlink"}}


def said(path: Path) -> set[str]:
    """The words of a file's code: names, attributes and strings, but not docstrings and comments."""
    tree = ast.parse(path.read_text("utf-8"))
    prose = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            found |= {word for word in WORDS if word in node.value.split("/")}
    return found


def test_nobody_else_follows_the_live_link_or_opens_a_manifest() -> None:
    found = {}
    for part in PARTS:
        for path in (ROOT / part).rglob("*.py"):
            name = str(path.relative_to(ROOT))
            words = said(path) & WORDS - OTHERS.get(name, set())
            if words:
                found[name] = words
    assert found == {}


def test_no_python_source_is_passed_on_a_command_line_to_a_container() -> None:
    files = list((ROOT / "scripts/ops/runtimes/docker").glob("*.py"))
    assert files
    assert [file.name for file in files if '"-c"' in file.read_text("utf-8")] == []


@pytest.mark.parametrize(
    "dockerfile",
    [
        "builder/Dockerfile",
        "client/Dockerfile",
        "gateway/Dockerfile",
        "triton/Dockerfile",
        "triton/Dockerfile.cpu",
    ],
)
def test_every_image_has_the_format_beside_its_code(dockerfile: str) -> None:
    copied = [
        line.split()
        for line in (ROOT / dockerfile).read_text("utf-8").splitlines()
        if "COPY models_volume" in line
    ]
    assert [words[-1].rpartition("/")[2] for words in copied] == ["models_volume"]


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository" / "m").symlink_to("../releases/m/2/model")
    for version in (1, 2, 10):
        (tmp_path / "releases" / "m" / str(version) / "model" / str(version)).mkdir(parents=True)
    (tmp_path / "releases" / "m" / "2" / "manifest.json").write_text('{"model": "m"}')
    return tmp_path


def test_a_bare_python_prints_the_snapshot(volume: Path) -> None:
    """-I -S: no packages at all, as in NVIDIA's server image."""
    code = (
        f"import sys, runpy; sys.path.insert(0, {str(ROOT)!r}); sys.argv[1:] = ['snapshot', {str(volume)!r}]"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"{code}; runpy.run_module('models_volume', run_name='__main__')"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == {
        "m": {"live": 2, "releases": [1, 2, 10], "manifest": {"model": "m"}, "pending": False, "strays": []}
    }


@pytest.mark.parametrize("argv", [[], ["snapshot"], ["explode", "x"]])
def test_wrong_usage_of_the_snapshot_is_told(argv: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "models_volume", *argv], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "usage" in done.stderr


def health(volume: Path) -> subprocess.CompletedProcess[str]:
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "MODEL_REPOSITORY": str(volume / "repository"),
        "HTTP_PORT": str(free_ports(1)[0]),
    }
    return subprocess.run(
        [sys.executable, str(ROOT / "triton/health.py")], env=env, capture_output=True, text=True, check=False
    )


def test_the_health_check_names_the_version_that_does_not_answer(volume: Path) -> None:
    done = health(volume)
    assert (done.returncode, done.stdout) == (1, "m version 2: does not answer\n"), done.stderr


def test_the_health_check_of_an_empty_volume_says_what_to_do(tmp_path: Path) -> None:
    done = health(tmp_path)
    assert done.returncode == 1
    assert "nothing is published" in done.stdout


def test_no_python_source_is_passed_on_a_command_line() -> None:
    folders = ("builder", "client", "cluster", "gateway", "models_volume", "scripts", "triton")
    source = re.compile(r"""["']-c["'],\s*(?!\s|["']%)""")
    found = [
        str(path.relative_to(ROOT))
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if source.search(path.read_text("utf-8"))
    ]
    assert found == []
