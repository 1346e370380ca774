"""What the proof of a release would notice is measured when it is built."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper
from ops.commands import releases as releases_command
from support.models import write_model, write_ranked, write_scale
from support.resnet import write_resnet
from triton_stack_client.errors import ServerError
from triton_stack_client.verify import release
from triton_stack_client.verify.golden import Golden, Tally

from builder.errors import SourceError
from builder.export import golden
from builder.release import build, mutants
from builder.release.lifecycle import ModelReleases
from builder.release.store import Store
from builder.spec import loader
from builder.spec.model import Spec
from models_volume.layout import Volume

MakeSpec = Callable[..., Spec]


def build_release(file: Path, folder: Path) -> dict[str, Any]:
    result = build.build(
        file, Store(folder), "onnxruntime", allow_untrained=True, force=True
    )  # fmt: skip
    data: dict[str, Any] = result["manifest"]
    return data


def passed(manifest: dict[str, Any]) -> list[str]:
    return [row["mutant"] for row in manifest["proof"]["passed"]]


def write_flat(folder: Path, gain: float, samples: np.ndarray | None = None) -> Path:
    """A linear classifier of pictures whose softmax is the flatter, the smaller ``gain`` is."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    weights = (rng.standard_normal((16 * 16 * 3, 50)) * gain).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["pixels"], ["p"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["p"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["scores"], axis=-1),
        ],
        "flat",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", 16, 16, 3])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 50])],
        [numpy_helper.from_array(weights, "w")],
    )
    spec = {
        "inputs": [{"name": "pixels", "dtype": "UINT8", "dims": [16, 16, 3]}],
        "outputs": [{"name": "scores", "dtype": "FP32", "dims": [50]}],
        "batch": {"max": 8},
        "precision": "fp32",
    }
    pixels = samples
    if pixels is None:
        pixels = rng.integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    logits = pixels.reshape(len(pixels), -1).astype(np.float32) @ weights
    scores = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores /= scores.sum(axis=1, keepdims=True)
    return write_model(folder, "flat", graph, {"pixels": pixels}, {"scores": scores}, spec, "")


def test_every_mutant_of_a_flat_softmax_is_noticed(tmp_path: Path) -> None:
    """All scores within 0.0004 of 1/50: the spec's 0.05 would let anything pass."""
    manifest = build_release(write_flat(tmp_path, gain=1e-6), tmp_path / "v")
    assert manifest["contract"]["tolerance"]["max_abs"] == 0.05
    assert manifest["proof"] == {"mutants": 9, "noticed": 9, "passed": []}
    _, outputs = golden.load(tmp_path / "flat.npz", loader.load(tmp_path / "flat.yaml"))
    assert np.ptp(outputs["scores"]) < 0.05


def test_every_mutant_of_a_residual_network_is_noticed(tmp_path: Path) -> None:
    """Untrained, on noise: pictures upside down change its answers by less than the spec's tolerance."""
    manifest = build_release(write_resnet(tmp_path, name="resnet", blocks=(1, 1, 1, 1)), tmp_path / "v")
    assert manifest["proof"]["passed"] == []
    assert manifest["proof"]["noticed"] == manifest["proof"]["mutants"] == 9


def test_the_names_of_a_picture_s_mutants_say_what_they_do(make_spec: MakeSpec) -> None:
    preprocessing = {"mode": "caffe", "where": "client"}
    s = make_spec(inputs=[{"name": "x", "dtype": "FP16", "dims": [8, 8, 3], "preprocessing": preprocessing}])
    found = {m.name: m.arrays["x"] for m in mutants.of_inputs(s, golden.make_inputs(s))}
    assert set(found) == {
        "input zeroed", "pictures upside down", "pictures mirrored", "channels swapped",
        "preprocessing done twice", "preprocessing left out",
    }  # fmt: skip
    raw = found["preprocessing left out"]
    assert (raw.min(), raw.dtype) == (0, np.float16), "pixels again"
    prepared = s.inputs[0].preprocessing.apply(raw.astype(np.float32)).astype(np.float16)
    np.testing.assert_array_equal(prepared, golden.make_inputs(s)["x"])


def test_preprocessing_done_by_the_client_too_keeps_the_pixels_type(make_spec: MakeSpec) -> None:
    preprocessing = {"mode": "unit", "where": "graph"}
    s = make_spec(
        source={"application": "ResNet50", "weights": "imagenet"},
        inputs=[{"name": "x", "dtype": "UINT8", "dims": [8, 8, 1], "preprocessing": preprocessing}],
    )
    found = {m.name: m.arrays["x"] for m in mutants.of_inputs(s, golden.make_inputs(s))}
    twice = found["preprocessing done twice"]
    assert (twice.dtype, set(np.unique(twice))) == (np.dtype(np.uint8), {0, 1})
    assert "channels swapped" not in found


def test_two_inputs_and_two_outputs_are_mixed_up(tmp_path: Path) -> None:
    manifest = build_release(write_ranked(tmp_path), tmp_path / "v")
    assert passed(manifest) == []
    s = loader.load(tmp_path / "ranked.yaml")
    inputs, outputs = golden.load(tmp_path / "ranked.npz", s)
    assert {"x of another row", "row of another row"} <= {m.name for m in mutants.of_inputs(s, inputs)}
    assert {"scores zeroed", "best zeroed"} <= {m.name for m in mutants.of_answers(s, outputs) if m.needed}


def write_pair(folder: Path, second: float) -> Path:
    """``a = x`` and ``b = x * second``, of one shape."""
    folder.mkdir(parents=True, exist_ok=True)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["a"]), helper.make_node("Mul", ["x", "f"], ["b"])],
        "pair",
        [value("x", TensorProto.FLOAT, ["N", 4])],
        [value("a", TensorProto.FLOAT, ["N", 4]), value("b", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor("f", TensorProto.FLOAT, [], [second])],
    )
    x = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    tensor = {"dtype": "FP32", "dims": [4]}
    spec = {
        "inputs": [{"name": "x", **tensor}],
        "outputs": [{"name": "a", **tensor}, {"name": "b", **tensor}],
        "batch": {"max": 4},
        "precision": "fp32",
    }
    return write_model(folder, "pair", graph, {"x": x}, {"a": x, "b": x * np.float32(second)}, spec, "")


def test_outputs_that_could_be_swapped_unnoticed_are_refused(tmp_path: Path) -> None:
    assert passed(build_release(write_pair(tmp_path / "1", 2.0), tmp_path / "v")) == []
    with pytest.raises(SourceError) as error:
        build_release(write_pair(tmp_path / "2", 1.0), tmp_path / "v")
    assert "with a and b swapped, the answers would still pass" in str(error.value)


def test_samples_with_one_answer_are_refused_and_the_remedy_is_named(tmp_path: Path) -> None:
    file = write_scale(tmp_path)
    data = dict(np.load(tmp_path / "scale.npz"))
    np.savez(tmp_path / "scale.npz", **{name: np.repeat(a[:1], 5, axis=0) for name, a in data.items()})
    with pytest.raises(SourceError) as error:
        build_release(file, tmp_path / "v")
    assert "rows of the batch rotated" in error.value.found
    assert "scale.npz" in error.value.remedy
    assert Store(tmp_path / "v").versions("scale") == []


def test_an_untrained_network_that_answers_all_alike_is_named_not_refused(tmp_path: Path) -> None:
    """No samples can change it: a rehearsal goes on and says what its proof is worth."""
    file = write_scale(tmp_path, factor=0, offset=0.001, weights="untrained")
    manifest = build_release(file, tmp_path / "v")
    assert {"rows of the batch rotated", "input zeroed"} <= set(passed(manifest))
    assert "scores zeroed" not in passed(manifest)
    with pytest.raises(SourceError, match="prove too little"):
        build_release(write_scale(tmp_path / "trained", factor=0, offset=0.001), tmp_path / "v")


def test_the_remedy_for_a_model_to_export_is_a_samples_file(make_spec: MakeSpec) -> None:
    from builder.release import power

    s = make_spec(source={"application": "ResNet50", "weights": "imagenet"})
    error = power._too_weak(s, mutants.Mutant("rows of the batch rotated", {}, needed=True))
    assert "samples: {file: X.npy} under x, an array [N, 4]" in error.remedy


def test_a_mutant_that_passes_is_named_with_the_reason(tmp_path: Path) -> None:
    """The sum of pixels is the same upside down."""
    onnx_file = write_flat(tmp_path, gain=1e-4)
    proto = onnx.load(str(tmp_path / "flat.onnx"))
    columns = np.repeat(np.random.default_rng(1).standard_normal((1, 50)) * 1e-5, 768, axis=0)
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(columns.astype(np.float32), "w"))
    onnx.save(proto, str(tmp_path / "flat.onnx"))
    data = dict(np.load(tmp_path / "flat.npz"))
    logits = data["input.pixels"].reshape(6, -1).astype(np.float32) @ columns.astype(np.float32)
    data["output.scores"] = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    np.savez(tmp_path / "flat.npz", **data)
    document = yaml.safe_load(onnx_file.read_text())
    del document["source"]["sha256"]
    onnx_file.write_text(yaml.safe_dump(document))
    manifest = build_release(onnx_file, tmp_path / "v")
    assert passed(manifest) == ["pictures upside down", "pictures mirrored", "channels swapped"]
    assert manifest["proof"]["noticed"] == 6
    assert "that rounding may change" in manifest["proof"]["passed"][0]["reason"]


class Answers:
    """A server in a few lines: the release's verified answers, ``spoil`` having had its way."""

    protocol = "http"

    def __init__(self, found: release.Release, spoil: Callable[[np.ndarray], np.ndarray]) -> None:
        self._inputs, _ = found.golden()
        self._verified = found.verified()
        self._spoil = spoil

    def infer(self, _model: str, _version: int, inputs: Any, names: list[str]) -> dict[str, np.ndarray]:
        known = self._inputs["x"]
        rows = [int(np.flatnonzero((known == x).all(axis=1))[0]) for x in inputs["x"]]
        return {n: self._spoil(self._verified[n][rows]) for n in names}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda a: np.roll(a, 1, axis=0),
        lambda a: a + np.float32(0.01),
        np.zeros_like,
        lambda a: a[:, ::-1],
        lambda a: a.astype(np.float16).astype(np.float32),
    ],
    ids=["rows rotated", "less than the spec's 0.05", "zeros", "reversed", "rounded to FP16"],
)
def test_the_client_refuses_what_differs_from_the_verified_answers(
    tmp_path: Path, spoil: Callable[[np.ndarray], np.ndarray]
) -> None:
    build_release(write_scale(tmp_path, parity={"max_abs": 0.05}), tmp_path / "v")
    found = release.read(tmp_path / "v", "scale", 1)
    Golden(found).batched(Answers(found, lambda a: a), 8, Tally())  # type: ignore[arg-type]
    with pytest.raises(ServerError, match="output scores differs"):
        Golden(found).batched(Answers(found, spoil), 8, Tally())  # type: ignore[arg-type]


def test_an_older_release_without_verified_answers_is_read_and_held_to_its_spec(tmp_path: Path) -> None:
    build_release(write_scale(tmp_path, parity={"max_abs": 0.05}), tmp_path / "v")
    folder = Volume(tmp_path / "v").release("scale", 1)
    data = json.loads((folder / "manifest.json").read_text())
    del data["parity"]["served"], data["proof"]
    (folder / "manifest.json").write_text(json.dumps(data))
    server = Answers(release.read(tmp_path / "v", "scale", 1), lambda a: a + np.float32(0.04))
    (folder / "verified.npz").unlink()
    found = release.read(tmp_path / "v", "scale", 1)
    assert Golden(found).batched(server, 8, Tally()) == "max abs 0.04"  # type: ignore[arg-type]


def test_releases_say_how_much_the_proof_would_notice(tmp_path: Path) -> None:
    build_release(write_flat(tmp_path, gain=1e-6), tmp_path / "v")
    [row] = ModelReleases(Store(tmp_path / "v"), "flat").rows()
    assert "9 of 9 mutants noticed" in releases_command._row(row)
    del row["proof"]  # as a release of before
    assert len(releases_command._row(row)) == 11
