"""What the exporter reads from a models volume that the builder's own code has written."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
from support.stack import free_ports

from builder.release.lifecycle import ModelReleases
from builder.release.store import Store
from models_volume.layout import Volume
from monitoring.exporter.exposition import page
from monitoring.exporter.releases import Releases


@pytest.fixture
def releases(tmp_path: Path) -> ModelReleases:
    return ModelReleases(Store(tmp_path / "models"), "m")


def publish(releases: ModelReleases) -> int:
    store = releases.store
    version = store.next_version("m")
    staged = store.stage("m") / "release"
    (staged / "model" / str(version)).mkdir(parents=True)
    for name in ("model/config.pbtxt", "golden.npz"):
        (staged / name).write_text(name)
    store.write_json(
        staged / "manifest.json",
        {
            "model": "m", "version": version, "files": {}, "spec": {}, "created": "now",
            "engine": {"name": "tensorrt", "version": "8.5.1", "gpu": {"name": 'NVIDIA "H100"'}},
            "weights": {"untrained": True}, "contract": {"max_batch_size": 32},
        },
    )  # fmt: skip
    store.publish(staged, "m", version)
    return version


def proven(releases: ModelReleases) -> int:
    version = publish(releases)
    releases.activate(version, pending=True)
    return releases.confirm()


def look(releases: ModelReleases) -> dict[str, float]:
    """The metrics by what is before their value, without the common prefix; no server answers."""
    [port] = free_ports(1)
    exporter = Releases(Volume(releases.store.root), ("127.0.0.1", port))
    rows = page(exporter.families()).decode().splitlines()
    return {
        name.removeprefix("triton_stack_"): float(value)
        for name, _, value in (row.rpartition(" ") for row in rows if row[0] != "#")
    }


def test_a_volume_with_nothing_on_it(tmp_path: Path, releases: ModelReleases) -> None:
    assert look(releases) == {"volume_readable": 1, "live_models": 0}
    assert look(ModelReleases(Store(tmp_path / "none", make=False), "m"))["live_models"] == 0


def test_a_live_release(releases: ModelReleases) -> None:
    began = int(time.time())
    proven(releases)
    publish(releases)
    found = look(releases)
    times = {found.pop(name + '{model="m"}') for name in (
        "release_live_timestamp_seconds", "redeploy_timestamp_seconds")}  # fmt: skip
    assert all(began <= t <= time.time() for t in times)
    assert found == {
        "volume_readable": 1,
        "live_models": 1,
        'release_info{model="m",version="1",engine="tensorrt 8.5.1",gpu="NVIDIA \\"H100\\"",'
        'weights="untrained"}': 1,
        'release_max_batch_size{model="m"}': 32,
        'release_version{model="m"}': 1,
        'releases{model="m"}': 2,
        'release_pending{model="m"}': 0,
        'redeploy_success{model="m"}': 1,
        'model_ready{model="m",version="1"}': 0,
    }


def change(releases: ModelReleases) -> tuple[float, float, float]:
    """Live version, pending, and whether the last settled change was good."""
    found = look(releases)
    return tuple(found[f'{name}{{model="m"}}'] for name in (
        "release_version", "release_pending", "redeploy_success"))  # type: ignore[return-value]  # fmt: skip


def test_a_change_is_pending_then_proven_or_back(releases: ModelReleases) -> None:
    proven(releases)
    releases.activate(publish(releases), pending=True)
    assert change(releases) == (2, 1, 1), "not settled: the change before it counts"
    releases.revert("wrong answers")
    assert change(releases) == (1, 0, 0)
    proven(releases)
    assert change(releases) == (3, 0, 1)
    releases.activate(1, pending=True)
    releases.confirm()
    assert change(releases) == (1, 0, 1), "a rollback is a change, too"
    releases.retire()
    assert change(releases) == (0, 0, 1)
    assert look(releases)["live_models"] == 0


def test_a_release_that_nobody_proves_counts_as_good(releases: ModelReleases) -> None:
    """As `docker compose up` deploys."""
    releases.activate(publish(releases))
    assert change(releases) == (1, 0, 1)


def test_going_back_on_a_full_disk_leaves_no_line_and_is_seen(
    releases: ModelReleases, monkeypatch: pytest.MonkeyPatch
) -> None:
    proven(releases)
    releases.activate(publish(releases), pending=True)

    def full(*_args: object, **_facts: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(releases.store, "audit", full)
        assert releases.revert("wrong answers").problems
    assert change(releases) == (1, 0, 0)
    # The log's last flip is of release 2: the link itself says when release 1 went live.
    since = look(releases)['release_live_timestamp_seconds{model="m"}']
    assert since == pytest.approx(releases.store.volume.link("m").lstat().st_ctime, abs=0.01)


def test_a_release_is_live_since_it_last_went_live(releases: ModelReleases) -> None:
    proven(releases)
    log = releases.store.volume.audit_log
    log.write_text(re.sub(r'"time": "[^"]*"', '"time": "2026-01-02T03:04:05+00:00"', log.read_text()))
    with log.open("a") as f:
        f.write(
            '{"time": "2026-05-05T00:00:00+00:00", "event": "activate", "model": "other", "version": 9}\n'
        )
        f.write("no line\n[]\n{}\n" + '{"time": 7, "event": "activate", "model": "m"}\n{"time": "2026-0')
    assert look(releases)['release_live_timestamp_seconds{model="m"}'] == 1767323045
    assert look(releases)['redeploy_timestamp_seconds{model="m"}'] == 1767323045


def test_a_model_is_known_a_second_after_its_first_release(
    releases: ModelReleases, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    real = Volume.models
    monkeypatch.setattr(Volume, "models", lambda volume: looks.append(1) or real(volume))
    now = 100.0
    monkeypatch.setattr("monitoring.exporter.releases.time.monotonic", lambda: now)
    exporter = Releases(Volume(releases.store.root), ("127.0.0.1", 1))
    assert not any(exporter.has("m") for _ in range(100))
    publish(releases)
    assert not exporter.has("m")
    assert len(looks) == 1
    now = 101.0
    assert all(exporter.has("m") for _ in range(100))
    assert not exporter.has("other")
    assert len(looks) == 2


def test_a_manifest_that_cannot_be_read_hides_nothing_else(releases: ModelReleases) -> None:
    proven(releases)
    manifest = releases.store.folder("m", 1) / "manifest.json"
    for text in ("[]", "{", '{"engine": 7, "weights": null, "contract": []}'):
        manifest.write_text(text)
        found = look(releases)
        assert found['release_info{model="m",version="1",engine="unknown",gpu="none",weights="trained"}'] == 1
        assert found['release_version{model="m"}'] == 1


@pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
def test_a_volume_that_may_not_be_read(releases: ModelReleases) -> None:
    proven(releases)
    releases.store.volume.repository.chmod(0)
    try:
        assert look(releases) == {"volume_readable": 0}
    finally:
        releases.store.volume.repository.chmod(0o755)


def test_a_volume_whose_disk_fails(releases: ModelReleases, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_volume: Volume) -> dict[str, int]:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Volume, "all_live", fails)
    assert look(releases) == {"volume_readable": 0}
