"""Every kind of source goes through the one export road: names, dtypes and values come out as specified."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from support.stack import ROOT

VENVS = Path(os.environ.get("VENVS_DIR") or ROOT / ".venvs")
PYTHON = VENVS / "builder" / "bin" / "python3"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tf")
    script = ROOT / "tests" / "support" / "make_tf_models.py"
    subprocess.run([PYTHON, script, folder], check=True, capture_output=True)
    return folder


def export(folder: Path, spec: dict[str, Any], *options: str) -> subprocess.CompletedProcess[str]:
    path = folder / f"{spec['name']}.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    argv = [
        str(PYTHON),
        "-m",
        "builder",
        "export",
        str(path),
        "--output",
        str(folder / "out" / spec["name"]),
        *options,
    ]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)


def session(folder: Path, name: str) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(folder / "out" / name / "model.onnx"))


def test_a_keras_model_with_two_inputs_and_outputs(folder: Path) -> None:
    done = export(
        folder,
        {
            "name": "two",
            "source": {"keras": "two.keras"},
            "inputs": [
                {
                    "name": "b",
                    "tensor": "right",
                    "dtype": "INT32",
                    "dims": [4],
                    "samples": {"uniform": [0, 9]},
                },
                {"name": "left", "dtype": "FP16", "dims": [4]},
            ],
            "outputs": [
                {"name": "product", "dtype": "FP32", "dims": [4]},
                {"name": "sum", "tensor": "total", "dtype": "FP16", "dims": [4]},
            ],
            "batch": {"max": 4},
        },
    )
    assert done.returncode == 0, done.stderr
    left = np.array([[1, 2, 3, 4]], np.float16)
    right = np.array([[5, 6, 7, 8]], np.int32)
    product, total = session(folder, "two").run(["product", "sum"], {"left": left, "b": right})
    assert product.dtype == np.float32
    assert product.tolist() == [[5, 12, 21, 32]]
    assert total.dtype == np.float16
    assert total.tolist() == [[6, 8, 10, 12]]


def test_a_saved_model_with_its_variables(folder: Path) -> None:
    done = export(
        folder,
        {
            "name": "doubler",
            "source": {"saved_model": "doubler"},
            "inputs": [{"name": "x", "dtype": "FP32", "dims": [3]}],
            "outputs": [{"name": "y", "dtype": "FP32", "dims": [3]}],
            "batch": {"max": 4},
        },
    )
    assert done.returncode == 0, done.stderr
    x = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    np.testing.assert_array_equal(session(folder, "doubler").run(["y"], {"x": x})[0], x * 2)


def test_an_application_with_preprocessing_in_the_graph(folder: Path) -> None:
    """MobileNetV2, untrained: raw pixels through the ONNX equal Keras's own preprocessing and model."""
    spec = {
        "name": "mobile",
        "source": {"application": "MobileNetV2", "weights": {"untrained": {"seed": 3}}},
        "inputs": [
            {
                "name": "image",
                "dtype": "UINT8",
                "dims": [32, 32, 3],
                "preprocessing": {"mode": "tf", "where": "graph"},
            }
        ],
        "outputs": [{"name": "scores", "dtype": "FP32", "dims": [7]}],
        "batch": {"max": 4},
        "opset": 13,
    }
    done = export(folder, spec, "--json")
    assert done.returncode == 0, done.stderr
    out = folder / "out" / "mobile"
    written = yaml.safe_load((out / "mobile.yaml").read_text())
    assert written["source"]["sha256"] == hashlib.sha256((out / "model.onnx").read_bytes()).hexdigest()
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
    onnx_scores = session(folder, "mobile").run(["scores"], {"image": golden["input.image"]})[0]
    np.testing.assert_allclose(onnx_scores, keras, atol=1e-5)


def test_imagenet_weights_that_cannot_be_had_stop_the_export_unless_untrained_will_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
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


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"source": {"application": "NoSuchNet", "weights": {"untrained": {"seed": 0}}}}, "ResNet50"),
        ({"source": {"keras": "two.keras"}}, "left, right"),
    ],
)
def test_a_source_that_does_not_fit_is_refused_with_what_is_there(
    folder: Path, change: dict[str, Any], words: str
) -> None:
    spec = {
        "name": "wrong",
        "inputs": [{"name": "x", "dtype": "FP32", "dims": [4]}],
        "outputs": [{"name": "total", "dtype": "FP32", "dims": [4]}],
        "batch": {"max": 2},
        **change,
    }
    done = export(folder, spec)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
