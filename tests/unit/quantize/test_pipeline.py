"""INT8 from a spec to a release on the CPU engine, and all that it is refused for."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from ops.commands import releases
from PIL import Image
from support.conv_net import FRAGILE
from support.stack import ROOT

from builder import cli
from builder import engine as engines
from builder.engine.onnxruntime import OnnxRuntime
from builder.errors import BuilderError, EvaluationError, ParityError, QuantizationError
from builder.export import onnx_model
from builder.release import build as pipeline
from builder.release.store import Store
from builder.spec import loader, model

Change = Callable[..., Path]


def build(file: Path, store: Store, **options: Any) -> dict[str, Any]:
    chosen = {"allow_untrained": False, "force": False, **options}
    return pipeline.deploy(file, store, "onnxruntime", **chosen)


def answers(file: Path, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["scores"], {"pixels": images})[0])


def test_an_int8_release_serves_the_quantized_model(net: Path, store: Store) -> None:
    result = build(net / "net.yaml", store)
    release = store.folder("net", 1)
    served = release / "model" / "1" / "model.onnx"
    kinds = [n.op_type for n in onnx.load(str(served)).graph.node]
    assert kinds.count("QuantizeLinear") > 4
    assert served.read_bytes() == (release / "model.onnx").read_bytes()
    with np.load(net / "test.npz") as data:
        images, labels = data["inputs"], data["labels"]
    before, after = answers(net / "net.onnx", images), answers(served, images)
    assert not np.array_equal(before, after), "it computes in INT8"
    accuracy = [float((a.argmax(1) == labels).mean()) for a in (before, after)]
    assert accuracy[0] > 0.9
    assert accuracy[1] >= accuracy[0] - 0.005
    told = result["manifest"]["quantization"]
    (drop,) = [c for c in told["checks"] if "drop" in c["what"]]
    assert (drop["before"]["accuracy"], drop["after"]["accuracy"]) == tuple(accuracy)
    assert told["held_out"] == {"samples": 360, "from": "evaluation"}
    assert result["manifest"]["parity"]["reference"] == "the quantized model's answers under onnxruntime"


def test_the_report_is_part_of_the_release(net: Path, store: Store) -> None:
    manifest = build(net / "net.yaml", store)["manifest"]
    release = store.folder("net", 1)
    report = json.loads((release / "quantization.json").read_text("utf-8"))
    assert {"quantization.json", "quantization.html"} <= set(manifest["files"])
    assert {row["name"] for row in report["layers"]} == {"conv1", "conv2", "conv3"}
    ratios = [row["alone"]["sqnr_db"] for row in report["layers"]]
    assert ratios == sorted(ratios), "the worst first"
    assert [row["class"] for row in report["classes"]] == [str(n) for n in range(10)]
    assert sum(row["samples"] for row in report["classes"]) == 360
    page = (release / "quantization.html").read_text("utf-8")
    assert page.count("data:image/png;base64,") == len(report["worst"]) == 12
    for row in report["layers"]:
        assert row["name"] in page


def test_nothing_is_quantized_again_where_nothing_changed(
    net: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(net / "net.yaml", store)
    monkeypatch.setattr("builder.quantize.make.make", lambda *_, **__: pytest.fail("it quantizes"))
    assert build(net / "net.yaml", store)["action"] == "unchanged"


def test_another_batch_size_takes_the_model_that_was_quantized_before(
    net: Path, store: Store, change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(net / "net.yaml", store)
    with monkeypatch.context() as patched:
        patched.setattr("builder.quantize.make.make", lambda *_, **__: pytest.fail("it quantizes"))
        result = build(change(net, batch={"max": 16}), store)
    assert (result["version"], result["manifest"]["quantization"]["layers"]) == (2, 3)
    both = [(store.folder("net", n) / "model.onnx").read_bytes() for n in (1, 2)]
    assert both[0] == both[1]


def test_other_labelled_data_are_judged_on_anew(net: Path, store: Store) -> None:
    build(net / "net.yaml", store)
    with np.load(net / "test.npz") as data:
        np.savez(net / "test.npz", inputs=data["inputs"][:340], labels=data["labels"][:340])
    told = build(net / "net.yaml", store)["manifest"]["quantization"]
    assert told["held_out"]["samples"] == 340


def test_a_damaged_quantized_model_in_the_cache_is_made_again(net: Path, store: Store) -> None:
    build(net / "net.yaml", store)
    (kept,) = store.cache.glob("*-int8")
    (kept / "model.onnx").write_bytes(b"")
    build(net / "net.yaml", store, force=True)
    assert (kept / "model.onnx").read_bytes() == (store.folder("net", 2) / "model.onnx").read_bytes() != b""


@pytest.mark.parametrize(
    "keys",
    [{"calibration": {"file": "train.npy", "method": "minmax"}}, {"precision": "int8"},
     {"int8": {"min_agreement": 0.9}}, {"precision": "fp16", "calibration": None}],
)  # fmt: skip
def test_other_quantization_is_another_release(net: Path, store: Store, change: Change, keys: Any) -> None:
    build(net / "net.yaml", store)
    assert build(change(net, **keys), store)["version"] == 2


def test_other_calibration_data_is_another_release(net: Path, store: Store) -> None:
    build(net / "net.yaml", store)
    data = np.load(net / "train.npy")
    np.save(net / "train.npy", data[::-1])
    assert build(net / "net.yaml", store)["version"] == 2


def test_the_same_inputs_give_the_same_bytes(net: Path, store: Store, change: Change) -> None:
    build(net / "net.yaml", store)
    for kept in store.cache.glob("*-int8"):
        shutil.rmtree(kept)
    build(net / "net.yaml", store, force=True)
    both = [(store.folder("net", n) / "model.onnx").read_bytes() for n in (1, 2)]
    assert hashlib.sha256(both[0]).digest() == hashlib.sha256(both[1]).digest()


def refusal(file: Path, store: Store, kind: type[BuilderError] = QuantizationError) -> str:
    """What is said; nothing is published, and no build is left lying about."""
    with pytest.raises(kind) as e:
        build(file, store)
    assert store.versions("net") == []
    assert list((store.root / "staging").iterdir()) == []
    return str(e.value)


def test_a_fragile_network_is_refused_with_its_layer_and_the_figures(
    fragile: Path, store: Store, change: Change
) -> None:
    said = refusal(change(fragile, int8={"max_left_out": 0}), store)
    worst = next(line for line in said.splitlines() if "layer " in line)
    assert f"layer {FRAGILE} (Conv, in INT8), alone in INT8: agreement " in worst
    assert "SQNR" in worst
    assert "0 of 3 layers left out" in said
    page = store.volume.logs / "net.quantization.html"
    assert str(page) in said
    assert "Refused" in page.read_text("utf-8")


def test_a_refused_model_leaves_the_live_release(fragile: Path, store: Store, change: Change) -> None:
    build(change(fragile, precision="fp32", calibration=None), store)
    file = change(fragile, precision="int8", calibration={"file": "train.npy"}, int8={"max_left_out": 0})
    with pytest.raises(QuantizationError):
        build(file, store)
    assert (store.live("net"), store.versions("net")) == (1, [1])


def test_the_layer_that_int8_hurts_is_left_out_of_it(fragile: Path, store: Store) -> None:
    told = build(fragile / "net.yaml", store)["manifest"]["quantization"]
    assert told["left_out"] == [FRAGILE]
    graph = onnx.load(str(store.folder("net", 1) / "model.onnx")).graph
    by_output = {name: node for node in graph.node for name in node.output}
    (conv,) = [n for n in graph.node if n.name == FRAGILE]
    assert {by_output[i].op_type for i in conv.input if i in by_output} == {"Relu"}


def test_untrained_weights_are_refused(net: Path, store: Store, change: Change) -> None:
    model = onnx.load(str(net / "net.onnx"))
    onnx_model.set_weights(model, {"kind": "untrained", "untrained": True, "description": "UNTRAINED"})
    onnx.save(model, str(net / "net.onnx"))
    with pytest.raises(QuantizationError, match="untrained weights are not quantized"):
        build(change(net, evaluation=None), store, allow_untrained=True)
    assert store.versions("net") == []


def test_evaluation_data_that_is_calibrated_on_is_refused(net: Path, store: Store) -> None:
    train = np.load(net / "train.npy")
    with np.load(net / "test.npz") as data:
        inputs, labels = data["inputs"], data["labels"]
    np.savez(net / "test.npz", inputs=np.concatenate([train, inputs]), labels=np.resize(labels, 1797))
    said = refusal(net / "net.yaml", store)
    assert "128 samples of the evaluation are calibrated on: row " in said


def test_too_few_held_out_samples_are_refused(net: Path, store: Store, change: Change) -> None:
    with np.load(net / "test.npz") as data:
        np.savez(net / "few.npz", inputs=data["inputs"][:99], labels=data["labels"][:99])
    said = refusal(change(net, evaluation={"npz": "few.npz", "max_drop": 1.0}), store)
    assert "the evaluation has 99 samples" in said
    assert "at least 100" in said


def test_a_bound_that_few_samples_cannot_show_says_how_many_would(
    net: Path, store: Store, change: Change
) -> None:
    said = refusal(change(net, int8={"min_agreement": 0.992}), store)
    assert "samples are too few to show it; about " in said


def test_without_an_evaluation_the_rest_of_the_calibration_data_is_held_out(
    net: Path, store: Store, change: Change
) -> None:
    told = build(change(net, evaluation=None, int8={"samples": 300}), store)["manifest"]["quantization"]
    assert told["held_out"] == {"samples": 300, "from": "the rest of the calibration data"}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def wrong_size(path: Path) -> None:
    np.save(path, np.zeros((200, 9, 9, 1), np.uint8))


def wrong_type(path: Path) -> None:
    np.save(path, np.zeros((200, 8, 8, 1), np.float32))


def too_few(path: Path) -> None:
    np.save(path, np.load(path)[:100])


def all_the_same(path: Path) -> None:
    np.save(path, np.repeat(np.load(path)[:1], 500, axis=0))


def one_class(path: Path) -> None:
    data = np.load(path)
    picked = answers(path.with_name("net.onnx"), data).argmax(1)
    np.save(path, data[picked == 3])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (cut, "train.npy: cannot be read"),
        (wrong_size, "pixels is uint8 [200, 9, 9, 1]\n  expected: uint8 [N, 8, 8, 1]"),
        (wrong_type, "pixels is float32 [200, 8, 8, 1]"),
        (too_few, "has 100 different samples\n  expected: at least 128"),
        (all_the_same, "has 1 different samples"),
        (one_class, "takes all 128 calibration samples for one class, number 3"),
    ],
)
def test_broken_calibration_data_is_refused(
    net: Path, store: Store, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(net / "train.npy")
    assert words in refusal(net / "net.yaml", store)


def pictures(folder: Path, data: Path, count: int) -> Path:
    """Each in the folder of nobody's class, PNG."""
    folder.mkdir()
    for row, image in enumerate(np.load(data)[:count]):
        Image.fromarray(image[..., 0]).save(folder / f"{row:04}.png")
    return folder


def test_calibration_on_a_folder_of_pictures(net: Path, store: Store, change: Change) -> None:
    pictures(net / "pictures", net / "train.npy", 260)
    keys = {
        "calibration": {"folder": "pictures"},
        "int8": {"min_confident_agreement": 0.9},
        "evaluation": None,
    }
    told = build(change(net, **keys), store)["manifest"]["quantization"]
    assert (told["calibration"]["samples"], told["held_out"]["samples"]) == (128, 132)
    assert told["checks"][0]["sqnr_db"] > 20


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [("0001.png", b"no picture", "0001.png: is not a JPEG"), ("notes.txt", b"", "notes.txt: is no picture")],
)
def test_a_broken_picture_is_refused_by_name(
    net: Path, store: Store, change: Change, name: str, content: bytes, words: str
) -> None:
    pictures(net / "pictures", net / "train.npy", 260)
    (net / "pictures" / name).write_bytes(content)
    said = refusal(change(net, calibration={"folder": "pictures"}, evaluation=None), store)
    assert words in said


def test_evaluation_data_that_does_not_fit_is_refused_before_the_search(net: Path, store: Store) -> None:
    np.savez(net / "test.npz", inputs=np.zeros((200, 9, 9, 1), np.uint8), labels=np.zeros(200, int))
    assert "inputs is uint8 [200, 9, 9, 1]" in refusal(net / "net.yaml", store, EvaluationError)


def test_tensorrt_is_given_the_quantized_model_and_held_to_it(
    net: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "trtexec"
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT / "tests/fakes/trtexec.py"}" "$@"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("TRTEXEC", str(tool))
    result = pipeline.build(net / "net.yaml", store, "tensorrt", allow_untrained=False, force=False)
    argv = result["manifest"]["engine"]["argv"]
    assert ("--fp16" in argv, "--int8" in argv) == (True, True)
    assert result["manifest"]["parity"]["max_abs"] < 1e-4, "the fake runs what it was given on a CPU"


class Noisy(OnnxRuntime):
    """onnxruntime, each answer moved by ``by``: an engine that rounds otherwise."""

    by = 0.0

    def run(self, *args: Any) -> dict[str, np.ndarray]:
        found = super().run(*args)
        return {name: array + np.float32(self.by) for name, array in found.items()}


def test_an_engine_may_be_twice_as_far_off_as_quantizing_went(
    net: Path,
    store: Store,
    change: Change,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(engines, "create", lambda *_, **__: Noisy())
    monkeypatch.setattr(model, "MAX_ABS", 1e-4)  # less than quantizing changes here
    manifest = build(net / "net.yaml", store)["manifest"]
    changed = manifest["quantization"]["golden"]["changed"]
    assert changed > 1e-3, "or this shows nothing"
    assert manifest["contract"]["tolerance"]["max_abs"] == 2 * changed
    assert manifest["spec"]["parity"]["max_abs"] == 2 * changed
    monkeypatch.setattr(Noisy, "by", 1.9 * changed)
    assert build(net / "net.yaml", store, force=True)["manifest"]["parity"]["max_abs"] == pytest.approx(
        1.9 * changed, rel=1e-3
    )
    monkeypatch.setattr(Noisy, "by", 2.1 * changed)
    with pytest.raises(ParityError) as e:
        build(net / "net.yaml", store, force=True)
    assert "leave top1 and max_abs out of parity" in e.value.remedy
    assert "the spec allows" not in capsys.readouterr().err, "it gives no tolerance"
    # A tolerance that the spec gives is held.
    monkeypatch.setattr(Noisy, "by", 1.9 * changed)
    change(net, parity={"max_abs": 1e-4})
    with pytest.raises(ParityError, match="does not agree") as e:
        build(net / "net.yaml", store)
    assert "max abs of at most 0.0001 on" in str(e.value.expected)
    # Said before the engine is built, which takes minutes on a GPU.
    said = capsys.readouterr().err
    assert f"the spec allows max abs 0.0001; quantizing alone changed {changed:.3g}" in said
    assert f"with max_abs left out of parity, {2 * changed:.3g} is allowed" in said


def test_an_exported_spec_names_its_calibration_data_where_they_lie(
    net: Path, store: Store, tmp_path: Path
) -> None:
    out = tmp_path / "out" / "deep"
    assert cli.main(["export", str(net / "net.yaml"), "--output", str(out)]) == 0
    spec = loader.load(out / "net.yaml")
    assert spec.quantization is not None
    assert spec.quantization.path == (net / "train.npy").resolve()
    assert (
        pipeline.build(out / "net.yaml", store, "onnxruntime", allow_untrained=False, force=False)[
            "manifest"
        ]["quantization"]["left_out"]
        == []
    )


def test_the_table_of_releases_tells_how_much_runs_in_int8(fragile: Path, store: Store) -> None:
    manifest = build(fragile / "net.yaml", store)["manifest"]
    row = releases._row({**manifest, "state": "live", "changes": []})
    assert row[4].endswith(", INT8 in 2 of 3 layers")
