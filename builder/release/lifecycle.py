"""The life of a model's releases: which one is live, and how sure we are of it.

A release goes live *pending*: the flip is made, the server has not proven it yet. Whoever drives the change
then confirms it, or reverts it, which flips back and marks the release failed. The mark of a pending change
lies on the volume before the flip, so that a driver that dies leaves behind what the next one must settle.

Going back needs no disk. All that it needs is made before the flip: the link to the release before, and
the mark, which becomes the failed release's ``failed.json`` by a rename.

    releases/<model>/.pending   {"version", "previous", "since"}
    releases/<model>/.back      the link that goes live if the change fails, or with the next rollback
    releases/<model>/.history   {"proven": [...], "rolled_back": [...]}; once it was the first list alone
    releases/<model>/<N>/failed.json   beside the manifest: why this release never goes live again
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from builder.errors import ReleaseError
from builder.release import manifest
from builder.release.store import Store, attempt, now
from models_volume import layout

_UNPROVEN = "it was not proven (why could not be written down)"


@dataclass(frozen=True)
class Reverted:
    """What going back came to.

    Attributes:
        version: the release that failed.
        live: the live release now; None for none.
        problems: what could not be done after the flip, a line each.
    """

    version: int
    live: Optional[int]
    problems: List[str]


class ModelReleases:
    """The releases of one model; changes are made under the store's lock."""

    def __init__(self, store: Store, model: str) -> None:
        self.store = store
        self.model = model
        folder = store.volume.of_model(model)
        self._pending_file = folder / layout.PENDING
        self._history_file = folder / layout.HISTORY

    @property
    def live(self) -> Optional[int]:
        """The live release's number; None when there is none."""
        return self.store.live(self.model)

    @property
    def versions(self) -> List[int]:
        """The numbers of the releases, ascending."""
        return self.store.versions(self.model)

    def words_of_live(self) -> str:
        """What is live, for an error's first line."""
        try:
            return "nothing" if self.live is None else f"release {self.live}"
        except OSError as e:
            return f"unknown ({_words(e)})"

    def activate(
        self,
        version: int,
        *,
        pending: bool = False,
        force: bool = False,
        anyway: bool = False,
        engine: Optional[Dict[str, Any]] = None,
    ) -> Optional[int]:
        """Make a release live; returns the release to go back to, None when there is none.

        Args:
            pending: the server has yet to prove it; ``confirm`` or ``revert`` must follow.
            force: even when the release is marked failed.
            anyway: where the disk is full, an older proven release goes live all the same: the flip alone,
                and not pending, since nothing can be written down.
            engine: the identity of the engine that will serve it, to refuse a plan it cannot load.

        Raises:
            ReleaseError: it is missing, damaged, failed, or made for another engine or GPU.
            OSError: the volume cannot be written; what was live is live.
        """
        self._allow(version, force=force, engine=engine)
        proven = self.last_proven()
        previous = proven if proven != version else self.predecessor()
        try:
            if pending:
                mark = {"version": version, "previous": previous, "since": now()}
                self.store.write_json(self._pending_file, mark)
            if previous is not None:
                self.store.prepare_back(self.model, previous)
            if force:
                with contextlib.suppress(FileNotFoundError):
                    self._failed_file(version).unlink()
            self.store.flip(self.model, version)
            if not pending:
                self._prove(version, previous)
        except OSError as e:
            # Perhaps it was flipped, and then the disk refused the rest: what fails must not stay. A pending
            # change goes back by ``revert``, which also marks it.
            with contextlib.suppress(OSError):
                if not pending and proven != version and self.live == version:
                    self.store.back(self.model, proven)
                if anyway and self._flipped_to_proven(version):
                    return previous
            raise ReleaseError(
                f"{self.model}: release {version} could not be made live: {_words(e)}; "
                f"live is {self.words_of_live()}",
                remedy="free space on the models volume, or make it writable, and run this again",
            ) from e
        if not pending:
            with contextlib.suppress(OSError):
                self._forget_pending()
        return previous

    def _flipped_to_proven(self, version: int) -> bool:
        """Make a release below the live one live by the flip alone, if it is proven; whether it was."""
        live = self.live
        if version not in self.history() or live is None or version >= live:
            return False
        self.store.back(self.model, version)
        attempt("", self._prove, version, live)
        return True

    def confirm(self) -> int:
        """The pending release is proven; returns its number.

        Raises:
            ReleaseError: nothing is pending, or it is marked failed (somebody died while going back).
        """
        mark = self._needs_pending()
        version = int(mark["version"])
        if self.failure(version) is not None:
            raise ReleaseError(
                f"{self.model} release {version} is marked failed", remedy="./scripts/redeploy goes back"
            )
        self._prove(version, mark.get("previous"))
        self._forget_pending()
        # It is proven all the same where this fails.
        attempt("", self.store.audit, "confirm", model=self.model, version=version)
        return version

    def revert(self, reason: str) -> Reverted:
        """Go back from the pending release, and mark it failed: the flip first, then what else can be done.

        Raises:
            ReleaseError: nothing is pending; or the link cannot be replaced, with what is live now.
        """
        mark = self._needs_pending()
        version = int(mark["version"])
        target = self._where_to(mark)
        try:
            problems = self.store.back(self.model, target)
        except OSError as e:
            raise ReleaseError(
                f"{self.model}: release {version} is still live, and not proven: {_words(e)}",
                expected=f"{self.store.volume.repository} to be writable: going back is one rename in it",
                remedy="make the models volume writable, then ./scripts/redeploy goes back to "
                f"{'nothing' if target is None else f'release {target}'}",
            ) from e
        problems += attempt(f"release {version} is not marked failed", self._fail, version, reason)
        problems += attempt(
            f"{self.store.volume.audit_log} lacks a line",
            self.store.audit, "revert", model=self.model, version=version, to=target, reason=reason,
        )  # fmt: skip
        return Reverted(version, target, problems)

    def retire(self) -> Optional[int]:
        """Take the model off the server; its releases and their history stay. Returns what was live.

        Raises:
            ReleaseError: there is no such model, or the link cannot be removed, with what is live now.
        """
        version = self.live
        if version is None and not self.versions:
            raise ReleaseError(
                f"there is no model {self.model}", expected=", ".join(self.store.models()) or "none"
            )
        try:
            self.store.back(self.model, None)
        except OSError as e:
            raise ReleaseError(
                f"{self.model}: release {version} is still live: {_words(e)}",
                remedy="make the models volume writable",
            ) from e
        with contextlib.suppress(OSError):
            self._forget_pending()
        attempt("", self.store.audit, "retire", model=self.model, previous=version)
        return version

    def prune(self, keep: int) -> List[int]:
        """Remove all but the newest ``keep`` releases; never the live one, its predecessor or a pending one.

        Returns the numbers removed. A release goes by one rename into staging first, so that none is ever
        seen half removed. Works on a full disk.
        """
        mark = self.store.read_json(self._pending_file) or {}
        kept = {self.live, self.predecessor(), mark.get("version"), mark.get("previous")}
        versions = self.versions
        gone = [v for v in versions[: max(0, len(versions) - keep)] if v not in kept]
        for version in gone:
            doomed = self.store.volume.staging / f"pruned-{self.model}-{version}"
            if doomed.is_dir():  # half removed by one that died
                shutil.rmtree(doomed)
            self.store.folder(self.model, version).rename(doomed)
            shutil.rmtree(doomed)
            attempt("", self.store.audit, "prune", model=self.model, version=version)
        return gone

    def pending(self) -> Optional[Dict[str, Any]]:
        """The change that nobody has settled: {"version", "previous", "since"}; None without one.

        A mark whose release is not the live one belongs to a driver that died before its flip, or after it
        flipped back: there is nothing to settle.
        """
        mark = self.store.read_json(self._pending_file)
        if not isinstance(mark, dict) or self.live != mark.get("version"):
            return None
        return mark

    def failure(self, version: int) -> Optional[Dict[str, Any]]:
        """Why a release is marked failed: {"reason", "since"}; None when it is not."""
        data = self.store.read_json(self._failed_file(version))
        return {"reason": _UNPROVEN, **data} if isinstance(data, dict) else None

    def history(self) -> List[int]:
        """The proven releases that still exist, in the order they last went live."""
        versions = self.versions
        return [v for v in self._history()["proven"] if v in versions]

    def rolled_back(self) -> List[int]:
        """The proven releases that gave way to an older one, and have not been live again since."""
        return [v for v in self._history()["rolled_back"] if v != self.live]

    def last_proven(self) -> Optional[int]:
        """The release to go back to if what is tried now fails: the live one, or the one before a pending
        one."""
        mark = self.pending()
        if mark is not None:
            previous = mark.get("previous")
            return int(previous) if previous is not None else None
        return self.live

    def predecessor(self) -> Optional[int]:
        """Where a rollback goes: the newest proven release below the live one; the newest of all where the
        model is not live."""
        live = self.live
        below = [v for v in self.history() if live is None or v < live]
        return max((v for v in below if self.failure(v) is None), default=None)

    def state(self, version: int) -> str:
        """A word for a release: "live", "pending", "failed", "rolled back", "previous" or "kept"."""
        if self.live == version:
            return "pending" if self.pending() is not None else "live"
        if self.failure(version) is not None:
            return "failed"
        if version in self.rolled_back():
            return "rolled back"
        return "previous" if self.predecessor() == version else "kept"

    def rows(self) -> List[Dict[str, Any]]:
        """Each release's manifest with its state, what changed in the spec since the one before it, and
        where it is pending or failed, the release to go back to and the reason.

        A release whose manifest cannot be read has the state "unreadable" with the reason, and besides
        that its model, version and place, and whether it is live and pending.
        """
        rows: List[Dict[str, Any]] = []
        spec: Any = None
        for version in self.versions:
            row: Dict[str, Any] = {"model": self.model, "version": version, "live": self.live == version}
            try:
                data = self.store.manifest(self.model, version)
                row = {**data, **row, "state": self.state(version), "changes": []}
                row["reason"] = (self.failure(version) or {}).get("reason", "")
                if spec is not None:
                    row["changes"] = manifest.changes(spec, data["spec"])
                spec = data["spec"]
            except (ReleaseError, OSError, KeyError, TypeError) as e:
                folder = str(self.store.folder(self.model, version))
                row.update(state="unreadable", reason=str(e).splitlines()[0], folder=folder, changes=[])
            mark = self.pending() if row["live"] else None
            if mark is not None:
                row["previous"] = mark.get("previous")
            row["pending"] = mark is not None
            rows.append(row)
        return rows

    def _allow(self, version: int, *, force: bool, engine: Optional[Dict[str, Any]]) -> None:
        if version not in self.versions:
            known = ", ".join(map(str, self.versions)) or "none"
            raise ReleaseError(f"{self.model} has no release {version}", expected=f"one of: {known}")
        damage = self.store.damage(self.model, version)
        if damage:
            raise ReleaseError(
                f"{self.model} release {version} is damaged: {damage}", remedy="build it again"
            )
        why = self.failure(version)
        if why is not None and not force:
            raise ReleaseError(
                f"{self.model} release {version} failed before: {why['reason']}",
                remedy="build it again, or --force if the cause was elsewhere",
            )
        if engine is not None:
            self._compatible(version, engine)

    def _compatible(self, version: int, engine: Dict[str, Any]) -> None:
        """A plan loads only in the TensorRT version and on the kind of GPU that built it."""
        why = unfit(self.store.manifest(self.model, version).get("engine", {}), engine)
        if why:
            raise ReleaseError(
                f"{self.model} release {version} is {why}",
                remedy=f"build it for this machine: ./scripts/redeploy --force --model {self.model}",
            )

    def _needs_pending(self) -> Dict[str, Any]:
        try:
            mark = self.pending()
        except OSError as e:
            raise ReleaseError(
                f"{self.model}: live is {self.words_of_live()}; whether it is proven cannot be read: "
                f"{_words(e)}",
                remedy="make the models volume readable, and run this again",
            ) from e
        if mark is None:
            raise ReleaseError(f"{self.model}: no change is pending", remedy="./scripts/status")
        return mark

    def _where_to(self, mark: Dict[str, Any]) -> Optional[int]:
        """The release before the pending one; where that has gone, the newest proven one below."""
        with contextlib.suppress(OSError):
            if mark.get("previous") is not None and int(mark["previous"]) not in self.versions:
                return self.predecessor()
        return None if mark.get("previous") is None else int(mark["previous"])

    def _fail(self, version: int, reason: str) -> None:
        """Mark a release failed and end its change; the mark itself needs no space, the reason does."""
        if version not in self.versions:
            self._forget_pending()
            return
        self._pending_file.replace(self._failed_file(version))
        self.store.write_json(self._failed_file(version), {"reason": reason, "since": now()})

    def _prove(self, version: int, previous: Optional[int]) -> None:
        """Write the release into the history; one that gives way to an older one is rolled back."""
        data = self._history()
        proven = [*(v for v in data["proven"] if v != version), version]
        away = [v for v in data["rolled_back"] if v != version]
        if previous is not None and version < previous and previous not in away:
            away.append(previous)
        self.store.write_json(self._history_file, {"proven": proven, "rolled_back": away})

    def _history(self) -> Dict[str, List[int]]:
        data = self.store.read_json(self._history_file)
        data = {"proven": data} if isinstance(data, list) else data if isinstance(data, dict) else {}
        return {key: list(data.get(key) or []) for key in ("proven", "rolled_back")}

    def _forget_pending(self) -> None:
        """End the pending change, and lay ready what a rollback needs, while the disk takes it."""
        with contextlib.suppress(FileNotFoundError):
            self._pending_file.unlink()
        with contextlib.suppress(OSError):
            before = self.predecessor()
            if before is not None:
                self.store.prepare_back(self.model, before)

    def _failed_file(self, version: int) -> Path:
        return self.store.folder(self.model, version) / layout.FAILED


def unfit(made: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Why an engine cannot be loaded on this machine; empty when it can.

    Args:
        made: a manifest's ``engine``.
        here: the identity of the engine that serves here.
    """
    if made.get("name") != here["name"]:
        return f"for {made.get('name')}; this stack serves {here['name']}"
    if here["name"] != "tensorrt":
        return ""  # an ONNX file is bound to no version and no processor
    theirs, ours = made.get("gpu") or {}, here.get("gpu") or {}
    checks = [("TensorRT", made.get("version"), here.get("version"))]
    if ours:
        checks += [
            (what, theirs.get(key), ours.get(key))
            for what, key in (("GPU", "name"), ("compute capability", "compute_capability"))
        ]
    for what, found, wanted in checks:
        if wanted is not None and found != wanted:  # an old driver does not tell the capability
            return f"built for {what} {found}; here it is {wanted}"
    return ""


def _words(e: OSError) -> str:
    return f"{e.strerror or e}" + (f" ({e.filename})" if e.filename else "")
