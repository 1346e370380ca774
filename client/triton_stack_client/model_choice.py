"""Which model a command works on when none is named: the only live one. The scripts use the same words."""

from __future__ import annotations

from triton_stack_client.errors import ClientError


def only(live: list[str]) -> str:
    """The one model that is live; raises ClientError where several are."""
    if len(live) > 1:
        raise ClientError(
            f"{len(live)} models are live and none was named",
            expected=f"one of: {', '.join(live)}",
            remedy=f"--model {live[0]}",
        )
    return live[0]
