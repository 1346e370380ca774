"""The structure of the code: imports point one way, and no folder grows beyond what one look takes in."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from graphlib import CycleError, TopologicalSorter
from support.stack import ROOT

# Where each top-level package of ours lies.
PACKAGES = {
    "builder": ROOT / "builder",
    "cluster": ROOT / "cluster",
    "gateway": ROOT / "gateway",
    "models_volume": ROOT / "models_volume",
    "monitoring": ROOT / "monitoring",
    "ops": ROOT / "scripts" / "ops",
    "triton_stack_client": ROOT / "client" / "triton_stack_client",
}
LARGEST = 13  # modules in one folder, __init__ and __main__ aside
# One file a verb, whatever their number: `./scripts/stack --help` is the look at them.
VERBS = "scripts/ops/commands"


def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(p for p in parts if p != "__init__")] = path
    return found


def imported(path: Path, known: set[str]) -> Iterator[str]:
    """The modules of ours that a file imports when it is imported itself, not later inside a function."""
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                name = inner if inner in known else node.module
                if name in known:
                    yield name


def test_no_modules_import_each_other_in_a_circle() -> None:
    found = modules()
    graph = {name: set(imported(path, set(found))) - {name} for name, path in found.items()}
    assert sum(map(len, graph.values())) > 50, "the imports were read"
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as e:
        pytest.fail(" -> ".join(e.args[1]))


@pytest.mark.parametrize("package", PACKAGES)
def test_no_folder_holds_more_modules_than_one_look_takes_in(package: str) -> None:
    folders = {path.parent for path in PACKAGES[package].rglob("*.py")}
    counts = {
        str(folder.relative_to(ROOT)): sum(not p.name.startswith("__") for p in folder.glob("*.py"))
        for folder in folders
    }
    assert {name: n for name, n in counts.items() if n > LARGEST and name != VERBS} == {}


def test_every_place_that_the_design_names_is_there() -> None:
    text = (ROOT / "docs" / "design.md").read_text("utf-8")
    table = text[text.index("## Where to change what") :].split("\n## ")[0]
    places = re.findall(r"`([a-z_]+/[a-zA-Z_./]*)`", table)
    assert len(places) > 15
    assert [name for name in places if not (ROOT / name).exists()] == []


def test_triton_is_no_package_of_ours() -> None:
    """With an __init__.py, `import triton` in this folder would hide the package that PyTorch needs."""
    assert not (ROOT / "triton" / "__init__.py").exists()
