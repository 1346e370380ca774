"""A release that was built elsewhere is taken over through the gates, and only once."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.models import write_scale

from builder.errors import LockedError, ParityError, ReleaseError, SpecError
from builder.release import build as pipeline
from builder.release import take
from builder.release.lifecycle import ModelReleases
from builder.release.store import Store
from builder.spec import loader, stored
from models_volume import manifest as manifests

LEVERS = {
    "instances": {"gpu": 3, "cpu": 2},
    "dynamic_batching": {
        "max_queue_delay_us": 500,
        "preferred_batch_sizes": [2, 4],
        "queue_policy": {"max_queue_size": 9, "timeout_us": 1000},
        "priorities": {"levels": 3, "default": 2},
    },
    "cuda_graphs": {"batch_sizes": [1, 2]},
    "config": {"optimization": {"priority": "PRIORITY_MAX"}},
}


@pytest.fixture
def theirs(tmp_path: Path) -> Store:
    return Store(tmp_path / "theirs")


@pytest.fixture
def ours(tmp_path: Path) -> Store:
    return Store(tmp_path / "ours")


def built(store: Store, spec: Path, **options: Any) -> dict[str, Any]:
    return pipeline.build(spec, store, "onnxruntime", allow_untrained=False, force=False, **options)


def release(store: Store, version: int = 1) -> Path:
    return store.folder("scale", version)


def copied(store: Store, folder: Path, version: int = 1) -> Path:
    return Path(shutil.copytree(release(store, version), folder))


def edited(folder: Path, **changes: Any) -> Path:
    file = folder / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return folder


@pytest.mark.parametrize("spec", sorted(loader.MODELS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_spec_is_read_back_from_a_manifest(spec: Path) -> None:
    _same(loader.load(spec))


def test_every_lever_is_read_back(tmp_path: Path) -> None:
    spec = loader.load(write_scale(tmp_path, serving=LEVERS))
    assert spec.serving.untouched() != [f.name for f in dataclasses.fields(spec.serving)]
    _same(spec)


def _same(spec: Any) -> None:
    data = json.loads(json.dumps(spec.as_json()))
    labels = {o.name: o.labels for o in spec.outputs if o.labels}
    found = stored.read(data, Path("m"), Path("model.onnx"), Path("golden.npz"), labels)
    again = found.as_json()
    for key in ("name", "description", "batch", "precision", "opset", "trtexec_args", "serving", "parity"):
        assert again[key] == data[key], key
    for mine, its in zip(again["inputs"], data["inputs"], strict=True):
        for key in ("name", "dtype", "dims", "ranges"):
            assert mine[key] == its[key]
    client = [i.preprocessing for i in spec.inputs if i.preprocess_where == "client"]
    assert [i.preprocessing for i in found.inputs if i.preprocessing] == client
    assert [(o.name, o.dims, o.labels) for o in found.outputs] == [
        (o.name, o.dims, o.labels) for o in spec.outputs
    ]


@pytest.mark.parametrize(
    "data", [{}, {"serving": {"unheard_of": 1}}, {"inputs": [{"name": "x"}]}, {"batch": {"min": "a"}}]
)
def test_what_is_no_spec_is_refused(tmp_path: Path, data: dict[str, Any]) -> None:
    whole = loader.load(write_scale(tmp_path)).as_json()
    bad = {**whole, **data} if data else {}
    with pytest.raises(SpecError, match="its spec cannot be read"):
        stored.read(bad, Path("m"), Path("o"), Path("g"), {})


def test_a_release_of_another_volume_is_published_under_the_next_number(
    theirs: Store, ours: Store, tmp_path: Path
) -> None:
    built(ours, write_scale(tmp_path / "old", factor=9.0))
    row = built(theirs, write_scale(tmp_path / "new", serving={"dynamic_batching": False}))
    origin = {"digest": "sha256:" + "a" * 64}
    taken = take.take(release(theirs), ours, "onnxruntime", origin=origin)
    assert (taken["action"], taken["version"], taken["live"]) == ("pulled", 2, None)
    assert ours.damage("scale", 2) == ""
    assert taken["manifest"]["engine"]["sha256"] == row["manifest"]["engine"]["sha256"]
    assert taken["manifest"]["origin"] == origin
    assert taken["manifest"]["parity"]["by_batch"], "measured here"
    config = (release(ours, 2) / "model" / "config.pbtxt").read_text()
    assert 'key: "release"' in config
    assert 'string_value: "2"' in config
    assert "dynamic_batching" not in config
    assert ours.volume.spec("scale") == str((tmp_path / "old" / "scale.yaml").absolute()), (
        "not a file of its own"
    )


def test_what_is_here_already_is_not_taken_again(theirs: Store, ours: Store, tmp_path: Path) -> None:
    built(theirs, write_scale(tmp_path))
    assert take.take(release(theirs), ours, "onnxruntime")["version"] == 1
    again = take.take(release(theirs), ours, "onnxruntime")
    assert (again["action"], again["version"], ours.versions("scale")) == ("unchanged", 1, [1])
    own = take.take(copied(theirs, tmp_path / "copy"), theirs, "onnxruntime")
    assert (own["action"], theirs.versions("scale")) == ("unchanged", [1]), "the very machine that built it"


def test_one_that_failed_here_is_taken_anew(theirs: Store, ours: Store, tmp_path: Path) -> None:
    built(theirs, write_scale(tmp_path))
    take.take(release(theirs), ours, "onnxruntime")
    releases = ModelReleases(ours, "scale")
    releases.activate(1, pending=True)
    releases.revert("wrong answers")
    assert take.take(release(theirs), ours, "onnxruntime")["version"] == 2


def test_other_batching_is_another_release(theirs: Store, ours: Store, tmp_path: Path) -> None:
    built(theirs, write_scale(tmp_path / "a"))
    take.take(release(theirs), ours, "onnxruntime")
    built(theirs, write_scale(tmp_path / "b", serving={"dynamic_batching": {"max_queue_delay_us": 700}}))
    assert take.take(release(theirs, 2), ours, "onnxruntime")["version"] == 2
    assert "700" in (release(ours, 2) / "model" / "config.pbtxt").read_text()


def test_an_engine_for_another_machine_is_built_here_of_the_onnx_file(
    theirs: Store, ours: Store, tmp_path: Path
) -> None:
    built(theirs, write_scale(tmp_path))
    folder = copied(theirs, tmp_path / "copy")
    card = {"name": "NVIDIA H100", "compute_capability": "9.0"}
    engine = {"name": "tensorrt", "version": "8.5.1", "gpu": card, "file": "model.plan", "sha256": "0" * 64}
    files = json.loads((folder / "manifest.json").read_text())["files"]
    shutil.rmtree(folder / "model")  # what is not needed need not be there
    edited(folder, engine=engine, files=files)
    taken = take.take(folder, ours, "onnxruntime")
    assert taken["action"] == "built"
    assert taken["manifest"]["engine"]["name"] == "onnxruntime"
    assert take.take(folder, ours, "onnxruntime")["action"] == "unchanged", (
        "any engine for this machine will do"
    )


def test_what_was_changed_on_the_way_is_refused(theirs: Store, ours: Store, tmp_path: Path) -> None:
    built(theirs, write_scale(tmp_path))
    for name in ("model.onnx", "golden.npz", "model/1/model.onnx"):
        folder = copied(theirs, tmp_path / name.replace("/", "-"))
        with (folder / name).open("ab") as f:
            f.write(b"x")
        with pytest.raises(ReleaseError, match="does not have the sha256"):
            take.take(folder, ours, "onnxruntime")
        (folder / name).unlink()
        with pytest.raises(ReleaseError, match="is missing"):
            take.take(folder, ours, "onnxruntime")
    assert ours.versions("scale") == []


def test_an_engine_that_answers_wrongly_here_is_refused(theirs: Store, ours: Store, tmp_path: Path) -> None:
    from builder import hashing

    built(theirs, write_scale(tmp_path / "a"))
    built(theirs, write_scale(tmp_path / "b", factor=7.0))
    folder = copied(theirs, tmp_path / "copy")
    shutil.copyfile(release(theirs, 2) / "model/2/model.onnx", folder / "model/1/model.onnx")
    data = json.loads((folder / "manifest.json").read_text())
    data["engine"]["sha256"] = data["files"]["model/1/model.onnx"] = hashing.of_path(
        folder / "model/1/model.onnx"
    )
    (folder / "manifest.json").write_text(json.dumps(data))
    with pytest.raises(ParityError):
        take.take(folder, ours, "onnxruntime")
    assert ours.versions("scale") == []
    assert not list(ours.volume.staging.iterdir())


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "model/../x", "a\n", ".hidden", "a/b/c/d/e"]
)
def test_a_name_that_leads_elsewhere_is_refused(
    theirs: Store, ours: Store, tmp_path: Path, name: str
) -> None:
    data = built(theirs, write_scale(tmp_path))["manifest"]
    folder = edited(copied(theirs, tmp_path / "copy"), files={**data["files"], name: "0" * 64})
    with pytest.raises(ReleaseError, match="which no release has"):
        take.take(folder, ours, "onnxruntime")


def test_another_schema_and_what_is_no_manifest_are_refused(
    theirs: Store, ours: Store, tmp_path: Path
) -> None:
    built(theirs, write_scale(tmp_path))
    with pytest.raises(ReleaseError, match="schema 9"):
        take.take(edited(copied(theirs, tmp_path / "a"), schema=9), ours, "onnxruntime")
    with pytest.raises(ReleaseError, match="cannot be read as a manifest"):
        take.take(edited(copied(theirs, tmp_path / "b"), contract=[]), ours, "onnxruntime")
    with pytest.raises(ReleaseError, match="cannot be read as a manifest"):
        take.take(tmp_path / "nothing", ours, "onnxruntime")


def test_it_waits_for_nobody(theirs: Store, ours: Store, tmp_path: Path) -> None:
    built(theirs, write_scale(tmp_path))
    with ours.lock("a build"), pytest.raises(LockedError):
        take.take(release(theirs), ours, "onnxruntime")


def test_a_taken_release_is_read_as_any_other(theirs: Store, ours: Store, tmp_path: Path) -> None:
    built(theirs, write_scale(tmp_path))
    take.take(release(theirs), ours, "onnxruntime")
    found = manifests.read(ours.volume, "scale", 1)
    golden = np.load(release(ours) / "golden.npz")
    assert found.max_batch == 8
    assert golden["output.scores"].shape == (5, 6)
