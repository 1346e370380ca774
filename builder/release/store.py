"""The release store on the models volume: staged, fsynced, renamed, then one symlink replaced.

Where things lie is models_volume.layout's to say; this writes there. Whatever moment a process dies at,
``repository/<model>`` resolves to a complete release or was never there: a release appears by one
rename(2), and goes live by another.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import json
import os
import shutil
import socket
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, TextIO

from builder import hashing
from builder.errors import LockedError, ReleaseError
from models_volume import layout
from models_volume import manifest as manifests
from models_volume.errors import VolumeError

_COUNTER = ".last"


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


class Store:
    """A models volume.

    Args:
        root: its folder; made, with what belongs in it, when missing.
        make: False leaves the volume as it is, for reading and for going back, which need neither space
            nor permission for anything else.

    Raises:
        ReleaseError: it cannot be made or written.
    """

    def __init__(self, root: Path, *, make: bool = True) -> None:
        self.root = root.resolve()
        self.volume = layout.Volume(self.root)
        if not make:
            return
        try:
            for name in layout.FOLDERS:
                (self.root / name).mkdir(parents=True, exist_ok=True)
            _fsync(self.root)
        except OSError as e:
            raise ReleaseError(
                f"{self.root}: the models volume cannot be written: {e.strerror} ({e.filename})",
                expected=f"a folder that user {os.getuid()} may write",
                remedy="set MODELS_DIR to one, or give this one to that user (chown)",
            ) from e

    @property
    def cache(self) -> Path:
        """Exports, by key, and TensorRT's timings; may be deleted at any time."""
        return self.volume.cache

    @contextlib.contextmanager
    def lock(self, what: str, *, needed: bool = True) -> Iterator[None]:
        """Hold the volume's lock: one change at a time.

        It is the kernel's lock on an open file, so it ends with its holder, however that one dies.

        Args:
            needed: False goes on without it where its file cannot be opened: a full disk or a folder that
                may not be written must not keep anybody from going back.

        Raises:
            LockedError: someone else holds it; the message names them.
        """
        try:
            f = (self.root / "lock" / "change").open("a+", encoding="utf-8")
        except OSError:
            if needed:
                raise
            yield
            return
        with contextlib.closing(f):
            self._take(f, what)
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    f.truncate(0)

    def _take(self, f: TextIO, what: str) -> None:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            f.seek(0)
            holder = f.read().strip() or "somebody who has not said who they are"
            raise LockedError(
                f"{self.root}: another change is under way: {holder}",
                remedy="wait for it to end, and run this again",
            ) from e
        # Who holds it is a courtesy to the others. Unbuffered: nothing is left to fail when it is closed.
        line = f"{what} by {_user()}@{socket.gethostname()} process {os.getpid()} since {now()}\n"
        with contextlib.suppress(OSError):
            os.ftruncate(f.fileno(), 0)
            os.write(f.fileno(), line.encode())

    def stage(self, model: str) -> Path:
        """A new empty staging folder; under the lock, since it first removes what dead builds left."""
        staging = self.volume.staging
        for left in staging.iterdir():
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()
        folder = staging / f"{model}-{os.getpid()}"
        folder.mkdir()
        return folder

    def next_version(self, model: str) -> int:
        """One more than the largest number ever used for this model, pruned ones included."""
        counter = self.volume.of_model(model) / _COUNTER
        text = counter.read_text("ascii") if counter.exists() else ""
        return max([int(text) if text.strip().isdigit() else 0, *self.versions(model)]) + 1

    def publish(self, staged: Path, model: str, version: int) -> Path:
        """Make ``staged`` release ``version``: fsync all of it, then one rename. Not live yet."""
        folder = self.volume.of_model(model)
        folder.mkdir(exist_ok=True)
        # First, so that the number stays used even if this release is pruned one day.
        _replace_text(folder / _COUNTER, str(version))
        for path in [*staged.rglob("*"), staged]:
            _fsync(path)
        target = folder / str(version)
        try:
            staged.rename(target)
        except OSError as e:
            raise ReleaseError(f"{target}: cannot be published: {e.strerror}") from e
        _fsync(folder)
        _fsync(folder.parent)
        return target

    def activate(self, model: str, version: int) -> None:
        """Make a release live: one atomic symlink replacement, seen by Triton at its next poll.

        Raises:
            ReleaseError: there is no such release, or its files are not those of its manifest.
        """
        if version not in self.versions(model):
            known = ", ".join(map(str, self.versions(model))) or "none"
            raise ReleaseError(f"{model} has no release {version}", expected=f"one of: {known}")
        damage = self.damage(model, version)
        if damage:
            raise ReleaseError(f"{model} release {version} is damaged: {damage}", remedy="build it again")
        self.flip(model, version)

    def flip(self, model: str, version: int) -> None:
        """Make a release live that is there and whole; an OSError may come before the flip or after it."""
        before = self.live(model)
        self._freshen(model, version, self._newest(model))
        # Not in the repository: Triton takes every entry there for a model.
        fresh = self._new_link(model, version)
        # Before the flip: on a full disk this fails, and nothing has changed yet.
        self.audit("activate", model=model, version=version, previous=before)
        fresh.replace(self.volume.link(model))
        _fsync(self.volume.repository)

    def prepare_back(self, model: str, version: int) -> None:
        """Lay the link for ``back`` beside the releases, so that going back needs no new file."""
        ready = self._ready_link(model)
        if self.volume.names(ready) != version:
            self._new_link(model, version).replace(ready)
            _fsync(ready.parent)

    def back(self, model: str, version: Optional[int]) -> List[str]:
        """Make an older release live whatever else is wrong: the flip first, everything else after it.

        Needs no space where ``prepare_back`` was called; the release's files are not looked at. ``version``
        None takes the model off the server.

        Returns:
            What went wrong after the flip, a line each.

        Raises:
            OSError: no rename is possible; nothing has changed.
        """
        newest = None
        with contextlib.suppress(OSError):
            newest = self._newest(model)  # while the bad release is still behind the link
        link = self.volume.link(model)
        if version is None:
            with contextlib.suppress(FileNotFoundError):
                link.unlink()
        else:
            try:
                self._back_link(model, version).replace(link)
            except OSError:
                self._new_link(model, version).replace(link)
        problems = attempt(f"{self.volume.repository} may not be on disk yet", _fsync, self.volume.repository)
        if version is not None:
            problems += attempt(
                f"release {version} could not be made newer: Triton may not see it before a restart",
                self._freshen, model, version, newest,
            )  # fmt: skip
        return problems

    def _back_link(self, model: str, version: int) -> Path:
        """A link to the release, ready to be renamed: the one laid in advance, or a new one."""
        ready = self._ready_link(model)
        with contextlib.suppress(OSError):
            if self.volume.names(ready) == version:
                return ready
        return self._new_link(model, version)

    def _ready_link(self, model: str) -> Path:
        return self.volume.of_model(model) / layout.BACK

    def _new_link(self, model: str, version: int) -> Path:
        fresh = self.volume.staging / f".link-{model}-{os.getpid()}"
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        fresh.symlink_to(layout.link_target(model, version))
        return fresh

    def _newest(self, model: str) -> Optional[int]:
        """The newest mtime (ns) under the live release of a model; None without one."""
        live = self.volume.link(model)
        return max(p.stat().st_mtime_ns for p in [live, *live.rglob("*")]) if live.exists() else None

    def _freshen(self, model: str, version: int, newest: Optional[int]) -> None:
        """Triton reloads only when the newest mtime under the model's folder grew: an older release, or
        one restored by `cp -a`, must become newer than the live one, even if that lies in the future."""
        stamp = max(time.time_ns(), 0 if newest is None else newest + 1_000_000)
        folder = self.folder(model, version) / "model"
        for path in [*folder.rglob("*"), folder]:
            os.utime(path, ns=(stamp, stamp))

    def live(self, model: str) -> Optional[int]:
        """The live release's number; None when there is none."""
        return self.volume.live(model)

    def models(self) -> List[str]:
        """Every model that has releases."""
        return self.volume.models()

    def versions(self, model: str) -> List[int]:
        """The releases of a model, ascending."""
        return self.volume.versions(model)

    def manifest(self, model: str, version: int) -> Dict[str, Any]:
        """A release's manifest; raises ReleaseError when it cannot be read."""
        try:
            return manifests.load(self.folder(model, version) / layout.MANIFEST)
        except VolumeError as e:
            raise ReleaseError(str(e)) from e

    def folder(self, model: str, version: int) -> Path:
        """Where a release lies."""
        return self.volume.release(model, version)

    def read_json(self, path: Path) -> Any:
        """A JSON file of ours; None where it is missing or was cut short."""
        try:
            return json.loads(path.read_text("utf-8"))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None

    def write_json(self, path: Path, data: Any) -> None:
        """Replace a JSON file in one step, on disk when this returns."""
        _replace_text(path, json.dumps(data, indent=2) + "\n")

    def damage(self, model: str, version: int) -> str:
        """What is wrong with a release's files, measured against its manifest; empty when nothing is."""
        folder = self.folder(model, version)
        try:
            wanted = manifests.files(self.manifest(model, version))
            for name in {**wanted, layout.CONFIG: "", layout.GOLDEN: ""}:
                if not (folder / name).is_file():
                    return f"{name} is missing"
            for name, value in wanted.items():
                if hashing.of_path(folder / name) != value:
                    return f"{folder / name} does not have the sha256 of its manifest"
        except (ReleaseError, OSError, KeyError, TypeError, ValueError, AttributeError) as e:
            return str(e).splitlines()[0]
        return ""

    def remember_spec(self, model: str, file: Path) -> None:
        """Note which file a model was built from, for ./scripts/tune; nothing depends on it."""
        with contextlib.suppress(OSError):
            _replace_text(self.volume.of_model(model) / layout.SPEC, f"{file.absolute()}\n")

    def audit(self, event: str, **facts: Any) -> None:
        """Append one line to the audit log."""
        line = json.dumps({"time": now(), "event": event, "user": _user(), "pid": os.getpid(), **facts})
        with self.volume.audit_log.open("a", encoding="utf-8") as f:
            f.write(line + "\n")
            f.flush()
            os.fsync(f.fileno())


def attempt(what: str, act: Callable[..., None], *args: Any, **kwargs: Any) -> List[str]:
    """Do what can be done: the failure as a line, none when there was none."""
    try:
        act(*args, **kwargs)
    except (OSError, ReleaseError) as e:
        return [f"{what}: {e}"]
    return []


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's uid without a name
        return str(os.getuid())


def _replace_text(path: Path, text: str) -> None:
    fresh = path.with_name(f"{path.name}.new")
    try:
        with fresh.open("w", encoding="utf-8") as f:
            f.write(text)
            f.flush()
            os.fsync(f.fileno())
        fresh.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise
    _fsync(path.parent)


def _fsync(path: Path) -> None:
    fd = os.open(str(path), os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
