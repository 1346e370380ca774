""".env names every knob that the code reads, and docs/settings.md says what .env says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from ops import settings, settings_reference
from support.stack import ROOT

FOLDERS = ("builder", "client", "cluster", "gateway", "models_volume", "monitoring", "scripts", "triton")
NAME = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+")


def knobs() -> dict[str, str]:
    lines = (ROOT / ".env").read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def python_names(path: Path) -> Iterator[str]:
    """The variables that a file reads: of `environ`, through the settings, and all that looks like one where
    `environ` is in reach."""
    text = path.read_text("utf-8")
    near = re.search(r"\benviron\b", text) is not None
    for node in ast.walk(ast.parse(text)):
        name: object = None
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = ast.unparse(node.func)
            if re.search(r"\benviron\.\w+$", called) or called in ("value", "folder"):
                name = node.args[0].value
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value) in ("os.environ", "environ"):
            name = node.slice.value if isinstance(node.slice, ast.Constant) else None
        elif near and isinstance(node, ast.Constant) and NAME.fullmatch(str(node.value)):
            name = node.value
        if isinstance(name, str):
            yield name


def read_by_code() -> dict[str, str]:
    """Each variable, with a file that reads it."""
    found = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            found.update(dict.fromkeys(python_names(path), str(path.relative_to(ROOT))))
    for name in ("compose.yaml", "compose.cpu.yaml", "compose.gateway.yaml", "triton/entrypoint"):
        lines = (ROOT / name).read_text("utf-8").splitlines()
        text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
        found.update(dict.fromkeys(re.findall(r"\$\{([A-Z]\w*)", text), name))
    return found


def test_the_scan_sees_every_way_in_which_code_reads_a_variable(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text(
        "import os\nfrom ops.settings import value, folder\n"
        "os.environ['A1']; os.environ.get('B1'); value('C1'); folder('D1', 'd')\n"
        "environ.setdefault('E1', '')\n"
        "for name in ('F_1', 'G_1'): os.environ.get(name)\n"
    )
    assert {"A1", "B1", "C1", "D1", "E1", "F_1", "G_1"} <= set(python_names(file))


def test_every_knob_that_the_code_reads_is_in_the_file() -> None:
    known = {*knobs(), *settings.INTERNAL, *settings.FOREIGN}
    missing = {name: where for name, where in read_by_code().items() if name.upper() not in known}
    assert missing == {}, "a knob wants a line in .env; anything else one in ops/settings.py"


def test_every_line_of_the_file_is_read_by_something() -> None:
    by_compose_itself = {"COMPOSE_PROFILES"}
    assert set(knobs()) - set(read_by_code()) - by_compose_itself == set()


def test_what_is_no_knob_is_read_and_is_not_in_the_file() -> None:
    others = {*settings.INTERNAL, *settings.FOREIGN}
    assert others & set(knobs()) == set()
    assert others - {n.upper() for n in read_by_code()} == set()


def test_the_page_says_what_the_file_says() -> None:
    page = settings_reference.PAGE.read_text("utf-8")
    assert page == settings_reference.page((ROOT / ".env").read_text("utf-8")), (
        "python3 scripts/ops/settings_reference.py"
    )
    for name in knobs():
        [row] = [line for line in page.splitlines() if line.startswith(f"| `{name}` ")]
        assert row.split(" | ")[2].strip(" |"), f"{name}: no word of why"


def test_the_page_is_linked() -> None:
    assert "docs/settings.md" in (ROOT / "README.md").read_text("utf-8")


def test_settings_of_the_file_hold_where_they_are_read_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / ".env"
    file.write_text("VENVS_DIR=elsewhere\nTRTEXEC=/opt/trtexec\n")
    assert settings.value("TRTEXEC", {}, file) == "/opt/trtexec"
    assert settings.value("TRTEXEC", {"TRTEXEC": "mine"}, file) == "mine"
    assert settings.value("HOOKS_DIR", {}, file) == ""
    assert settings.value("TRTEXEC", {}, tmp_path / "none") == ""
    monkeypatch.setenv("VENVS_DIR", "here")
    assert settings.folder("VENVS_DIR", ".venvs") == ROOT / "here"
