"""What a program in a container has said."""

from __future__ import annotations

from typing import Any

import pytest
from ops.runtimes.docker import sdk

Answer = tuple[int, tuple[bytes | None, bytes | None]]


class Container:
    """A container whose programs end with these answers, one after the other."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)

    def exec_run(self, argv: list[str], **options: Any) -> Answer:
        assert (argv, options) == (["python3"], {"workdir": "/opt", "demux": True})
        return self.answers.pop(0)


LOST: Answer = (0, (None, None))


@pytest.mark.parametrize(
    ("answers", "told", "left"),
    [
        ([(0, (b"{}", b"so"))], (0, "{}", "so"), 0),
        ([LOST, LOST, (0, (b"{}", None))], (0, "{}", ""), 0),
        ([LOST, LOST, LOST, (0, (b"late", None))], (0, "", ""), 1),
        ([(1, (None, b"no")), LOST], (1, "", "no"), 1),
    ],
)
def test_an_answer_that_was_lost_is_asked_for_again(
    answers: list[Answer], told: tuple[int, str, str], left: int
) -> None:
    container = Container(*answers)
    assert sdk.said(container, ["python3"], workdir="/opt") == told
    assert len(container.answers) == left
