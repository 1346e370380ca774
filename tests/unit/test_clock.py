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
from triton_stack_client.verify import readiness

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
    wire = SimpleNamespace(ready=lambda *_: False, index=list)
    release = SimpleNamespace(model="m", version=7)
    with pytest.raises(ServerError, match="not ready within"):
        readiness._wait(wire, release, 0.5, "")  # type: ignore[arg-type]
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 4
    assert "m: version 7 is not there yet after 0 s of at most" in lines[0]
