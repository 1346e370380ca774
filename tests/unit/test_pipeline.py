"""The builder from end to end on the CPU engine, with models that need no TensorFlow."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from support.models import write_lookup, write_scale

from builder import cli, hashing
from builder.errors import EngineError, ExportError, ParityError, SourceError
from builder.release import build as pipeline
from builder.release import manifest
from builder.release.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


def build(file: Path, store: Store, **options: Any) -> dict[str, Any]:
    """What a plain `docker compose up` does: build, and make it live."""
    chosen = {"allow_untrained": False, "force": False, **options}
    return pipeline.deploy(file, store, "onnxruntime", **chosen)


def publish(file: Path, store: Store, **options: Any) -> dict[str, Any]:
    chosen = {"allow_untrained": False, "force": False, **options}
    return pipeline.build(file, store, "onnxruntime", **chosen)


def change(file: Path, **keys: object) -> Path:
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **keys}))
    return file


def test_a_build_makes_a_whole_release_live(store: Store, tmp_path: Path) -> None:
    result = build(write_scale(tmp_path), store)
    assert (result["action"], result["version"], store.live("scale")) == ("built", 1, 1)
    release = store.root / "releases" / "scale" / "1"
    files = {str(p.relative_to(release)) for p in release.rglob("*") if p.is_file()}
    assert files == {
        "model/config.pbtxt", "model/1/model.onnx", "model.onnx", "golden.npz", "verified.npz",
        "manifest.json", "build.log",
    }  # fmt: skip
    assert json.loads((release / "manifest.json").read_text()) == result["manifest"]


def test_nothing_is_left_in_staging(store: Store, tmp_path: Path) -> None:
    build(write_scale(tmp_path), store)
    assert list((store.root / "staging").iterdir()) == []


def test_an_unchanged_spec_is_not_built_again(store: Store, tmp_path: Path) -> None:
    file = write_scale(tmp_path)
    build(file, store)
    assert build(file, store)["action"] == "unchanged"
    assert store.versions("scale") == [1]


def test_force_builds_all_the_same(store: Store, tmp_path: Path) -> None:
    file = write_scale(tmp_path)
    build(file, store)
    assert build(file, store, force=True)["action"] == "built"
    assert store.live("scale") == 2


def test_a_changed_spec_is_built_anew(store: Store, tmp_path: Path) -> None:
    file = write_scale(tmp_path)
    build(file, store)
    assert build(change(file, batch={"max": 2}), store)["version"] == 2
    assert store.live("scale") == 2


def test_a_spec_set_back_makes_its_release_live_again_without_a_build(store: Store, tmp_path: Path) -> None:
    file = write_scale(tmp_path)
    before = file.read_text()
    build(file, store)
    build(change(file, batch={"max": 2}), store)
    file.write_text(before)
    result = build(file, store)
    assert (result["action"], result["version"]) == ("reactivated", 1)
    assert store.live("scale") == 1
    assert store.versions("scale") == [1, 2]


def test_a_release_published_only_goes_live_with_the_next_build(store: Store, tmp_path: Path) -> None:
    file = write_scale(tmp_path)
    publish(file, store)
    assert store.live("scale") is None
    assert build(file, store)["action"] == "reactivated"
    assert store.live("scale") == 1


@pytest.mark.parametrize("name", ["model/1/model.onnx", "manifest.json", "model/config.pbtxt"])
def test_a_damaged_release_is_built_again(store: Store, tmp_path: Path, name: str) -> None:
    file = write_scale(tmp_path)
    build(file, store)
    (store.root / "releases" / "scale" / "1" / name).unlink()
    assert build(file, store)["action"] == "built"
    assert store.live("scale") == 2


def wrong_golden(file: Path) -> Path:
    """The same model with golden outputs that are another model's."""
    npz = file.with_suffix(".npz")
    with np.load(npz) as arrays:
        data = dict(arrays)
    data["output.scores"] = data["output.scores"] + 1
    np.savez(npz, **data)
    return file


def test_a_parity_failure_publishes_nothing_and_leaves_the_live_release(store: Store, tmp_path: Path) -> None:
    file = write_scale(tmp_path)
    build(file, store)
    before = sorted(p.name for p in store.root.rglob("*"))
    with pytest.raises(ParityError, match="nothing is published"):
        build(wrong_golden(file), store)
    assert store.live("scale") == 1
    assert store.versions("scale") == [1]
    assert set(before) <= {p.name for p in store.root.rglob("*")}


def test_the_build_after_a_failure_works(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ParityError):
        build(wrong_golden(write_scale(tmp_path)), store)
    assert build(write_scale(tmp_path), store)["version"] == 1


def test_an_engine_that_fails_on_a_sample_stops_the_build(store: Store, tmp_path: Path) -> None:
    file = write_lookup(tmp_path, rows=3)
    np.savez(
        file.with_suffix(".npz"),
        **{"input.index": np.full((2, 1), 99, np.int32), "output.value": np.zeros((2, 1), np.float32)},
    )
    with pytest.raises(EngineError, match="onnxruntime could not run"):
        build(file, store)
    assert store.live("lookup") is None


def test_a_truncated_source_is_refused_with_its_name(store: Store, tmp_path: Path) -> None:
    file = write_scale(tmp_path)
    data = (tmp_path / "scale.onnx").read_bytes()
    (tmp_path / "scale.onnx").write_bytes(data[:-40])
    source = {"onnx": "scale.onnx", "golden": "scale.npz"}
    with pytest.raises(ExportError, match=r"scale\.onnx: is not a valid ONNX model"):
        build(change(file, source=source), store)


def test_a_source_with_another_hash_is_refused(store: Store, tmp_path: Path) -> None:
    file = write_scale(tmp_path)
    with (tmp_path / "scale.onnx").open("ab") as f:
        f.write(b" ")
    with pytest.raises(SourceError, match="has sha256"):
        build(file, store)


def test_an_interface_other_than_the_spec_s_is_refused(store: Store, tmp_path: Path) -> None:
    file = write_scale(tmp_path)
    outputs = [{"name": "other", "dtype": "FP32", "dims": [6]}]
    with pytest.raises(ExportError, match="its outputs are scores"):
        build(change(file, outputs=outputs), store)


def test_untrained_weights_are_told_at_every_build(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_scale(tmp_path, weights="untrained")
    first = build(file, store)
    assert first["manifest"]["weights"]["untrained"] is True
    assert "WARNING: weights are untrained" in capsys.readouterr().err
    assert build(file, store)["action"] == "unchanged"
    assert "WARNING: weights are untrained" in capsys.readouterr().err


def test_weights_of_unknown_origin_are_not_called_trained(store: Store, tmp_path: Path) -> None:
    weights = build(write_scale(tmp_path), store)["manifest"]["weights"]
    assert weights["kind"] == "unknown"
    assert "does not say" in weights["description"]


def makeshift(document: dict[str, Any], write: Any, store: Store) -> Path:
    """A spec that asks for ImageNet, and a release of it with untrained weights."""
    document["source"] = {"application": "ResNet50", "weights": "imagenet"}
    file: Path = write(document)
    job = pipeline.Job.of(file, store, "onnxruntime", allow_untrained=True)
    staged = store.stage("m") / "release"
    files = ("model/1/model.onnx", "model/config.pbtxt", "golden.npz", "verified.npz", "model.onnx")
    (staged / "model" / "1").mkdir(parents=True)
    for name in files:
        (staged / name).touch()
    empty = hashing.of_path(staged / "model.onnx")
    weights = {"kind": "untrained", "untrained": True, "description": "UNTRAINED, seed 0"}
    data = {
        "version": 1,
        "export": manifest.export_key(job.spec, {}),
        "fingerprint": job.fingerprint({}, staged / "model.onnx", empty, empty, weights),
        "files": dict.fromkeys(files, empty),
        "engine": {"file": "model.onnx", "sha256": empty},
        "weights": weights,
    }
    (staged / "manifest.json").write_text(json.dumps(data))
    store.publish(staged, "m", 1)
    store.activate("m", 1)
    return file


def test_a_rehearsal_s_untrained_release_does_not_pass_for_the_trained_one(
    document: dict[str, Any], write: Any, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = makeshift(document, write, store)
    monkeypatch.setattr("builder.export.tensorflow.available", lambda: False)
    with pytest.raises(SourceError, match="TensorFlow and tf2onnx are not installed"):
        build(file, store)  # it wants to export again, which needs what this environment lacks


def test_a_rehearsal_goes_on_with_its_untrained_release(
    document: dict[str, Any], write: Any, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    file = makeshift(document, write, store)
    assert build(file, store, allow_untrained=True)["action"] == "unchanged"
    assert "trained weights, from the package index: --model efficientnet_lite0" in capsys.readouterr().err


def bare(folder: Path, **keys: object) -> Path:
    """A spec with nothing but the ONNX file."""
    return change(write_scale(folder), source={"onnx": "scale.onnx"}, **keys)


def test_a_plain_onnx_file_is_enough(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The golden samples are then onnxruntime's answers to seeded inputs, and that is said."""
    figures = build(bare(tmp_path, parity={"samples": 11, "max_abs": 1e-4}), store)["manifest"]["parity"]
    assert "no golden samples are given; parity is against onnxruntime's answers" in capsys.readouterr().err
    assert (figures["samples"], figures["reference"]) == (11, "onnxruntime's answers")
    with np.load(store.root / "releases" / "scale" / "1" / "golden.npz") as golden:
        x, scores = golden["input.x"], golden["output.scores"]
    assert len(np.unique(x, axis=0)) == 11
    np.testing.assert_allclose(scores, x * 2, atol=1e-5)


def test_golden_samples_that_are_given_are_the_source_model_s(store: Store, tmp_path: Path) -> None:
    figures = build(write_scale(tmp_path), store)["manifest"]["parity"]
    assert figures["reference"] == "the source model's answers"


def test_made_golden_samples_are_kept_until_the_model_changes(store: Store, tmp_path: Path) -> None:
    file = bare(tmp_path)
    build(file, store)
    (kept,) = store.cache.iterdir()
    before = (kept / "golden.npz").stat().st_mtime_ns
    build(file, store, force=True)
    assert (kept / "golden.npz").stat().st_mtime_ns == before
    bare(tmp_path, parity={"seed": 5})
    build(file, store)
    assert len(list(store.cache.iterdir())) == 2


def test_an_onnx_model_that_its_inputs_break_is_refused_with_the_next_step(
    store: Store, tmp_path: Path
) -> None:
    file = write_lookup(tmp_path, rows=3)
    inputs = [{"name": "index", "dtype": "INT32", "dims": [1], "samples": {"uniform": [50, 60]}}]
    with pytest.raises(ExportError) as error:
        build(change(file, source={"onnx": "lookup.onnx"}, inputs=inputs), store)
    assert "onnxruntime cannot make them" in error.value.found
    assert "\n" not in error.value.found
    assert "samples:" in error.value.remedy


def run(*argv: str | Path) -> int:
    return cli.main([str(a) for a in argv])


def test_the_command_builds_and_prints_json_alone_on_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_scale(tmp_path)
    argv = ("deploy", file, "--engine", "onnxruntime", "--models-dir", tmp_path / "v", "--json")
    assert run(*argv) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)[0]["action"] == "built"
    assert "parity at batch" in shown.err


def test_without_json_nothing_goes_to_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_scale(tmp_path)
    assert run("deploy", file, "--engine", "onnxruntime", "--models-dir", tmp_path / "v") == 0
    assert capsys.readouterr().out == ""


def test_a_refusal_is_exit_code_1_with_the_reason_and_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = change(write_scale(tmp_path), batch={"max": 0})
    assert run("deploy", file, "--engine", "onnxruntime", "--models-dir", tmp_path / "v") == 1
    err = capsys.readouterr().err
    assert err.startswith(f"error: {file}: batch.max: found 0")
    assert "Traceback" not in err


def test_a_parity_failure_is_exit_code_1_with_the_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = wrong_golden(write_scale(tmp_path))
    assert run("deploy", file, "--engine", "onnxruntime", "--models-dir", tmp_path / "v") == 1
    assert "max abs 1" in capsys.readouterr().err


def test_the_last_spec_is_refused_before_the_first_is_built(tmp_path: Path) -> None:
    good = write_scale(tmp_path / "a")
    bad = change(write_scale(tmp_path / "b", name="bad"), batch={"max": 0})
    assert run("deploy", good, bad, "--engine", "onnxruntime", "--models-dir", tmp_path / "v") == 1
    assert not (tmp_path / "v" / "releases" / "scale").exists()


def test_an_unwritable_volume_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "v").touch()
    file = write_scale(tmp_path)
    assert run("deploy", file, "--engine", "onnxruntime", "--models-dir", tmp_path / "v") == 1
    assert "cannot be written" in capsys.readouterr().err


def test_tensorrt_without_trtexec_is_exit_code_1_with_a_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRTEXEC", str(tmp_path / "no-trtexec"))
    monkeypatch.setattr("builder.engine.tensorrt._PLACES", ())
    assert run("deploy", write_scale(tmp_path), "--engine", "tensorrt", "--models-dir", tmp_path / "v") == 1
    err = capsys.readouterr().err
    assert "no-trtexec was not found" in err
    assert "next: " in err


@pytest.mark.parametrize("argv", [[], ["build"], ["build", "m", "--engine", "tflite"], ["explode"]])
def test_wrong_usage_is_exit_code_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run(*argv)
    assert stop.value.code == 2
    assert "usage: python -m builder" in capsys.readouterr().err


def test_an_export_is_a_spec_that_builds_elsewhere(tmp_path: Path) -> None:
    file = change(write_lookup(tmp_path / "a"), parity={"max_abs": 0.001})
    file.write_text(file.read_text().replace("0.001", "1e-3"))
    assert run("export", file, "--output", tmp_path / "out") == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"lookup.yaml", "model.onnx", "golden.npz"}
    there = tmp_path / "elsewhere"
    (tmp_path / "out").rename(there)
    argv = ("deploy", there / "lookup.yaml", "--engine", "onnxruntime", "--models-dir", tmp_path / "v")
    assert run(*argv) == 0
    assert os.readlink(tmp_path / "v" / "repository" / "lookup") == "../releases/lookup/1/model"


def test_an_export_never_overwrites_the_spec_it_is_made_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_scale(tmp_path)
    before = file.read_text()
    assert run("export", file, "--output", tmp_path) == 1
    assert file.read_text() == before
    assert "would be overwritten" in capsys.readouterr().err


def test_a_build_publishes_and_what_is_live_stays_live(store: Store, tmp_path: Path) -> None:
    file = write_scale(tmp_path)
    build(file, store)
    result = publish(change(file, batch={"max": 2}), store)
    assert (result["action"], result["version"], result["live"]) == ("built", 2, 1)
    assert publish(file, store)["action"] == "unchanged"
    assert store.live("scale") == 1


def test_the_manifest_knows_every_file_of_the_release(store: Store, tmp_path: Path) -> None:
    data = build(write_scale(tmp_path), store)["manifest"]
    release = store.folder("scale", 1)
    there = {str(p.relative_to(release)): hashing.of_path(p) for p in release.rglob("*") if p.is_file()}
    del there["manifest.json"]
    assert data["files"] == there


def test_what_is_built_is_what_was_hashed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source is replaced while its release is being built: none of the new one is in the release."""
    file = write_scale(tmp_path)
    before = hashing.of_path(tmp_path / "scale.onnx")
    real = pipeline.onnx_model.check

    def check(*args: Any) -> None:
        write_scale(tmp_path, factor=9.0)
        real(*args)

    monkeypatch.setattr(pipeline.onnx_model, "check", check)
    data = build(file, store)["manifest"]
    assert hashing.of_path(tmp_path / "scale.onnx") != before
    assert data["source"]["sha256"]["model"] == data["files"]["model.onnx"] == before
    assert hashing.of_path(store.folder("scale", 1) / "model" / "1" / "model.onnx") == before


def test_an_error_names_the_user_s_file_and_not_our_copy(store: Store, tmp_path: Path) -> None:
    file = wrong_golden(write_scale(tmp_path))
    (tmp_path / "scale.npz").write_bytes(b"")
    with pytest.raises(SourceError) as error:
        build(file, store)
    assert str(tmp_path / "scale.npz") in str(error.value)
    assert "staging" not in str(error.value)
    assert list((store.root / "staging").iterdir()) == []


def exporting(monkeypatch: pytest.MonkeyPatch, file: Path, act: Any = lambda: None) -> list[Path]:
    """TensorFlow stood in for by a model that is there already; the folders it was exported into."""
    folders = []

    def export(_spec: Any, folder: Path, _log: Path, **_: Any) -> dict[str, Any]:
        folders.append(folder)
        shutil.copyfile(file.with_suffix(".onnx"), folder / "model.onnx")
        act()
        shutil.copyfile(file.with_suffix(".npz"), folder / "golden.npz")
        return {"kind": "file", "untrained": False, "description": "a file"}

    monkeypatch.setattr("builder.export.tensorflow.export", export)
    return folders


def keras(folder: Path, name: str) -> Path:
    """A spec whose source is a .keras file."""
    file = write_scale(folder, name=name)
    (folder / "m.keras").write_text("a model")
    return change(file, source={"keras": "m.keras"})


def test_models_net_and_net_v2_keep_each_other_s_exports(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = keras(tmp_path / "v2", "net-v2")
    folders = exporting(monkeypatch, other)
    build(other, store)
    mine = keras(tmp_path / "net", "net")
    for seed in range(4):
        exporting(monkeypatch, mine)
        build(change(mine, parity={"seed": seed, "max_abs": 1e-4}), store)
    kept = sorted(p.name.rpartition("-")[0] for p in store.cache.iterdir())
    assert kept == ["net", "net", "net-v2"]
    assert len(folders) == 1


@pytest.mark.parametrize("end", [ExportError("unknown op"), KeyboardInterrupt()], ids=["fails", "ends"])
def test_an_export_that_does_not_end_leaves_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: BaseException
) -> None:
    file = keras(tmp_path / "net", "net")
    (store.cache / ".net-0123456789abcdef-77").mkdir()  # as the code before left them

    def act() -> None:
        raise end

    exporting(monkeypatch, file, act)
    with pytest.raises(type(end)):
        build(file, store)
    assert list((store.root / "staging").iterdir()) == []
    assert [p for p in store.cache.iterdir() if not p.name.startswith(".")] == []
    exporting(monkeypatch, file)
    assert build(file, store)["version"] == 1
    assert [p.name for p in store.cache.iterdir() if p.name.startswith(".")] == []


def test_an_unchanged_model_is_not_exported_again_even_without_a_cache(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = keras(tmp_path / "net", "net")
    folders = exporting(monkeypatch, file)
    build(file, store)
    shutil.rmtree(store.cache)
    store.cache.mkdir()
    assert build(file, store)["action"] == "unchanged"
    assert len(folders) == 1


def test_an_export_anew_that_comes_out_the_same_needs_no_release(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another TensorFlow, the same ONNX file: the engine is made of that."""
    file = keras(tmp_path / "net", "net")
    folders = exporting(monkeypatch, file)
    build(file, store)
    monkeypatch.setattr(manifest, "tools", lambda: {"python": "9.9"})
    assert build(file, store)["action"] == "unchanged"
    assert len(folders) == 2
    assert store.versions("net") == [1]
    assert list((store.root / "staging").iterdir()) == []
