"""One clock: the lines of one command count from one start, in one style, whoever prints them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from ops import console
from ops.settings import load
from support.stack import PACKAGES, ROOT
from triton_stack_client.errors import ServerError
from triton_stack_client.verify import readiness, report
from triton_stack_client.verify.report import Finding

from builder import progress

SAY = {
    "builder": "from builder import progress; progress.say('hello')",
    "client": "from triton_stack_client import progress; progress.say('hello')",
    "scripts": "from ops import console; console.progress('hello')",
}


def line(part: str, **environ: str) -> str:
    path = os.pathsep.join([PACKAGES, str(ROOT / "scripts")])
    done = subprocess.run(
        [sys.executable, "-c", SAY[part]], env={**os.environ, "PYTHONPATH": path, **environ},
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    return done.stderr


@pytest.mark.parametrize("part", SAY)
def test_every_part_prints_the_same_line(part: str) -> None:
    assert re.fullmatch(r"\[   [01]\.\ds\] hello\n", line(part, STACK_STARTED=""))


@pytest.mark.parametrize("part", ["builder", "client"])
def test_what_a_command_starts_counts_from_the_command_s_start(part: str) -> None:
    text = line(part, STACK_STARTED=str(time.time() - 1000))
    found = re.fullmatch(r"\[(1\d{3}\.\d)s\] hello\n", text)
    assert found, text
    assert 1000 <= float(found.group(1)) < 1030


@pytest.mark.parametrize("part", ["builder", "client"])
@pytest.mark.parametrize("wrong", ["soon", "nan", "inf", "-inf", "9e99", "0"])
def test_a_start_that_cannot_be_is_not_counted_from(part: str, wrong: str) -> None:
    assert re.fullmatch(r"\[   [01]\.\ds\] hello\n", line(part, STACK_STARTED=wrong))


def test_children_get_the_start() -> None:
    handed = float(load({}).environment()[console.STARTED])
    assert 0 <= time.time() - handed < 7 * 86400


def test_a_wait_for_the_poll_says_that_it_waits_and_for_how_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(readiness, "_NEWS", 0.15)
    connection = SimpleNamespace(ready=lambda *_: False, index=list)
    release = SimpleNamespace(model="m", version=7)
    with pytest.raises(ServerError, match="not ready within"):
        readiness._wait(connection, release, 0.5, "")  # type: ignore[arg-type]
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 4
    assert "m: version 7 is not there yet after 0 s of at most" in lines[0]


def steps(details: str, *, fails: bool) -> list[str]:
    """What a builder says that has a step and some news."""
    code = (
        "from builder import cli, errors, progress\n"
        "def work(_args):\n"
        "    progress.say('news')\n"
        "    with progress.step('a step'): pass\n"
        + ("    raise errors.EngineError('no engine')\n" if fails else "")
        + "cli._releases = work\ncli.main(['releases'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": PACKAGES, "STACK_DETAILS": details},
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    return [re.sub(r"^\[.*?\] ", "", line) for line in done.stderr.splitlines()]


def test_hidden_details_are_shown_when_the_command_fails() -> None:
    everything = ["news", "a step ...", "a step: done in 0.0 s"]
    assert steps("", fails=False) == everything
    assert steps("hidden", fails=False) == ["news"]
    assert steps("hidden", fails=True) == [*everything, "error: no engine"]


def test_a_hidden_detail_is_shown_as_a_sign_of_life(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STACK_DETAILS", "hidden")
    monkeypatch.setattr(progress, "_shown", time.monotonic() - 11)
    monkeypatch.setattr(progress, "_hidden", [])
    progress.detail("one")
    progress.detail("two")
    said = capsys.readouterr().err
    assert "one" in said
    assert "two" not in said


def test_a_summary_has_a_line_a_model_and_every_line_of_one_that_failed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    checks = [("a", True), ("a", True), ("long", True), ("b", True), ("b", False)]
    report.print_summary([Finding(model, "check", ok, "detail") for model, ok in checks])
    assert capsys.readouterr().out.splitlines() == [
        "ok   a     2 checks",
        "ok   long  1 checks",
        "b",
        "  ok   check  detail",
        "  FAIL check  detail",
    ]
