"""The agent's hold on its node: locks, somebody else's proof, an end in mid-proof, no server to prove on."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ops import operation_lock, settings
from ops.errors import OpsError
from ops.several.places import Place

from cluster.agent import node as nodes
from cluster.agent.node import BusyError, Node
from cluster.agent.runtime import NodeRuntime
from models_volume.layout import PENDING, Volume


@pytest.fixture
def given(tmp_path: Path) -> Iterator[settings.Settings]:
    handler = signal.getsignal(signal.SIGTERM)
    yield settings.load({"MODELS_DIR": str(tmp_path)})
    signal.signal(signal.SIGTERM, handler)


def made(given: settings.Settings, places: list[Place]) -> Node:
    return Node(given, NodeRuntime(given, "cpu", lambda: places))


NOWHERE = Place("s", "127.0.0.1", 1, 1, 1)


def test_an_operators_lock_is_respected(given: settings.Settings) -> None:
    with operation_lock.held(given, "redeploy"), pytest.raises(BusyError, match="redeploy by"):
        made(given, [NOWHERE]).go("m", 2)


def test_without_a_server_nothing_goes_live(given: settings.Settings) -> None:
    node = made(given, [])
    assert node.missing() == "no Triton server of this node is there"
    with pytest.raises(OpsError, match="no Triton server"):
        node.go("m", 2)
    assert made(given, [NOWHERE]).missing() == "Triton does not answer: s"


def test_an_end_in_mid_proof_is_no_failure_of_the_release(
    given: settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = made(given, [NOWHERE])

    def interrupted(*_: object, **__: object) -> None:
        raise OpsError("release 2 failed: interrupted") from KeyboardInterrupt()

    monkeypatch.setattr(node._rollout, "rollback", interrupted)
    with pytest.raises(KeyboardInterrupt):
        node.go("m", 2)
    with operation_lock.held(given, "the next one"):
        pass


def test_somebody_elses_proof_is_left_alone_until_it_is_longer_than_any(
    given: settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = made(given, [NOWHERE])
    assert not node.unsettled("m", ours=True)
    mark = Volume(given.models_dir).of_model("m") / PENDING
    mark.parent.mkdir(parents=True)
    mark.write_text("{}")
    assert node.unsettled("m", ours=True)
    assert not node.unsettled("m", ours=False)
    now = time.monotonic()
    monkeypatch.setattr(nodes.time, "monotonic", lambda: now + given.poll_secs + given.load_secs + 125)
    assert node.unsettled("m", ours=False)
    mark.unlink()
    mark.write_text("{} ")  # another one's: its time begins anew
    assert not node.unsettled("m", ours=False)


def test_a_file_holds_the_node(given: settings.Settings) -> None:
    node = made(given, [NOWHERE])
    assert node.held == ""
    (given.models_dir / "cluster").mkdir()
    (given.models_dir / "cluster" / "hold").write_text("")
    assert node.held == "cluster/hold is there"


def test_a_volume_that_somebody_else_changes_is_waited_for(
    given: settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = made(given, [NOWHERE])
    answer = {"error": {"kind": "LockedError", "found": "another change is under way", "remedy": ""}}
    monkeypatch.setattr(node._runtime, "follow", lambda *_: (1, json.dumps(answer)))
    with pytest.raises(BusyError, match="another change"):
        node.pull("m", "sha256:a", lambda: None)
    answer["error"]["kind"] = "ParityError"
    with pytest.raises(OpsError, match="another change"):
        node.pull("m", "sha256:a", lambda: None)
