"""Bring a rollout to its end: look at the nodes, decide, write, and look again.

It holds no state that matters: whatever moment it dies at, the document says how far the rollout has come,
the nodes keep to it by themselves, and the next driver goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from cluster.errors import ClusterError
from cluster.rollout import document as documents
from cluster.rollout.decide import Decision, Limits, Times, decide
from cluster.rollout.lease import BEAT_SECS, Lease
from cluster.rollout.views import PREFIX, Watch
from cluster.state.store import Document, StateStore

TAG = "rollout"
LOOK_SECS = 2.0  # between two looks at the nodes whose turn it is
_ALL_SECS = 15.0  # between two looks at all others; more where they are many
_A_NODE = 0.03  # seconds that one of them adds: 1,000 nodes are asked about 33 times a second in all
_AGAIN = 10.0  # between two decisions without any news: limits run out
_NEWS = 60.0  # between two words on what is waited for
T = TypeVar("T")


class Driver:
    """Drives the rollout of one model.

    Args:
        promote: moves the tag live to a digest.
        clock, sleep: seconds that never go back.
        say: a line for people.
        report_secs: how often a node reports at least.
        node_secs: how long one node may take.
    """

    def __init__(
        self,
        store: StateStore,
        repo: str,
        promote: Callable[[str], object],
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        say: Callable[[str], None],
        report_secs: float = 30.0,
        node_secs: float = 1800.0,
    ) -> None:
        self._store, self._repo, self._promote = store, repo, promote
        self._clock, self._sleep, self._say = clock, sleep, say
        self._limits = Limits.of(report_secs, node_secs)
        self._watch = Watch()
        self._report_secs = report_secs
        self._digest = ""  # of the document, as it was last read or written
        self._away = False
        self._all_due = 0.0
        self.lease = Lease(store, repo, clock, sleep)

    def nodes(self, patience: float | None = None) -> tuple[list[str], list[str]]:
        """The nodes that are there, by name, and those of which only an old report is: a report that does not
        change for ``patience`` seconds is an old one."""
        began = self._clock()
        known = self._patiently(self._tags)
        self._read(known)
        end = began + (self._limits.away_secs if patience is None else patience)
        while True:
            heard = self._watch.heard(known, began)
            if len(heard) == len(known) or self._clock() >= end:
                return sorted(heard), sorted(set(known) - set(heard))
            self._sleep(LOOK_SECS)
            self._read([n for n in known if n not in heard])

    def run(self, document: Document) -> Document:
        """Drive it until it has ended or is paused; the last document.

        Raises:
            ClusterError: another driver holds the lease, or somebody has begun another rollout.
        """
        began = since = told = decided = self._clock()
        beaten = began - BEAT_SECS
        waits: tuple[str, ...] = ()
        self._watch.news = True
        while document["state"] in (documents.RUNNING, documents.GOING_BACK):
            if self._clock() - beaten >= BEAT_SECS:
                self._patiently(self.lease.beat)
                beaten = self._clock()
            found = self._patiently(lambda: self._changed(document["id"]))  # noqa: B023  (called at once)
            if found is not None:  # an operator has paused it, say
                self._tell(document, found)
                document, since, self._watch.news = found, self._clock(), True
                continue
            self._look(document)
            now = self._clock()
            if self._watch.news or now - decided >= _AGAIN:
                self._watch.news, decided = False, now
                views = self._watch.views(document, now, began)
                decision = decide(document, views, Times(now, since), self._limits)
                if decision.document is not None:
                    self._patiently(lambda: self._carry_out(decision))  # noqa: B023  (called at once)
                    self._tell(document, decision.document)
                    document, since, self._watch.news = decision.document, self._clock(), True
                    continue
                if decision.waits != waits or now - told > _NEWS:
                    waits, told = decision.waits, now
                    self._say(f"{document['state']}: waiting for {_few(waits)}")
            self._sleep(LOOK_SECS)
        return document

    def current(self, wanted: str = "") -> Document:
        """The document as it is; raises ClusterError where there is none, where it cannot be used, or where
        it is another rollout's than ``wanted``."""
        try:
            found = self._store.read(self._repo, TAG)
        except ValueError as e:
            raise ClusterError(
                f"the rollout document cannot be read: {e}", remedy="begin another rollout"
            ) from e
        if found is None:
            raise ClusterError(f"there is no rollout of {self._repo}", remedy="begin one: --to N")
        why = documents.problem(found[1])
        if why:
            raise ClusterError(f"the rollout document cannot be used: {why}", remedy="begin another rollout")
        if wanted and found[1]["id"] != wanted:
            raise ClusterError(
                f"somebody has begun another rollout of {self._repo}; this driver has stopped",
                remedy="--status shows it",
            )
        self._digest = found[0]
        return found[1]

    def _changed(self, wanted: str) -> Document | None:
        """The document where somebody else has written it; raises ClusterError as ``current``."""
        return None if self._store.digest(self._repo, TAG) == self._digest else self.current(wanted)

    def write(self, document: Document) -> None:
        """Put a document in the place of the one before."""
        self._digest = self._patiently(lambda: self._store.write(self._repo, TAG, document))

    def report(self, node: str) -> Document:
        """A node's last report."""
        return self._watch.report(node)

    def _carry_out(self, decision: Decision) -> None:
        assert decision.document is not None
        self.lease.beat()  # nobody else drives it now
        if decision.promote:
            self._promote(decision.document["target"])
        self._digest = self._store.write(self._repo, TAG, decision.document)

    def _look(self, document: Document) -> None:
        now = self._clock()
        everybody = now >= self._all_due
        if everybody:
            self._all_due = now + max(min(_ALL_SECS, self._report_secs), _A_NODE * len(document["order"]))
        latest = max(document["at_once"], document["canary"])
        nodes = document["order"] if everybody else document["allowed"][-latest:]
        self._patiently(lambda: self._read(nodes))

    def _read(self, nodes: list[str]) -> None:
        for node in nodes:
            try:
                found = self._store.read(self._repo, PREFIX + node)
            except ValueError:
                continue  # no report: as one that has not been heard of
            if found is not None:
                self._watch.seen(node, *found, self._clock())

    def _tags(self) -> list[str]:
        return [tag.removeprefix(PREFIX) for tag in self._store.tags(self._repo, PREFIX)]

    def _patiently(self, act: Callable[[], T]) -> T:
        """Do it; while the registry does not answer, say so once and try again: the nodes serve meanwhile."""
        while True:
            try:
                done = act()
            except Exception as e:
                if getattr(e, "kind", "") != "unreachable":
                    raise
                if not self._away:
                    self._say(f"the registry does not answer: {e}; the nodes serve on, and this waits for it")
                self._away = True
                self._sleep(LOOK_SECS)
            else:
                if self._away:
                    self._say("the registry is back")
                self._away = False
                return done

    def _tell(self, before: Document, after: Document) -> None:
        known = len([e for e in after["log"] if e in before["log"]])
        for entry in after["log"][known:]:
            place = f"{len(after['allowed'])} of {len(after['order'])}"
            self._say(f"[{place}] {entry['what']}")


def _few(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:5]) or "nobody"
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
