"""trtexec's other versions, by their help texts (transcribed from NVIDIA's source: see tests/samples)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from builder.engine import trtexec
from builder.errors import EngineError
from builder.export.onnx_model import TensorOrder
from builder.spec import loader
from builder.spec.model import Spec

HELP = Path(__file__).resolve().parents[1] / "samples" / "trtexec_help"
VERSIONS = {"8.6.1": "8.6.1", "9.3.0": "9.3.0", "10.0.1": "10.0.1", "10.16": "10.16.0", "11.1": "11.1.0"}


def known(version: str) -> trtexec.Trtexec:
    return trtexec.parse_help((HELP / f"{version}.txt").read_text("utf-8"))


def argv(spec: Spec, version: str, **options: str) -> list[str]:
    order = TensorOrder(tuple(i.name for i in spec.inputs), tuple(o.name for o in spec.outputs))
    return trtexec.build_argv(
        "trtexec", spec, known(version), order, onnx="model.onnx", engine="e.plan", **options
    )


@pytest.fixture
def fp16() -> Spec:
    return loader.load(loader.find("tensorrt_fp16_model"))


def test_every_sample_is_tested() -> None:
    assert {path.stem for path in HELP.iterdir()} == set(VERSIONS)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_command_has_only_options_of_its_version(version: str, make_spec: Callable[..., Spec]) -> None:
    found = known(version)
    assert found.version == VERSIONS[version]
    command = argv(make_spec(precision="fp32"), version, timing_cache="t.cache")
    assert {a.split("=")[0] for a in command[1:]} <= found.options | {"--onnx"}  # not in the excerpt
    assert "--skipInference" in command
    assert "--buildOnly" not in command
    assert "--timingCacheFile=t.cache" in command


@pytest.mark.parametrize("version", ["8.6.1", "9.3.0", "10.0.1", "10.16"])
def test_before_11_fp16_is_an_option_and_formats_have_types(version: str, fp16: Spec) -> None:
    command = argv(fp16, version)
    assert "--fp16" in command
    assert "--inputIOFormats=fp16:chw" in command
    assert "--tacticSources=-CUBLAS,-CUBLAS_LT,-CUDNN" in command


def test_11_is_given_no_word_that_it_refuses(make_spec: Callable[..., Spec]) -> None:
    tensors = {
        "inputs": [{"name": "x", "dtype": "FP16", "dims": [4]}],
        "outputs": [{"name": "y", "dtype": "FP16", "dims": [4]}],
    }
    command = argv(make_spec(precision="fp32", **tensors), "11.1")
    assert not any("CUBLAS" in word or "IOFormats" in word or ":chw" in word for word in command)


def test_11_refuses_fp16_in_words(fp16: Spec) -> None:
    with pytest.raises(EngineError) as error:
        argv(fp16, "11.1")
    assert "TensorRT 11.1.0" in error.value.found
    assert "precision: fp32" in error.value.expected


def test_a_timing_cache_of_the_spec_s_own_is_the_only_one(make_spec: Callable[..., Spec]) -> None:
    spec = make_spec(precision="fp32", trtexec_args=["--timingCacheFile=mine.cache"])
    command = argv(spec, "10.0.1", timing_cache="t.cache")
    assert [a for a in command if a.startswith("--timingCacheFile")] == ["--timingCacheFile=mine.cache"]
