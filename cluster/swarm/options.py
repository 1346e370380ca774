"""What a stack file depends on besides the Compose files, and what can be wrong with them."""

from __future__ import annotations

from dataclasses import dataclass

INGRESS, HOST = "ingress", "host"


class StackError(Exception):
    """No stack can be made of what was given; ``found`` says why, ``remedy`` what to do."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(found)
        self.found = found
        self.remedy = remedy


@dataclass(frozen=True)
class Options:
    """How to make a stack.

    Attributes:
        registry: host[:port][/path] that every node takes our images from.
        tag: of our images; empty: the tag that each has in the Compose files, or "latest".
        ports: INGRESS (any node's address leads to a gateway; needs IPVS in every node's kernel and hides the
            client's address) or HOST (a gateway on every node, at that node's address alone).
    """

    registry: str
    tag: str = ""
    ports: str = INGRESS
