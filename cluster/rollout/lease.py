"""One driver at a time: a document, tag ``lease``, whose beat its holder moves on.

A registry has no compare-and-swap. So a lease is written, left alone for a moment, and read back: of two who
write at once the last one holds it, and the other one finds that out before its next change. A holder that
died is known by a beat that does not move, by the watcher's own clock.
"""

from __future__ import annotations

import getpass
import os
import socket
import uuid
from collections.abc import Callable

from cluster.errors import ClusterError
from cluster.state.store import Document, StateStore

TAG = "lease"
BEAT_SECS = 5.0  # between two beats
STALE_SECS = 20.0  # a beat that has not moved for so long belongs to nobody
_SETTLE_SECS = 1.0  # between writing and reading back


class HeldError(ClusterError):
    """Another driver holds the lease, and is alive."""


class LostLeaseError(ClusterError):
    """Another driver holds the lease now."""


class Lease:
    """The lease of a model's repository."""

    def __init__(
        self, store: StateStore, repo: str, clock: Callable[[], float], sleep: Callable[[float], None]
    ) -> None:
        self._store, self._repo, self._clock, self._sleep = store, repo, clock, sleep
        self._me = uuid.uuid4().hex
        self._beat = 0

    def take(self, say: Callable[[str], None]) -> None:
        """Hold it; raises HeldError where somebody else does and is alive."""
        held = self._read()
        if held is not None:
            say(f"a driver may be at work already: {_who(held)}; watching it for {STALE_SECS:.0f} s")
            end = self._clock() + STALE_SECS
            while self._clock() < end:
                self._sleep(1.0)
                now = self._read()
                if now is None:
                    break
                if (now.get("holder"), now.get("beat")) != (held.get("holder"), held.get("beat")):
                    raise HeldError(
                        f"a rollout of this model is driven by {_who(now)}",
                        remedy="wait for it, or tell it what to do: --pause, --back",
                    )
        self.beat(check=False)
        self._sleep(_SETTLE_SECS)
        self._mine()

    def beat(self, *, check: bool = True) -> None:
        """Say that the holder lives; raises LostLeaseError where another one holds it."""
        if check:
            self._mine()
        self._beat += 1
        who = f"{_user()}@{socket.gethostname()} process {os.getpid()}"
        self._store.write(self._repo, TAG, {"holder": self._me, "who": who, "beat": self._beat})

    def release(self) -> None:
        """Leave it to others, where it is ours."""
        held = self._read()
        if held is not None and held.get("holder") == self._me:
            self._store.write(self._repo, TAG, {"holder": "", "who": "", "beat": self._beat + 1})

    def _mine(self) -> None:
        held = self._read()
        if held is None or held.get("holder") != self._me:
            raise LostLeaseError(
                f"the rollout is driven by {_who(held or {})} now; this driver has stopped",
                remedy="nothing is lost: the nodes go on, and the other driver brings it to its end",
            )

    def _read(self) -> Document | None:
        """Who holds it; None where nobody does, or where nobody can read what is there."""
        try:
            found = self._store.read(self._repo, TAG)
        except ValueError:
            return None
        return found[1] if found is not None and found[1].get("holder") else None


def _who(held: Document) -> str:
    return str(held.get("who") or "somebody")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
