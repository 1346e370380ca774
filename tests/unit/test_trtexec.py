"""trtexec's language, against the recorded command lines and answers of trtexec 8.5.1."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builder.engine import trtexec
from builder.errors import EngineError
from builder.export.onnx_model import TensorOrder
from builder.spec import loader
from builder.spec.model import Batch, Spec

Sample = Callable[[str], str]
V8 = trtexec.Trtexec("8.5.1", frozenset({"--saveEngine", "--fp16", "--buildOnly", "--tacticSources"}))


def recorded_argv(log: str) -> list[str]:
    return log.splitlines()[0].split(" # ")[1].split()


def exit_code(log: str) -> int:
    found = re.search(r"^rc=(\d+)", log, re.MULTILINE)
    assert found is not None
    return int(found.group(1))


def in_spec_order(spec: Spec) -> TensorOrder:
    return TensorOrder(tuple(i.name for i in spec.inputs), tuple(o.name for o in spec.outputs))


def build_argv(binary: str, spec: Spec, known: trtexec.Trtexec, *, onnx: str, engine: str) -> list[str]:
    """The command for a graph whose tensors come in the spec's order."""
    return trtexec.build_argv(binary, spec, known, in_spec_order(spec), onnx=onnx, engine=engine)


@pytest.fixture
def known(sample: Sample) -> trtexec.Trtexec:
    return trtexec.parse_help(sample("unknown_option.log"))


def as_recorded(name: str) -> Spec:
    """A shipped spec with the batch sizes of the recorded commands."""
    return dataclasses.replace(loader.load(loader.find(name)), batch=Batch(1, 8, 32))


@pytest.fixture
def fp16() -> Spec:
    return as_recorded("tensorrt_fp16_model")


@pytest.fixture
def uint8() -> Spec:
    return as_recorded("resnet50")


def test_the_recorded_help_names_the_version_and_its_options(known: trtexec.Trtexec) -> None:
    assert known.version == "8.5.1"
    assert {"--buildOnly", "--fp16", "--loadInputs", "--exportOutput", "--tacticSources"} <= known.options
    assert "--skipInference" not in known.options


@pytest.mark.parametrize(
    ("digits", "version"),
    [("8501", "8.5.1"), ("8611", "8.6.11"), ("100900", "10.9.0"), ("101303", "10.13.3")],
)
def test_the_version_is_read_from_its_digits(digits: str, version: str) -> None:
    text = (
        f"&&&& RUNNING TensorRT.trtexec [TensorRT v{digits}] # trtexec --help\n  --saveEngine=<file>  Save\n"
    )
    assert trtexec.parse_help(text).version == version


@pytest.mark.parametrize(
    "text", ["", "usage: ls", "[TensorRT v8501] without options", "  --saveEngine=<file>"]
)
def test_help_that_is_not_trtexec_s_is_refused(text: str) -> None:
    with pytest.raises(EngineError, match="did not answer as trtexec does"):
        trtexec.parse_help(text)


def test_the_uint8_build_command_is_the_recorded_one(
    sample: Sample, known: trtexec.Trtexec, uint8: Spec
) -> None:
    recorded = recorded_argv(sample("build_ok.log"))
    argv = build_argv("libs/trtexec", uint8, known, onnx="u8.onnx", engine="o8.plan")
    assert argv == recorded


def test_the_fp16_build_command_is_the_recorded_one(
    sample: Sample, known: trtexec.Trtexec, fp16: Spec
) -> None:
    recorded = recorded_argv(sample("build_fp16_io.log"))
    argv = build_argv("libs/trtexec", fp16, known, onnx="model.onnx", engine="f16.plan")
    assert argv == recorded


def test_the_fp16_run_command_is_the_recorded_one_apart_from_paths(sample: Sample, fp16: Spec) -> None:
    recorded = recorded_argv(sample("run_fp16_io.log"))
    argv = trtexec.run_argv(
        "libs/trtexec",
        fp16,
        engine="f16.plan",
        batch=4,
        inputs={"input_1": "in16.dat"},
        output="/workspace/fx/out_fp16_io.json",
        formats=trtexec.io_formats(fp16, in_spec_order(fp16)),
    )
    assert argv == recorded


def test_a_uint8_input_is_run_without_an_io_format_too(sample: Sample, uint8: Spec) -> None:
    argv = trtexec.run_argv(
        "libs/trtexec", uint8, engine="o8.plan", batch=4, inputs={"image": "in.dat"}, output="o"
    )
    recorded = recorded_argv(sample("run_loadinputs.log"))
    same = [a for a in recorded if not a.startswith(("--export", "--iterations"))]
    assert [a for a in argv if not a.startswith(("--export", "--iterations"))] == same


def test_every_build_gives_all_three_shapes(make_spec: Callable[..., Spec]) -> None:
    argv = build_argv("t", make_spec(batch={"min": 1, "opt": 3, "max": 5}), V8, onnx="m", engine="e")
    assert {"--minShapes=x:1x4", "--optShapes=x:3x4", "--maxShapes=x:5x4"} <= set(argv)


@pytest.mark.parametrize(("precision", "wanted"), [("int8", ["--int8"]), ("int8_fp16", ["--fp16", "--int8"])])
def test_int8_is_asked_for_without_a_calibration_cache(
    make_spec: Callable[..., Spec], tmp_path: Path, precision: str, wanted: list[str]
) -> None:
    """The ranges are in the graph, as Q/DQ; with --fp16, what is left out may be FP16."""
    (tmp_path / "x.npy").touch()
    spec = make_spec(precision=precision, calibration={"file": "x.npy"})
    known = trtexec.Trtexec("8.5.1", V8.options | {"--int8", "--calib", "--best"})
    argv = build_argv("t", spec, known, onnx="m", engine="e")
    assert [a for a in argv if a in ("--fp16", "--int8", "--best") or a.startswith("--calib")] == wanted


def test_a_trtexec_without_int8_refuses_an_int8_spec(make_spec: Callable[..., Spec], tmp_path: Path) -> None:
    (tmp_path / "x.npy").touch()
    with pytest.raises(EngineError, match="has no --int8"):
        build_argv("t", make_spec(precision="int8", calibration={"file": "x.npy"}), V8, onnx="m", engine="e")


def test_fp32_precision_asks_for_no_fp16(make_spec: Callable[..., Spec]) -> None:
    argv = build_argv("t", make_spec(precision="fp32"), V8, onnx="m", engine="e")
    assert "--fp16" not in argv
    assert not any("IOFormats" in a for a in argv), "FP32 is trtexec's own default"


def test_several_inputs_go_into_one_option_each(make_spec: Callable[..., Spec]) -> None:
    s = make_spec(
        inputs=[
            {"name": "a", "dtype": "FP32", "dims": [2]},
            {"name": "b", "dtype": "INT32", "dims": [3, 4], "samples": {"uniform": [0, 9]}},
        ]
    )
    argv = build_argv("t", s, V8, onnx="m", engine="e")
    assert {"--maxShapes=a:8x2,b:8x3x4", "--inputIOFormats=fp32:chw,int32:chw"} <= set(argv)
    run = trtexec.run_argv("t", s, engine="e", batch=2, inputs={"a": "0", "b": "1"}, output="o")
    assert {"--shapes=a:2x2,b:2x3x4", "--loadInputs=a:0,b:1"} <= set(run)


@pytest.mark.parametrize("order", list(itertools.permutations(["a", "b", "c"])), ids="".join)
def test_formats_follow_the_graph_s_order_not_the_spec_s(
    make_spec: Callable[..., Spec], order: tuple[str, ...]
) -> None:
    words = {"a": "fp16:chw", "b": "int32:chw", "c": "fp32:chw"}
    tensors = [
        {"name": "a", "dtype": "FP16", "dims": [2]},
        {"name": "b", "dtype": "INT32", "dims": [2], "samples": {"uniform": [0, 9]}},
        {"name": "c", "dtype": "FP32", "dims": [2]},
    ]
    outputs = [{"name": t["name"] + "_out", "dtype": t["dtype"], "dims": t["dims"]} for t in tensors]
    s = make_spec(inputs=tensors, outputs=outputs)
    graph = TensorOrder(order, tuple(f"{name}_out" for name in reversed(order)))
    wanted = [words[name] for name in order]
    assert trtexec.io_formats(s, graph) == [
        f"--inputIOFormats={','.join(wanted)}",
        f"--outputIOFormats={','.join(reversed(wanted))}",
    ]


def test_a_type_without_a_word_leaves_its_own_side_to_the_graph_only(
    make_spec: Callable[..., Spec],
) -> None:
    s = make_spec(
        inputs=[
            {"name": "p", "dtype": "UINT8", "dims": [8, 8, 3]},
            {"name": "x", "dtype": "FP16", "dims": [2]},
        ],
        outputs=[{"name": "y", "dtype": "FP16", "dims": [3]}],
    )
    assert trtexec.io_formats(s, in_spec_order(s)) == ["--outputIOFormats=fp16:chw"]


def test_later_versions_are_told_to_skip_inference(make_spec: Callable[..., Spec]) -> None:
    v10 = trtexec.Trtexec("10.9.0", frozenset({"--saveEngine", "--fp16", "--skipInference"}))
    argv = build_argv("t", make_spec(), v10, onnx="m", engine="e")
    assert "--skipInference" in argv
    assert not {"--buildOnly", "--tacticSources=-CUBLAS,-CUBLAS_LT,-CUDNN"} & set(argv)


def test_a_trtexec_without_fp16_refuses_an_fp16_spec_and_names_its_version(
    make_spec: Callable[..., Spec],
) -> None:
    v11 = trtexec.Trtexec("11.0.0", frozenset({"--saveEngine", "--skipInference"}))
    with pytest.raises(EngineError, match=r"TensorRT 11\.0\.0\) has no --fp16"):
        build_argv("t", make_spec(), v11, onnx="m", engine="e")


def test_the_spec_s_own_arguments_come_last_and_replace_ours(make_spec: Callable[..., Spec]) -> None:
    s = make_spec(trtexec_args=["--tacticSources=+CUDNN", "--builderOptimizationLevel=5"])
    argv = build_argv("t", s, V8, onnx="m", engine="e")
    assert argv[-2:] == ["--tacticSources=+CUDNN", "--builderOptimizationLevel=5"]
    assert sum(a.startswith("--tacticSources") for a in argv) == 1


def test_the_command_is_a_pure_function(known: trtexec.Trtexec, fp16: Spec) -> None:
    first = build_argv("t", fp16, known, onnx="m", engine="e")
    assert first == build_argv("t", fp16, known, onnx="m", engine="e")


@pytest.mark.parametrize(
    "name", ["build_ok.log", "build_fp16_io.log", "run_loadinputs.log", "build_truncated_onnx.log",
             "build_wrong_tensor.log", "load_truncated_plan.log", "run_over_max.log", "save_unwritable.log",
             "unknown_option.log"],
)  # fmt: skip
def test_a_recorded_run_passed_exactly_when_it_did(sample: Sample, name: str) -> None:
    log = sample(name)
    code = exit_code(log)
    assert trtexec.passed(log, code) == (code == 0)


def test_exit_code_0_alone_is_no_success(sample: Sample) -> None:
    assert not trtexec.passed(sample("build_truncated_onnx.log"), 0)


def test_the_last_word_alone_is_no_success(sample: Sample) -> None:
    assert not trtexec.passed(sample("build_ok.log"), 1)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("build_truncated_onnx.log", "ModelImporter"),
        ("build_wrong_tensor.log", "Cannot find input tensor with name"),
        ("load_truncated_plan.log", "Error"),
        ("run_over_max.log", "Runtime dimension does not satisfy any optimization profile"),
        ("save_unwritable.log", "Saving engine to file failed"),
        ("unknown_option.log", "Model missing or format not recognized"),
    ],
)
def test_the_error_shown_is_trtexec_s_own(sample: Sample, name: str, words: str) -> None:
    shown = trtexec.errors(sample(name))
    assert words in shown
    assert 1 <= len(shown.splitlines()) <= 20
    assert not re.search(r"^\[\d\d/", shown, re.MULTILINE), "time stamps are left out"


def test_a_log_without_error_lines_shows_its_end() -> None:
    assert trtexec.errors("\n".join(map(str, range(9)))) == "4\n5\n6\n7\n8"


def test_the_gpu_and_the_version_are_read_from_a_build_s_log(sample: Sample) -> None:
    log = sample("build_ok.log")
    assert trtexec.device(log) == {"name": "NVIDIA H200", "compute_capability": "9.0"}
    assert trtexec.version(log) == "8.5.1"


def test_a_log_that_names_neither_gives_none() -> None:
    assert trtexec.device("nothing") is None
    assert trtexec.version("nothing") is None


@pytest.mark.parametrize(
    ("name", "shipped", "output", "dtype"),
    [
        ("out_b4.json", "resnet50", "probabilities", np.float32),
        ("out_fp16_io.json", "tensorrt_fp16_model", "predictions", np.float16),
    ],
)
def test_a_recorded_output_is_read_as_probabilities(
    sample: Sample, name: str, shipped: str, output: str, dtype: type
) -> None:
    answers = trtexec.parse_output(sample(name), loader.load(loader.find(shipped)), 4)
    scores = answers[output]
    assert (scores.dtype, scores.shape) == (np.dtype(dtype), (4, 1000))
    np.testing.assert_allclose(scores.astype(np.float64).sum(axis=1), 1, atol=0.01)


def test_both_recorded_engines_see_the_same_pictures(sample: Sample) -> None:
    a = trtexec.parse_output(sample("out_b4.json"), loader.load(loader.find("resnet50")), 4)
    b = trtexec.parse_output(sample("out_fp16_io.json"), loader.load(loader.find("tensorrt_fp16_model")), 4)
    assert (a["probabilities"].argmax(1) == b["predictions"].argmax(1)).all()


def output_file(values: str, dimensions: str = "1x3", name: str = "y") -> str:
    head = f'[\n  {{ "name" : "{name}"\n  , "dimensions" : "{dimensions}"\n'
    return f'{head}  , "values" : [ {values} ]\n  }}\n]\n'


def test_nan_and_infinities_are_read_as_c_prints_them(make_spec: Callable[..., Spec]) -> None:
    y = trtexec.parse_output(output_file("-nan, inf, -inf"), make_spec(), 1)["y"]
    assert np.isnan(y[0, 0])
    assert y[0, 1:].tolist() == [np.inf, -np.inf]


def test_nan_at_both_ends_of_the_list_is_read(make_spec: Callable[..., Spec]) -> None:
    assert np.isnan(trtexec.parse_output(output_file("nan, nan, nan"), make_spec(), 1)["y"]).all()


def test_a_tensor_called_nan_keeps_its_name(make_spec: Callable[..., Spec]) -> None:
    s = make_spec(outputs=[{"name": "nan", "dtype": "FP32", "dims": [3]}])
    assert trtexec.parse_output(output_file("1, 2, 3", name="nan"), s, 1)["nan"].tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (output_file("1, 2", dimensions="1x2"), "as 1x2"),
        (output_file("1, 2, 3", dimensions="3"), "as 3"),
        (output_file("1, 2, 3", name="z"), "KeyError: 'y'"),
        (output_file("1, 2"), "cannot be read"),
        (output_file("1, x, 3"), "cannot be read"),
        ('{"name": "y"}', "cannot be read"),
        ("", "cannot be read"),
        ("null", "cannot be read"),
    ],
)
def test_an_output_file_that_is_not_the_spec_s_is_refused(
    make_spec: Callable[..., Spec], text: str, words: str
) -> None:
    with pytest.raises(EngineError) as error:
        trtexec.parse_output(text, make_spec(), 1)
    assert words in str(error.value)


def test_the_wrong_batch_in_an_output_file_is_refused(make_spec: Callable[..., Spec], sample: Sample) -> None:
    with pytest.raises(EngineError, match="4x1000") as error:
        trtexec.parse_output(sample("out_b4.json"), loader.load(loader.find("resnet50")), 8)
    assert error.value.expected == "8x1000"


def io(formats: list[str]) -> dict[str, Any]:
    return dict(f.lstrip("-").split("=") for f in formats)


def test_one_uint8_tensor_takes_the_format_option_from_its_side_only(uint8: Spec, fp16: Spec) -> None:
    assert "inputIOFormats" not in io(trtexec.io_formats(uint8, in_spec_order(uint8)))
    given = io(trtexec.io_formats(fp16, in_spec_order(fp16)))
    assert given == {"inputIOFormats": "fp16:chw", "outputIOFormats": "fp16:chw"}
