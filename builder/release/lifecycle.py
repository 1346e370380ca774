"""Which release is live, and how sure we are of it.

A release goes live *pending*: the flip is made, the server has not proven it yet. Whoever drives the change
then confirms it, or reverts it, which flips back and marks the release failed. The mark of a pending change
lies on the volume before the flip, so that a driver that dies leaves behind what the next one must settle.

    releases/<model>/.pending      {"version", "previous", "since", "by"}
    releases/<model>/.history      the proven releases in the order they went live
    releases/<model>/<N>/failed.json   beside the manifest: why this release never goes live again
"""

from __future__ import annotations

import contextlib
import shutil
from typing import Any, Dict, List, Optional

from builder.errors import ReleaseError
from builder.release import manifest
from builder.release.store import Store, now
from models_volume.layout import FAILED as _FAILED
from models_volume.layout import PENDING


def activate(
    store: Store,
    model: str,
    version: int,
    *,
    pending: bool = False,
    force: bool = False,
    engine: Optional[Dict[str, Any]] = None,
) -> Optional[int]:
    """Make a release live; returns the release to go back to, None when there is none.

    Args:
        pending: the server has yet to prove it; ``confirm`` or ``revert`` must follow.
        force: even when the release is marked failed.
        engine: the identity of the engine that will serve it, to refuse a plan it cannot load.

    Raises:
        ReleaseError: it is missing, damaged, failed, or made for another engine or GPU.
    """
    if version not in store.versions(model):
        known = ", ".join(map(str, store.versions(model))) or "none"
        raise ReleaseError(f"{model} has no release {version}", expected=f"one of: {known}")
    why = failure(store, model, version)
    if why is not None and not force:
        raise ReleaseError(
            f"{model} release {version} failed before: {why.get('reason', '')}",
            remedy="build it again, or --force if the cause was elsewhere",
        )
    if engine is not None:
        _compatible(store, model, version, engine)
    previous = last_proven(store, model)
    if previous == version:
        previous = predecessor(store, model)
    if pending:
        mark = {"version": version, "previous": previous, "since": now()}
        store.write_json(_pending_file(store, model), mark)
    if force:
        with contextlib.suppress(FileNotFoundError):
            (store.folder(model, version) / _FAILED).unlink()
    store.activate(model, version)
    if not pending:
        _settle(store, model, version)
    return previous


def _compatible(store: Store, model: str, version: int, engine: Dict[str, Any]) -> None:
    """A plan loads only in the TensorRT version and on the kind of GPU that built it."""
    made = store.manifest(model, version).get("engine", {})
    rebuild = f"build it for this machine: ./scripts/redeploy --force --model {model}"
    if made.get("name") != engine["name"]:
        raise ReleaseError(
            f"{model} release {version} is for {made.get('name')}, this stack serves {engine['name']}",
            remedy=rebuild,
        )
    if engine["name"] != "tensorrt":
        return  # an ONNX file is bound to no version and no processor
    theirs, ours = made.get("gpu") or {}, engine.get("gpu") or {}
    checks = [("TensorRT", made.get("version"), engine.get("version"))]
    if ours:
        checks += [
            (what, theirs.get(key), ours.get(key))
            for what, key in (("GPU", "name"), ("compute capability", "compute_capability"))
        ]
    for what, found, wanted in checks:
        if found != wanted:
            raise ReleaseError(
                f"{model} release {version} was built for {what} {found}; here it is {wanted}", remedy=rebuild
            )


def confirm(store: Store, model: str) -> int:
    """The pending release is proven; returns its number.

    Raises:
        ReleaseError: nothing is pending, or it is marked failed (somebody died while going back).
    """
    mark = pending(store, model)
    if mark is None:
        raise ReleaseError(f"{model}: no change is pending", remedy="./scripts/status")
    version = int(mark["version"])
    if failure(store, model, version) is not None:
        raise ReleaseError(
            f"{model} release {version} is marked failed", remedy="./scripts/redeploy goes back"
        )
    _settle(store, model, version)
    store.audit("confirm", model=model, version=version)
    return version


def revert(store: Store, model: str, reason: str) -> Optional[int]:
    """Mark the pending release failed and go back; returns what is live now, None for nothing.

    In that order: a driver that dies in between leaves a failed release live and pending, which the next
    one reverts; the other way round it would leave no trace of the failure.

    Raises:
        ReleaseError: nothing is pending.
    """
    mark = pending(store, model)
    if mark is None:
        raise ReleaseError(f"{model}: no change is pending", remedy="./scripts/status")
    version, previous = int(mark["version"]), mark.get("previous")
    if version in store.versions(model):
        with contextlib.suppress(OSError):  # a full disk must not keep the old release from coming back
            store.write_json(store.folder(model, version) / _FAILED, {"reason": reason, "since": now()})
    if store.live(model) == version:
        if previous is not None:
            store.activate(model, int(previous))
        else:
            store.deactivate(model)
    _forget_pending(store, model)
    store.audit("revert", model=model, version=version, to=previous, reason=reason)
    return store.live(model)


def pending(store: Store, model: str) -> Optional[Dict[str, Any]]:
    """The change that nobody has settled: {"version", "previous", "since"}; None without one.

    A mark whose release is not the live one belongs to a driver that died before its flip, or after it
    flipped back: there is nothing to settle.
    """
    mark = store.read_json(_pending_file(store, model))
    if not isinstance(mark, dict) or store.live(model) != mark.get("version"):
        return None
    return mark


def failure(store: Store, model: str, version: int) -> Optional[Dict[str, Any]]:
    """Why a release is marked failed: {"reason", "since"}; None when it is not."""
    data = store.read_json(store.folder(model, version) / _FAILED)
    return data if isinstance(data, dict) else None


def history(store: Store, model: str) -> List[int]:
    """The proven releases that still exist, in the order they last went live."""
    data = store.read_json(store.root / "releases" / model / ".history")
    versions = store.versions(model)
    return [v for v in data if v in versions] if isinstance(data, list) else []


def last_proven(store: Store, model: str) -> Optional[int]:
    """The release to go back to if what is tried now fails: the live one, or the one before a pending one."""
    mark = pending(store, model)
    if mark is not None:
        previous = mark.get("previous")
        return int(previous) if previous is not None else None
    return store.live(model)


def predecessor(store: Store, model: str) -> Optional[int]:
    """The proven release before the live one: where a rollback goes."""
    live = store.live(model)
    before = [v for v in history(store, model) if v != live and failure(store, model, v) is None]
    return before[-1] if before else None


def prune(store: Store, model: str, keep: int) -> List[int]:
    """Remove all but the newest ``keep`` releases; never the live one, its predecessor or a pending one.

    Returns the numbers removed. A release goes by one rename into staging first, so that none is ever
    seen half removed.
    """
    mark = store.read_json(_pending_file(store, model)) or {}
    kept = {store.live(model), predecessor(store, model), mark.get("version"), mark.get("previous")}
    versions = store.versions(model)
    gone = [v for v in versions[: max(0, len(versions) - keep)] if v not in kept]
    for version in gone:
        doomed = store.root / "staging" / f"pruned-{model}-{version}"
        store.folder(model, version).rename(doomed)
        store.audit("prune", model=model, version=version)
        shutil.rmtree(doomed)
    return gone


def state(store: Store, model: str, version: int) -> str:
    """One word for a release: "live", "pending", "failed", "previous" or "kept"."""
    if store.live(model) == version:
        return "pending" if pending(store, model) is not None else "live"
    if failure(store, model, version) is not None:
        return "failed"
    return "previous" if predecessor(store, model) == version else "kept"


def releases(store: Store, model: str) -> List[Dict[str, Any]]:
    """Each release's manifest with its state, what changed in the spec since the one before it, and where
    it is pending or failed, the release to go back to and the reason."""
    rows: List[Dict[str, Any]] = []
    for version in store.versions(model):
        try:
            data = store.manifest(model, version)
        except ReleaseError as e:
            raise ReleaseError(
                f"{model} release {version} cannot be read: {e.found}",
                remedy=f"move {store.folder(model, version)} away",
            ) from e
        row = {**data, "state": state(store, model, version), "live": store.live(model) == version}
        row["changes"] = manifest.changes(rows[-1]["spec"], data["spec"]) if rows else []
        if row["state"] == "pending":
            row["previous"] = (pending(store, model) or {}).get("previous")
        row["reason"] = (failure(store, model, version) or {}).get("reason", "")
        rows.append(row)
    return rows


def _settle(store: Store, model: str, version: int) -> None:
    """Write the release into the history and end the pending change."""
    proven = [v for v in history(store, model) if v != version]
    store.write_json(store.root / "releases" / model / ".history", [*proven, version])
    _forget_pending(store, model)


def _forget_pending(store: Store, model: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        _pending_file(store, model).unlink()


def _pending_file(store: Store, model: str) -> Any:
    return store.root / "releases" / model / PENDING
