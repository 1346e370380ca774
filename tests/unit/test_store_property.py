"""Publish, flip, fail, roll back, prune and crash in random order: what must hold after every step.

* the live link resolves to a complete release, or there is none because nothing ever went live;
* a number is never used twice;
* the release to go back to is there;
* nothing half-written can be reached.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from builder import hashing
from builder.errors import ReleaseError
from builder.release import lifecycle
from builder.release.store import Store

MODEL = "m"


class Crash(BaseException):
    """The process dies here."""


class ReleaseStore(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="store-"))
        self.store = Store(self.root)
        self.used: list[int] = []
        self.ever_live = False

    def teardown(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)

    def stage(self) -> tuple[Path, int]:
        version = self.store.next_version(MODEL)
        release = self.store.stage(MODEL) / "release"
        engine = release / "model" / str(version) / "model.onnx"
        engine.parent.mkdir(parents=True)
        engine.write_bytes(os.urandom(64))
        for name in ("model/config.pbtxt", "golden.npz", "model.onnx"):
            (release / name).write_text("x")
        self.store.write_json(
            release / "manifest.json",
            {
                "model": MODEL,
                "version": version,
                "spec": {},
                "engine": {"name": "onnxruntime", "file": "model.onnx", "sha256": hashing.of_path(engine)},
            },
        )
        return release, version

    @rule()
    def publish(self) -> None:
        release, version = self.stage()
        assert version not in self.used, "a number is used twice"
        self.store.publish(release, MODEL, version)
        self.used.append(version)

    @rule(call=st.integers(0, 40))
    def publish_and_die(self, call: int) -> None:
        """Die at the n-th call that reaches the disk while publishing."""
        release, version = self.stage()
        with dying(call):
            self.store.publish(release, MODEL, version)
        if version in self.store.versions(MODEL):
            assert version not in self.used
            self.used.append(version)

    @rule(pick=st.integers(0, 10**6), pending=st.booleans(), force=st.booleans())
    def activate(self, pick: int, pending: bool, force: bool) -> None:
        versions = self.store.versions(MODEL)
        if not versions:
            return
        version = versions[pick % len(versions)]
        try:
            lifecycle.activate(self.store, MODEL, version, pending=pending, force=force)
        except ReleaseError:
            assert lifecycle.failure(self.store, MODEL, version) is not None
            assert not force
        else:
            assert self.store.live(MODEL) == version
            self.ever_live = True

    @rule(pick=st.integers(0, 10**6), pending=st.booleans(), call=st.integers(0, 12))
    def activate_and_die(self, pick: int, pending: bool, call: int) -> None:
        versions = self.store.versions(MODEL)
        if not versions:
            return
        version, before = versions[pick % len(versions)], self.store.live(MODEL)
        with dying(call):
            lifecycle.activate(self.store, MODEL, version, pending=pending, force=True)
        assert self.store.live(MODEL) in (before, version)
        self.ever_live = self.ever_live or self.store.live(MODEL) is not None

    @precondition(lambda self: lifecycle.pending(self.store, MODEL) is not None)
    @rule()
    def confirm(self) -> None:
        mark = lifecycle.pending(self.store, MODEL)
        if lifecycle.failure(self.store, MODEL, mark["version"]) is not None:
            with pytest.raises(ReleaseError, match="marked failed"):
                lifecycle.confirm(self.store, MODEL)
            return
        version = lifecycle.confirm(self.store, MODEL)
        assert self.store.live(MODEL) == version
        assert lifecycle.state(self.store, MODEL, version) == "live"

    @precondition(lambda self: lifecycle.pending(self.store, MODEL) is not None)
    @rule()
    def revert(self) -> None:
        mark = lifecycle.pending(self.store, MODEL)
        lifecycle.revert(self.store, MODEL, "in a test")
        assert self.store.live(MODEL) == mark["previous"]
        assert lifecycle.failure(self.store, MODEL, mark["version"]) is not None
        self.ever_live = self.store.live(MODEL) is not None

    @precondition(lambda self: lifecycle.pending(self.store, MODEL) is not None)
    @rule(call=st.integers(0, 12))
    def revert_and_die(self, call: int) -> None:
        mark = lifecycle.pending(self.store, MODEL)
        with dying(call):
            lifecycle.revert(self.store, MODEL, "in a test")
        assert self.store.live(MODEL) in (mark["version"], mark["previous"])
        self.ever_live = self.store.live(MODEL) is not None

    @rule()
    def rollback(self) -> None:
        target = lifecycle.predecessor(self.store, MODEL)
        if target is not None:
            lifecycle.activate(self.store, MODEL, target)
            assert self.store.live(MODEL) == target

    @rule(keep=st.integers(1, 4))
    def prune(self, keep: int) -> None:
        safe = {self.store.live(MODEL), lifecycle.predecessor(self.store, MODEL)}
        gone = lifecycle.prune(self.store, MODEL, keep)
        assert not safe & set(gone)
        assert set(self.store.versions(MODEL)) >= set(self.used[-keep:]) & set(self.store.versions(MODEL))

    @rule(keep=st.integers(1, 4), call=st.integers(0, 8))
    def prune_and_die(self, keep: int, call: int) -> None:
        with dying(call):
            lifecycle.prune(self.store, MODEL, keep)

    @invariant()
    def what_is_live_is_whole(self) -> None:
        if not hasattr(self, "store"):
            return
        version = self.store.live(MODEL)
        link = self.root / "repository" / MODEL
        if version is None:
            assert not link.is_symlink()
            assert not self.ever_live
            return
        assert link.resolve() == self.root / "releases" / MODEL / str(version) / "model"
        assert self.store.damage(MODEL, version) == ""

    @invariant()
    def every_release_that_can_be_reached_is_whole(self) -> None:
        if not hasattr(self, "store"):
            return
        for version in self.store.versions(MODEL):
            assert self.store.damage(MODEL, version) == ""

    @invariant()
    def the_release_to_go_back_to_is_there(self) -> None:
        if not hasattr(self, "store"):
            return
        mark = lifecycle.pending(self.store, MODEL)
        if mark is not None and mark["previous"] is not None:
            assert mark["previous"] in self.store.versions(MODEL)
        before = lifecycle.predecessor(self.store, MODEL)
        assert before is None or before in self.store.versions(MODEL)


class dying:  # noqa: N801  (reads as a statement)
    """Let the process "die" at the n-th call that changes the disk: nothing after it happens."""

    CALLS = ("os.fsync", "pathlib.Path.rename", "pathlib.Path.replace", "pathlib.Path.unlink",
             "pathlib.Path.symlink_to", "os.utime", "shutil.rmtree")  # fmt: skip

    def __init__(self, call: int) -> None:
        self.left = call
        self.dead = False

    def __enter__(self) -> None:
        self.patches = []
        for name in self.CALLS:
            module, _, attribute = name.rpartition(".")
            target = {"os": os, "shutil": shutil, "pathlib.Path": Path}[module]
            real = getattr(target, attribute)
            self.patches.append(mock.patch.object(target, attribute, self.wrap(real)))
        for patch in self.patches:
            patch.start()

    def wrap(self, real):  # type: ignore[no-untyped-def]
        def call(*args, **kwargs):  # type: ignore[no-untyped-def]
            if self.left == 0 or self.dead:
                self.dead = True
                raise Crash
            self.left -= 1
            return real(*args, **kwargs)

        return call

    def __exit__(self, kind: object, *_: object) -> bool:
        for patch in self.patches:
            patch.stop()
        return kind is Crash


TestReleaseStore = ReleaseStore.TestCase
TestReleaseStore.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
