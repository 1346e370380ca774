"""The lock files: everything asked for is in them, pinned, hashed, and from nowhere in particular."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.stack import ROOT

PARTS = sorted(
    path.parent.relative_to(ROOT).as_posix()
    for pattern in ("[a-z]*/requirements.in", "[a-z]*/[a-z]*/requirements.in")
    for path in ROOT.glob(pattern)
)


def asked(part: str) -> list[Requirement]:
    """The packages of ``requirements.in``, with those of the files it names by -r."""
    found = []
    path = ROOT / part / "requirements.in"
    for raw in path.read_text("utf-8").splitlines():
        line = raw.split(" #")[0].strip()
        if line.startswith("-r "):
            found += asked((path.parent / line[3:]).resolve().parent.relative_to(ROOT).as_posix())
        elif line and not line.startswith("#"):
            found.append(Requirement(line))
    return found


def locked(part: str) -> list[tuple[Requirement, list[str]]]:
    """Each entry of ``requirements.txt`` with its hashes."""
    text = (ROOT / part / "requirements.txt").read_text("utf-8")
    lines = [x for x in text.splitlines() if x and not x.strip().startswith("#")]
    entries = []
    for entry in re.split(r"\n(?=\S)", "\n".join(lines)):
        requirement, *hashes = re.split(r"\s*\\?\s*--hash=", entry.replace("\\\n", " "))
        entries.append((Requirement(requirement), [h.strip() for h in hashes]))
    return entries


def test_every_component_has_a_lock_file() -> None:
    assert PARTS == ["builder", "client", "client/bench", "gateway", "scripts", "tests", "triton"]
    assert all((ROOT / part / "requirements.txt").is_file() for part in PARTS)


@pytest.mark.parametrize("part", PARTS)
def test_every_package_asked_for_is_locked_for_where_it_is_asked_for(part: str) -> None:
    pins: dict[str, list[Requirement]] = {}
    for requirement, _ in locked(part):
        pins.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    for wanted in asked(part):
        mine = pins.get(canonicalize_name(wanted.name), [])
        assert mine, f"{wanted} is in no line of {part}/requirements.txt"
        for python in ("3.10", "3.11", "3.12", "3.13"):
            for machine in ("x86_64", "aarch64"):
                here = {"python_version": python, "python_full_version": f"{python}.9",
                        "platform_machine": machine, "sys_platform": "linux"}  # fmt: skip
                if wanted.marker and not wanted.marker.evaluate(here):
                    continue
                fit = [p for p in mine if p.marker is None or p.marker.evaluate(here)]
                assert len(fit) == 1, f"{wanted} on Python {python}, {machine}: {[str(p) for p in fit]}"
                pinned = next(iter(fit[0].specifier)).version
                assert wanted.specifier.contains(pinned, prereleases=True), f"{wanted}: {fit[0]}"


@pytest.mark.parametrize("part", PARTS)
def test_every_line_pins_one_version_with_hashes(part: str) -> None:
    for requirement, hashes in locked(part):
        assert re.fullmatch(r"==[\w.+!]+", str(requirement.specifier)), requirement
        assert requirement.url is None
        assert hashes, f"{requirement} has no hash"
        for value in hashes:
            assert re.fullmatch(r"sha256:[0-9a-f]{64}", value), requirement


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", ["requirements.in", "requirements.txt"])
def test_no_file_says_where_packages_come_from(part: str, name: str) -> None:
    text = (ROOT / part / name).read_text("utf-8")
    assert "://" not in text
    assert not re.search(r"--(extra-)?index-url|--find-links|--trusted-host|^-[if] ", text, re.MULTILINE)


@pytest.mark.parametrize("part", PARTS)
def test_the_same_package_is_not_locked_twice_for_one_machine(part: str) -> None:
    for python in ("3.10", "3.12"):
        here = {"python_version": python, "python_full_version": f"{python}.9",
                "platform_machine": "x86_64", "sys_platform": "linux"}  # fmt: skip
        names = [
            canonicalize_name(r.name) for r, _ in locked(part) if not r.marker or r.marker.evaluate(here)
        ]
        assert len(names) == len(set(names))


def test_tensorflow_is_locked_for_the_builder_alone() -> None:
    with_it = {p for p in PARTS if any(r.name.startswith("tensorflow") for r, _ in locked(p))}
    assert with_it == {"builder"}


def test_the_locked_pythons_are_those_the_scripts_ask_for() -> None:
    text = Path(ROOT / "scripts" / "lock").read_text("utf-8")
    assert text.count('"3.10"') == len(PARTS)


def test_the_client_s_distribution_asks_for_what_its_lock_has() -> None:
    """`pip install ./client` and the stack's own environment are the same packages, pinned or not."""
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "client" / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [Requirement(r) for r in project["dependencies"] + project["optional-dependencies"]["pictures"]]
    listed = {canonicalize_name(r.name): r.extras for r in asked("client")}
    assert {canonicalize_name(r.name): r.extras for r in wanted} == listed
    pins = {canonicalize_name(r.name): next(iter(r.specifier)).version for r, _ in locked("client")}
    for requirement in wanted:
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement
