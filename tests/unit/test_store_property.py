"""Build, roll out, roll back, retire and prune at random, with a disk that fails and processes that die.

The rollout is the operator's own, the builder's commands are the real ones, run in this process; the server
is the one fake: it answers rightly for releases that were made good. What must hold after every step:

* what is live is what was live, or the new release, proven; never one that fails its proof;
* where not even a rename is possible, the error says what is live;
* one more command, with the disk well again, makes all well;
* the live link resolves to a complete release, a number is never used twice, the release to go back to is
  there, and nothing half-written can be reached.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import random
import shutil
import signal
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from ops import hooks
from ops.errors import OpsError
from ops.rollout import Rollout
from ops.runtimes.base import Runtime
from ops.settings import Settings
from ops.several.places import Place
from support.faults import Crash, Faults

from builder import cli, hashing
from builder.errors import ReleaseError
from builder.release.lifecycle import ModelReleases
from builder.release.store import Store
from models_volume.snapshot import snapshot

MODEL = "m"
# In memory where that is to be had: every step waits for the disk many times.
FAST = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
CODES = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO)
troubles = st.one_of(
    st.none(),  # all is well
    st.tuples(st.none(), st.integers(0, 40), st.just(False)),  # the process dies
    st.tuples(st.sampled_from(CODES), st.integers(0, 80), st.booleans()),
)
Trouble = Any


class Server:
    """The runtime of a stack whose parts run in this process."""

    name, device, poll_secs = "native", "cpu", 1

    def __init__(self, root: Path) -> None:
        self.root = root
        self.good: dict[int, bool] = {}
        self.server = self
        self.running = True

    def status(self) -> dict[str, Any]:
        return {"server": {"state": "running" if self.running else "stopped"}}

    def snapshot(self) -> dict[str, Any]:
        return snapshot(self.root)

    def log_tail(self) -> list[str]:
        return []

    def places(self) -> list[Place]:
        return [Place("", "127.0.0.1", 0, 0, 0)]

    def missing(self) -> list[str]:
        return []

    def ready(self, model: str, version: int) -> bool:
        return Store(self.root, make=False).live(model) == version

    def ask(self, part: str, args: list[str]) -> tuple[int, str]:
        if part == "client":
            version = int(args[2])
            ok = self.good[version] and self.ready(MODEL, version)
            answer = {"ready_seconds": 0.0, "prove_seconds": 0.0, "requests": 1}
            return 0, json.dumps(answer if ok else {"error": {"found": "wrong answers"}})
        if args[0] == "build":
            return self.answer(lambda: [self.build(good=args[1] == "good")])
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            drop = args.index("--engine") if "--engine" in args else len(args)
            code = cli.main([*args[:drop], *args[drop + 2 :], "--models-dir", str(self.root)])
        return code, out.getvalue()

    def answer(self, act: Any) -> tuple[int, str]:
        """As the builder's main does it."""
        try:
            return 0, json.dumps(act())
        except (ReleaseError, OSError) as e:
            return 1, json.dumps({"error": {"found": str(e)}})

    def build(self, *, good: bool) -> dict[str, Any]:
        """What the builder does, without a model."""
        store = Store(self.root)
        with store.lock("build"):
            version = store.next_version(MODEL)
            assert version not in self.good, "a number is used twice"
            staged = store.stage(MODEL)
            release = staged / "release"
            engine = release / "model" / str(version) / "model.onnx"
            engine.parent.mkdir(parents=True)
            for file in (engine, release / "model/config.pbtxt", release / "golden.npz"):
                file.write_text(f"{file.name} of {version}")
            files = {
                str(p.relative_to(release)): hashing.of_path(p) for p in release.rglob("*") if p.is_file()
            }
            data = {"model": MODEL, "version": version, "spec": {}, "files": files}
            data["engine"] = {"name": "onnxruntime"}
            store.write_json(release / "manifest.json", data)
            try:
                store.publish(release, MODEL, version)
            finally:
                if (store.folder(MODEL, version)).is_dir():
                    self.good[version] = good
            shutil.rmtree(staged)
        return {"model": MODEL, "version": version, "action": "built", "live": store.live(MODEL)}


class Releases(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="store-", dir=FAST))
        self.store = Store(self.root)
        self.releases = ModelReleases(self.store, MODEL)
        self.server = Server(self.root)
        self.hooks: list[str] = []
        knobs = cast("Settings", SimpleNamespace(poll_secs=0, load_secs=0))
        self.handler = signal.getsignal(signal.SIGTERM)
        self.rollout = Rollout(cast("Runtime", self.server), knobs)

    def teardown(self) -> None:
        if hasattr(self, "root"):
            signal.signal(signal.SIGTERM, self.handler)
            shutil.rmtree(self.root, ignore_errors=True)

    def attempt(self, trouble: Trouble, act: Any) -> None:
        """Do something under a trouble, look at what is live, and heal."""
        code, call, lasting = trouble or (errno.EIO, 10**9, False)
        before = self.store.live(MODEL)
        error: BaseException | None = None
        faults = Faults(code, call, lasting=lasting)
        with mock.patch.object(hooks, "run", self.hook), contextlib.redirect_stderr(io.StringIO()), faults:
            try:
                act()
            except (OpsError, OSError) as e:
                error = e
        self.faults = faults
        died = code is None and faults.struck
        if not died:
            self.look(before, error, code=code if lasting else None)
        self.heal()

    def look(self, before: int | None, error: BaseException | None, *, code: int | None) -> None:
        """Never bad, unless no rename was possible, which must be told; ``code`` of a trouble that lasts."""
        live = self.store.live(MODEL)
        if live == before or live is None:
            return
        doomed = code not in (None, errno.ENOSPC)
        if doomed and error is not None and (not self.server.good[live] or self.releases.pending()):
            first = str(error).splitlines()[0]
            # A disk that cannot even be read does not tell what is live: that is said.
            assert f"release {live}" in first or (code == errno.EIO and "live now: unknown" in first), error
            return
        assert self.server.good[live], f"a bad release is live after {error!r}"

    def heal(self) -> None:
        """One more command, with the disk well: what a redeploy begins with."""
        quiet = contextlib.redirect_stderr(io.StringIO())
        # A bad release that was pending goes back, with an error that says so.
        with mock.patch.object(hooks, "run", self.hook), quiet, contextlib.suppress(OpsError):
            self.rollout.settle()
        live = self.store.live(MODEL)
        assert self.releases.pending() is None
        assert live is None or self.server.good[live]

    def hook(self, name: str, *_: object, **__: object) -> None:
        self.hooks.append(name)

    @rule(good=st.booleans(), trouble=troubles)
    def redeploy(self, good: bool, trouble: Trouble) -> None:
        seen = len(self.hooks)
        before = self.store.live(MODEL)
        self.attempt(trouble, lambda: self.rollout.build("good" if good else "bad", force=False))
        if trouble is None:
            assert self.hooks[seen:] == ["post-redeploy" if good else "failed-redeploy"]
            newest = self.store.versions(MODEL)[-1]
            assert self.store.live(MODEL) == (newest if good else before)
            assert self.releases.state(newest) == ("live" if good else "failed")

    @rule(trouble=troubles)
    def rollback(self, trouble: Trouble) -> None:
        before, target = self.store.live(MODEL), self.releases.predecessor()
        self.attempt(trouble, lambda: self.rollout.rollback(MODEL, None, force=False))
        if trouble is None and target is not None:
            assert self.store.live(MODEL) == target
            assert before is None or target < before
            assert before is None or self.releases.state(before) == "rolled back"

    @rule(pick=st.integers(0, 10**6), force=st.booleans(), trouble=troubles)
    def go_to(self, pick: int, force: bool, trouble: Trouble) -> None:
        versions = self.store.versions(MODEL)
        if versions:
            version = versions[pick % len(versions)]
            self.attempt(trouble, lambda: self.rollout.rollback(MODEL, version, force=force))

    @rule(trouble=troubles)
    def retire(self, trouble: Trouble) -> None:
        known = self.store.versions(MODEL)
        self.attempt(trouble, lambda: self.rollout.retire(MODEL))
        if trouble is None:
            assert self.store.live(MODEL) is None
            assert self.store.versions(MODEL) == known

    @rule(keep=st.integers(1, 4), trouble=troubles)
    def prune(self, keep: int, trouble: Trouble) -> None:
        live, newest = self.store.live(MODEL), self.store.versions(MODEL)[-keep:]
        safe = {live, self.releases.predecessor()}
        self.attempt(trouble, lambda: self.rollout.prune([], keep))
        assert self.store.live(MODEL) == live
        assert {v for v in safe if v is not None} | set(newest) <= set(self.store.versions(MODEL))

    @rule(stopped=st.booleans())
    def server_ends_or_comes_back(self, stopped: bool) -> None:
        self.server.running = not stopped

    @invariant()
    def what_is_live_is_whole(self) -> None:
        if not hasattr(self, "store"):
            return
        version = self.store.live(MODEL)
        link = self.root / "repository" / MODEL
        if version is None:
            assert not link.is_symlink()
            return
        assert link.resolve() == self.root / "releases" / MODEL / str(version) / "model"
        assert [p.name for p in link.parent.iterdir()] == [MODEL]

    @invariant()
    def every_release_that_can_be_reached_is_whole(self) -> None:
        if hasattr(self, "store"):
            assert {v: self.store.damage(MODEL, v) for v in self.store.versions(MODEL)} == dict.fromkeys(
                self.store.versions(MODEL), ""
            )

    @invariant()
    def the_release_to_go_back_to_is_there(self) -> None:
        if hasattr(self, "store"):
            before = self.releases.predecessor()
            assert before is None or before in self.store.versions(MODEL)


TestReleases = Releases.TestCase
TestReleases.settings = settings(
    max_examples=60, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize(
    ("code", "lasting"),
    [(None, False), *((code, lasting) for code in CODES for lasting in (False, True))],
    ids=lambda value: {None: "dies", False: "once", True: "lasting"}.get(value) or errno.errorcode[value],
)
def test_a_bad_redeploy_that_fails_at_any_call_goes_back(code: int | None, lasting: bool) -> None:
    """Call after call: a good release is live, a bad one comes."""
    back = 0
    step = 3 if code == errno.EIO else 1  # it hits every reading call as well
    start = random.randrange(step)
    print(f"from call {start}")
    for call in range(start, 2000, step):
        machine = Releases()
        machine.start()
        try:
            machine.attempt(None, lambda m=machine: m.rollout.build("good", force=False))
            assert machine.store.live(MODEL) == 1
            seen = len(machine.hooks)
            with mock.patch.object(machine, "heal"):
                machine.attempt((code, call, lasting), lambda m=machine: m.rollout.build("bad", force=False))
            told = machine.hooks[seen:]
            machine.heal()
            assert machine.store.live(MODEL) == 1
            machine.what_is_live_is_whole()
            struck = machine.faults.struck
            if code is not None and "../releases/m/2/model" in machine.faults.links:
                back += 1
                assert told == ["failed-redeploy"]
            machine.attempt(None, lambda m=machine: m.rollout.build("good", force=False))
            assert machine.store.live(MODEL) == machine.store.versions(MODEL)[-1]
        finally:
            machine.teardown()
        if not struck:
            break
    assert call > 10, "the faults reach the code under test"
    assert not struck, "and every call of it"
    assert code is None or back > 0


def test_a_pending_release_that_cannot_be_read_goes_back() -> None:
    machine = Releases()
    machine.start()
    try:
        machine.attempt(None, lambda: machine.rollout.build("good", force=False))
        version = machine.server.build(good=True)["version"]
        machine.releases.activate(version, pending=True)
        (machine.store.folder(MODEL, version) / "manifest.json").write_text("")
        machine.heal()
        assert machine.store.live(MODEL) == 1
        assert machine.releases.failure(version) is not None
    finally:
        machine.teardown()


def test_a_crash_is_no_error_that_is_handled() -> None:
    with Faults(None, 0), pytest.raises(Crash):
        os.unlink("nothing")  # noqa: PTH108
