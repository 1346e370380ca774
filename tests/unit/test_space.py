"""Room on the models volume is asked for before a build, by the size of the model at hand."""

from __future__ import annotations

import collections
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.errors import ReleaseError
from builder.release import space
from builder.release.store import Store
from builder.spec.model import Spec

Usage = collections.namedtuple("Usage", "total used free")
MIB = 1 << 20


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


def free(monkeypatch: pytest.MonkeyPatch, mib: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(0, 0, mib * MIB))


def test_a_small_model_needs_little(
    make_spec: Callable[..., Spec], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, 40)
    space.check(make_spec(), store)


def test_a_large_source_needs_several_times_its_size(
    make_spec: Callable[..., Spec], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec()
    assert spec.source.path is not None
    with spec.source.path.open("wb") as f:
        f.truncate(300 * MIB)
    free(monkeypatch, 1100)
    with pytest.raises(ReleaseError) as e:
        space.check(spec, store)
    assert "1100 MiB are free on the models volume" in e.value.found
    assert "1232 MiB" in e.value.expected
    assert "./scripts/prune" in e.value.remedy


def test_a_model_that_is_downloaded_is_as_large_as_its_last_release(
    make_spec: Callable[..., Spec], store: Store
) -> None:
    spec = make_spec(source={"application": "ResNet50", "weights": "imagenet"})
    before = space.needed(spec, store)
    assert before > 900 * MIB
    release = store.folder(spec.name, 1)
    release.mkdir(parents=True)
    (release / "model.onnx").write_bytes(bytes(MIB))
    assert space.needed(spec, store) < 40 * MIB
