"""A log on a full disk: what cannot be said must end no work."""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Callable
from typing import Any

import pytest
from ops import console
from triton_stack_client import progress as client_progress
from triton_stack_client.shadow import service

from builder import progress
from cluster.agent import run
from gateway import supervisor


class FullDisk(io.TextIOBase):
    """A log that takes nothing more."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "say",
    [progress.say, console.progress, client_progress.say, run.say, supervisor._say, service._say],
    ids=["builder", "scripts", "client", "agent", "gateway", "shadow"],
)
def test_a_line_that_cannot_be_written_is_left_out(
    say: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for stream in ("stderr", "stdout"):
        monkeypatch.setattr(sys, stream, FullDisk())
    with pytest.raises(OSError, match="No space left"):
        print("a plain print ends its program", file=sys.stderr)
    say("a line")
