"""Every kind of source goes through the one export road: names, dtypes and values come out as specified."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import tritonclient.http
import yaml
from PIL import Image
from support.stack import ROOT, Stack
from support.torch_file import Storage, Tensor, write_zip
from triton_stack_client import Model
from triton_stack_client.errors import ContractError

VENVS = Path(os.environ.get("VENVS_DIR") or ROOT / ".venvs")
PYTHON = VENVS / "builder" / "bin" / "python3"
Spec = dict[str, Any]


LENGTH = {"min": 4, "opt": 16, "max": 40}
SIDE = {"min": 16, "opt": 24, "max": 48}


def tensor(name: str, dtype: str, *dims: int | dict[str, int], **keys: object) -> Spec:
    return {"name": name, "dtype": dtype, "dims": list(dims), **keys}


TWO: Spec = {
    "source": {"keras": "two.keras"},
    "inputs": [
        tensor("b", "INT32", 4, tensor="right", samples={"uniform": [0, 9]}),
        tensor("left", "FP16", 4),
    ],
    "outputs": [tensor("product", "FP32", 4), tensor("sum", "FP16", 4, tensor="total")],
}
DOUBLER: Spec = {
    "source": {"saved_model": "doubler"},
    "inputs": [tensor("x", "FP32", 3)],
    "outputs": [tensor("y", "FP32", 3)],
}
# What goes the whole way: exported, built with onnxruntime, verified, published.
BUILT: dict[str, Spec] = {
    "two": TWO,
    "doubler": DOUBLER,
    "tripler": {**DOUBLER, "source": {"saved_model": "several", "signature": "triple"}},
    "sequential": {
        "source": {"keras": "sequential.keras"},
        "inputs": [tensor("x", "FP32", 4)],
        "outputs": [tensor("scores", "FP32", 3)],
    },
    "labelled": {
        "source": {"keras": "labelled.keras"},
        "inputs": [tensor("image", "UINT8", 8, 8, 1, preprocessing={"mode": "unit", "where": "graph"})],
        "outputs": [tensor("seen", "FP32", 72), tensor("classes", "FP32", 3, labels="labels.txt")],
    },
    "sentences": {
        "source": {"keras": "sentences.keras"},
        "inputs": [tensor("ids", "INT32", LENGTH, samples={"uniform": [0, 50]})],
        "outputs": [tensor("scores", "FP32", 3, labels="labels.txt")],
    },
    "anysize": {
        "source": {"keras": "anysize.keras"},
        "inputs": [
            tensor("picture", "UINT8", SIDE, SIDE, 3, preprocessing={"mode": "unit", "where": "graph"})
        ],
        "outputs": [tensor("kinds", "FP32", 3, labels="labels.txt"), tensor("heat", "FP32", -1, -1, 2)],
    },
    **{
        f"keras2_{kind}": {
            "source": {"keras": f"old.{kind}"},
            "inputs": [tensor("x", "FP32", 8, 8, 1)],
            "outputs": [tensor("scores", "FP32", 3)],
        }
        for kind in ("h5", "keras")
    },
}
MOBILE: Spec = {
    "source": {"application": "MobileNetV2", "weights": {"untrained": {"seed": 3}}},
    "inputs": [tensor("image", "UINT8", 32, 32, 3, preprocessing={"mode": "tf", "where": "graph"})],
    "outputs": [tensor("scores", "FP32", 7)],
    "opset": 13,
}
ONE_KERAS = {"inputs": [tensor("x", "FP32", 4)], "outputs": [tensor("y", "FP32", 4)]}
# What is refused: the spec, the words of the first line, and of what to do.
REFUSED: dict[str, tuple[Spec, str, str]] = {
    "no_such_net": (
        {**ONE_KERAS, "source": {"application": "NoSuchNet", "weights": {"untrained": {"seed": 0}}}},
        'keras.applications has no "NoSuchNet"',
        "ResNet50",
    ),
    "wrong_weights": (
        {
            "source": {"architecture": "efficientnet_lite0"},
            "inputs": [
                tensor("image", "UINT8", 224, 224, 3, preprocessing={"mode": "lite", "where": "graph"})
            ],
            "outputs": [tensor("y", "FP32", 1000)],
        },
        "the weights are not EfficientNet-Lite0's: _conv_stem.weight is missing",
        "[32, 3, 3, 3]",
    ),
    "no_such_input": ({**ONE_KERAS, "source": {"keras": "two.keras"}}, 'no input called "x"', "left, right"),
    "unknown_op": (
        {
            "source": {"saved_model": "svd"},
            "inputs": [tensor("x", "FP32", 3, 3)],
            "outputs": [tensor("y", "FP32", 3)],
        },
        "tf2onnx does not know the op Svd",
        "use other ops",
    ),
    "strings": (
        {
            "source": {"saved_model": "text"},
            "inputs": [tensor("x", "INT32", 3, samples={"uniform": [0, 9]})],
            "outputs": [tensor("y", "FP32", 3)],
        },
        "the model's input words is of dtype string",
        "where requests are made",
    ),
    "custom_layer": (
        {**ONE_KERAS, "source": {"keras": "custom.keras"}},
        "has the custom layer Mine",
        "model.export(FOLDER)",
    ),
    "lambda_layer": (
        {**ONE_KERAS, "source": {"keras": "lambda.keras"}},
        "has a Lambda layer",
        "model.export(FOLDER)",
    ),
    "not_a_model": (
        {**ONE_KERAS, "source": {"keras": "labels.txt"}},
        "keras labels.txt: cannot be loaded",
        "export.log",
    ),
    "wrong_input_dims": (
        {**DOUBLER, "inputs": [tensor("x", "FP32", 5)]},
        "input x has the dims [5] in the spec and [3] in the model",
        "dims: [3]",
    ),
    "wrong_output_dims": (
        {**DOUBLER, "outputs": [tensor("y", "FP32", 1, 3)]},
        "output y has the dims [1, 3] in the spec and [3] in the model",
        "dims: [3]",
    ),
    "which_signature": (
        {**DOUBLER, "source": {"saved_model": "several"}},
        "has several signatures and none is serving_default: double, triple",
        "signature: double",
    ),
    "no_such_signature": (
        {**DOUBLER, "source": {"saved_model": "several", "signature": "half"}},
        'has no signature "half"',
        "one of double, triple",
    ),
    "fixed_batch": (
        {**DOUBLER, "source": {"saved_model": "fixed"}},
        "input values has a fixed batch of 2",
        "None in its first dimension",
    ),
}


@dataclass(frozen=True)
class Done:
    """One command of the builder."""

    code: object
    out: str
    err: str


@dataclass(frozen=True)
class Exports:
    """Every model made and every command run, in two processes: TensorFlow takes seconds to start."""

    folder: Path
    export: dict[str, Done]
    build: dict[str, Done]

    def session(self, name: str) -> onnxruntime.InferenceSession:
        return onnxruntime.InferenceSession(str(self.folder / "out" / name / "model.onnx"))

    def manifest(self, name: str) -> dict[str, Any]:
        path = self.folder / "models" / "releases" / name / "1" / "manifest.json"
        data: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return data


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    folder = tmp_path_factory.mktemp("tf")
    (folder / "labels.txt").write_text("cat\ndog\nfish\n")
    support = ROOT / "tests" / "support"
    subprocess.run([PYTHON, support / "make_tf_models.py", folder], check=True, capture_output=True)
    write_zip(
        folder / "wrong.pth", {"_fc.weight": Tensor(Storage("0", np.zeros(4, np.float32)), (2, 2), (2, 1))}
    )
    weights = {"file": "wrong.pth", "sha256": hashlib.sha256((folder / "wrong.pth").read_bytes()).hexdigest()}
    REFUSED["wrong_weights"][0]["source"]["weights"] = weights
    specs = {**BUILT, "mobile": MOBILE, **{name: spec for name, (spec, _, _) in REFUSED.items()}}
    jobs = {}
    for name, keys in specs.items():
        path = write(folder, name, keys)
        jobs["export", name] = ["export", str(path), "--output", str(folder / "out" / name), "--json"]
        if name in BUILT:
            jobs["build", name] = ["build", str(path), "--engine", "onnxruntime", "--json",
                                   "--models-dir", str(folder / "models")]  # fmt: skip
    (folder / "jobs.json").write_text(json.dumps(list(jobs.values())))
    argv = [PYTHON, support / "run_builder.py", folder / "jobs.json", folder / "results.json"]
    subprocess.run(argv, check=True, capture_output=True, timeout=250)
    results = json.loads((folder / "results.json").read_text())
    done = {key: Done(**result) for key, result in zip(jobs, results, strict=True)}
    return Exports(
        folder,
        {name: d for (verb, name), d in done.items() if verb == "export"},
        {name: d for (verb, name), d in done.items() if verb == "build"},
    )


def write(folder: Path, name: str, keys: Spec) -> Path:
    path = folder / f"{name}.yaml"
    spec = {"name": name, "batch": {"max": 4}, "precision": "fp32", "parity": {"max_abs": 0.01}, **keys}
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path


@pytest.mark.parametrize("name", sorted({*BUILT, "mobile"}))
def test_every_kind_of_model_is_exported(exports: Exports, name: str) -> None:
    assert exports.export[name].code == 0, exports.export[name].err
    written = {p.name for p in (exports.folder / "out" / name).iterdir()}
    labels = {"labels.txt"} if name in ("labelled", "sentences", "anysize") else set()
    assert written == {"model.onnx", "golden.npz", f"{name}.yaml", *labels}, "the log is gone"


@pytest.mark.parametrize("name", sorted(BUILT))
def test_every_kind_of_model_is_built_and_verified(exports: Exports, name: str) -> None:
    assert exports.build[name].code == 0, exports.build[name].err
    figures = exports.manifest(name)["parity"]
    assert figures["reference"] == "the source model's answers"
    assert figures["max_abs"] < 0.01
    assert {row["output"] for row in figures["by_batch"]} == {o["name"] for o in BUILT[name]["outputs"]}


def test_a_keras_model_with_two_inputs_and_outputs(exports: Exports) -> None:
    left = np.array([[1, 2, 3, 4]], np.float16)
    right = np.array([[5, 6, 7, 8]], np.int32)
    product, total = exports.session("two").run(["product", "sum"], {"left": left, "b": right})
    assert product.dtype == np.float32
    assert product.tolist() == [[5, 12, 21, 32]]
    assert total.dtype == np.float16
    assert total.tolist() == [[6, 8, 10, 12]]


@pytest.mark.parametrize(("name", "factor"), [("doubler", 2), ("tripler", 3)])
def test_a_saved_model_with_its_variables_by_the_signature_that_is_meant(
    exports: Exports, name: str, factor: int
) -> None:
    x = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    np.testing.assert_array_equal(exports.session(name).run(["y"], {"x": x})[0], x * factor)


@pytest.mark.parametrize("kind", ["h5", "keras"])
def test_a_file_of_keras_2_answers_as_keras_2_did(exports: Exports, kind: str) -> None:
    scores = exports.session(f"keras2_{kind}").run(["scores"], {"x": np.ones((1, 8, 8, 1), np.float32)})[0]
    np.testing.assert_allclose(scores, np.load(exports.folder / "old.npy"), atol=1e-6)


@pytest.mark.parametrize(("name", "range_"), [("sentences", LENGTH), ("anysize", SIDE)])
def test_free_dimensions_are_verified_at_both_ends_too(
    exports: Exports, name: str, range_: dict[str, int]
) -> None:
    manifest = exports.manifest(name)
    (entry,) = manifest["contract"]["inputs"]
    assert [r for r in entry["ranges"] if r] == [range_] * entry["dims"].count(-1)
    rows = {row["point"]: row for row in manifest["parity"]["by_shape"]}
    for point in ("min", "max"):
        (shape,) = rows[point]["inputs"].values()
        assert shape[: entry["dims"].count(-1)] == [range_[point]] * entry["dims"].count(-1)
        assert rows[point]["max_abs"] < 1e-4


def test_the_labels_of_one_output_are_released_with_that_one(exports: Exports) -> None:
    outputs = {o["name"]: o["labels"] for o in exports.manifest("labelled")["contract"]["outputs"]}
    assert outputs == {"seen": None, "classes": "labels.txt"}


def test_an_application_with_preprocessing_in_the_graph(exports: Exports) -> None:
    """MobileNetV2, untrained: raw pixels through the ONNX equal Keras's own preprocessing and model."""
    folder = exports.folder
    out = folder / "out" / "mobile"
    written = yaml.safe_load((out / "mobile.yaml").read_text())
    assert written["source"]["sha256"] == hashlib.sha256((out / "model.onnx").read_bytes()).hexdigest()
    assert "preprocessing" not in written["inputs"][0], "it is in the graph now"
    model = onnx.load(out / "model.onnx")
    assert model.opset_import[0].version == 13
    weights = json.loads({p.key: p.value for p in model.metadata_props}["weights"])
    assert weights["untrained"] is True
    golden = np.load(out / "golden.npz")
    code = (
        "import sys, numpy as np, tensorflow as tf\n"
        "tf.keras.utils.set_random_seed(3)\n"
        "m = tf.keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3), classes=7)\n"
        "x = np.load(sys.argv[1])['input.image'].astype('f4')\n"
        "x = tf.keras.applications.mobilenet_v2.preprocess_input(x)\n"
        "np.save(sys.argv[2], m(x, training=False).numpy())\n"
    )
    reference = folder / "reference.npy"
    subprocess.run([PYTHON, "-c", code, out / "golden.npz", reference], check=True, capture_output=True)
    keras = np.load(reference)
    np.testing.assert_allclose(golden["output.scores"], keras, atol=1e-5)
    onnx_scores = exports.session("mobile").run(["scores"], {"image": golden["input.image"]})[0]
    np.testing.assert_allclose(onnx_scores, keras, atol=1e-5)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_be_exported_is_refused_in_one_line_with_the_next_step(
    exports: Exports, name: str
) -> None:
    _, words, step = REFUSED[name]
    done = exports.export[name]
    assert done.code == 1, done.err
    error = json.loads(done.out)["error"]
    assert words in error["found"]
    assert "\n" not in error["found"]
    assert step in error["expected"] + error["remedy"]
    assert "Traceback" not in done.out + done.err


@pytest.mark.parametrize("name", ["unknown_op", "custom_layer", "not_a_model"])
def test_the_traceback_of_a_refusal_is_in_the_log_that_it_names(exports: Exports, name: str) -> None:
    log = exports.folder / "out" / name / "export.log"
    assert f"the traceback is in {log}" in json.loads(exports.export[name].out)["error"]["remedy"]
    assert "Traceback (most recent call last)" in log.read_text("utf-8")


def export(folder: Path, spec: Spec, *options: str) -> subprocess.CompletedProcess[str]:
    path = write(folder, spec["name"], spec)
    argv = [str(PYTHON), "-m", "builder", "export", str(path), "--output", str(folder / "out" / spec["name"])]
    return subprocess.run([*argv, *options], cwd=ROOT, capture_output=True, text=True, check=False)


def test_imagenet_weights_that_cannot_be_had_stop_the_export_unless_untrained_will_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A name server that does not exist stands for a closed network, wherever this runs."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    spec = {
        "name": "imagenet",
        "source": {"application": "MobileNetV2", "weights": "imagenet"},
        "inputs": [{"name": "image", "dtype": "FP32", "dims": [96, 96, 3]}],
        "outputs": [{"name": "scores", "dtype": "FP32", "dims": [1000]}],
        "batch": {"max": 2},
    }
    folder = tmp_path
    done = export(folder, spec)
    assert done.returncode == 1
    assert "the ImageNet weights cannot be downloaded" in done.stderr
    assert "untrained" in done.stderr
    assert "Traceback" not in done.stderr
    done = export(folder, spec, "--allow-untrained")
    assert done.returncode == 0, done.stderr
    assert "UNTRAINED" in done.stderr
    model = onnx.load(folder / "out" / "imagenet" / "model.onnx")
    weights = json.loads({p.key: p.value for p in model.metadata_props}["weights"])
    assert weights["untrained"] is True
    assert "could not be downloaded" in weights["description"]


@pytest.mark.timeout(150)
def test_they_are_served_together(exports: Exports, tmp_path: Path) -> None:
    """Inputs and outputs of different types, a tf.Module, labels for one output of two, free dimensions."""
    names = ["two", "tripler", "labelled", "sentences", "anysize"]
    stack = Stack(exports.folder / "models")
    try:
        up = stack.up(*(exports.folder / f"{name}.yaml" for name in names), options=("--verbose",))
        assert up.stdout.count("golden samples singly") == 2 * len(names)
        assert up.stdout.count("golden samples, free dimensions at max") == 2 * 2
        assert "FAIL" not in up.stdout
        two_by_two(stack)
        labels_of_one_output(stack)
        text_of_any_length(stack, exports)
        pictures_of_any_size(stack, exports, tmp_path)
    finally:
        stack.kill()


def two_by_two(stack: Stack) -> None:
    with tritonclient.http.InferenceServerClient(f"127.0.0.1:{stack.http}") as client:
        left = tritonclient.http.InferInput("left", [1, 4], "FP16")
        left.set_data_from_numpy(np.array([[1, 2, 3, 4]], np.float16))
        right = tritonclient.http.InferInput("b", [1, 4], "INT32")
        right.set_data_from_numpy(np.array([[5, 6, 7, 8]], np.int32))
        answer = client.infer("two", [left, right])
    assert answer.as_numpy("product").tolist() == [[5, 12, 21, 32]]
    assert answer.as_numpy("sum").tolist() == [[6, 8, 10, 12]]


def labels_of_one_output(stack: Stack) -> None:
    with tritonclient.http.InferenceServerClient(f"127.0.0.1:{stack.http}") as client:
        image = tritonclient.http.InferInput("image", [1, 8, 8, 1], "UINT8")
        image.set_data_from_numpy(np.full((1, 8, 8, 1), 7, np.uint8))
        wanted = tritonclient.http.InferRequestedOutput("classes", class_count=3)
        rows = client.infer("labelled", [image], outputs=[wanted]).as_numpy("classes").ravel().tolist()
    assert {row.decode().split(":")[2] for row in rows} == {"cat", "dog", "fish"}


def text_of_any_length(stack: Stack, exports: Exports) -> None:
    local = exports.session("sentences")
    with Model("sentences", url=f"grpc://127.0.0.1:{stack.grpc}") as model:
        for length in (4, 23, 40):
            ids = np.random.default_rng(length).integers(0, 50, (2, length), np.int32)
            np.testing.assert_allclose(model.predict(ids), local.run(None, {"ids": ids})[0], atol=1e-5)
        for length in (3, 41):
            with pytest.raises(ContractError, match=r"\[n, 4 to 40\]; given was int32"):
                model.predict(np.zeros((1, length), np.int32))


def pictures_of_any_size(stack: Stack, exports: Exports, folder: Path) -> None:
    """``classify`` brings pictures to the spec's opt; a request may have any size within the range."""
    local = exports.session("anysize")
    pixels = np.random.default_rng(1).integers(0, 256, (1, 30, 20, 3), np.uint8)
    with Model("anysize", url=f"http://127.0.0.1:{stack.http}") as model:
        answers = model.infer({"picture": pixels})
    assert answers["heat"].shape == (1, 30, 20, 2)
    for name, array in zip(("kinds", "heat"), local.run(["kinds", "heat"], {"picture": pixels}), strict=True):
        np.testing.assert_allclose(answers[name], array, atol=1e-5)
    exact = np.random.default_rng(2).integers(0, 256, (24, 24, 3), np.uint8)
    Image.fromarray(exact).save(folder / "exact.png")
    Image.fromarray(np.resize(exact, (70, 90, 3))).save(folder / "large.png")
    done = stack.run("classify", folder / "exact.png", folder / "large.png", "--model", "anysize", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    scores = local.run(["kinds"], {"picture": exact[None]})[0][0]
    assert ["cat", "dog", "fish"][int(scores.argmax())] in done.stdout
