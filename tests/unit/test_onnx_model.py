"""An ONNX file against its spec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper
from support.models import write_scale

from builder.errors import ExportError
from builder.export import onnx_model
from builder.spec import loader
from builder.spec.model import Spec

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


@pytest.fixture
def scale(tmp_path: Path) -> Spec:
    return loader.load(write_scale(tmp_path))


def model_of(s: Spec) -> Path:
    assert s.source.path is not None
    return s.source.path


def identity(
    folder: Path,
    *,
    name: str = "x",
    out: str = "scores",
    kind: int = FLOAT,
    dims: Any = ("N", 6),
    opset: int = 15,
) -> Path:
    graph = helper.make_graph(
        [helper.make_node("Identity", [name], [out])],
        "g",
        [helper.make_tensor_value_info(name, kind, dims)],
        [helper.make_tensor_value_info(out, kind, dims)],
    )
    path = folder / "identity.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), str(path)
    )
    return path


def refusal(path: Path, s: Spec, max_opset: int | None = None) -> str:
    with pytest.raises(ExportError) as error:
        onnx_model.check(path, s, max_opset)
    assert str(path) in str(error.value)
    return str(error.value)


def test_the_model_of_the_spec_passes(scale: Spec) -> None:
    onnx_model.check(model_of(scale), scale, 17)


def test_initializers_listed_as_inputs_are_no_inputs(scale: Spec) -> None:
    path = model_of(scale)
    model = onnx.load(str(path))
    model.graph.input.append(helper.make_tensor_value_info("factor", FLOAT, []))
    onnx.save(model, str(path))
    onnx_model.check(path, scale, 17)


def test_a_truncated_file_is_refused(scale: Spec) -> None:
    path = model_of(scale)
    path.write_bytes(path.read_bytes()[:-40])
    assert "is not a valid ONNX model" in refusal(path, scale)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x00" * 100])
def test_a_file_that_is_no_model_is_refused(scale: Spec, content: bytes) -> None:
    model_of(scale).write_bytes(content)
    assert "is not a valid ONNX model" in refusal(model_of(scale), scale)


def test_another_input_name_is_refused_with_both(scale: Spec, tmp_path: Path) -> None:
    message = refusal(identity(tmp_path, name="image"), scale)
    assert "its inputs are image FP32 [batch, 6]" in message
    assert "expected: x FP32 [batch, 6]" in message


def test_another_output_name_is_refused(scale: Spec, tmp_path: Path) -> None:
    assert "its outputs are y FP32 [batch, 6]" in refusal(identity(tmp_path, out="y"), scale)


def test_another_type_is_refused(scale: Spec, tmp_path: Path) -> None:
    assert "its inputs are x FP16 [batch, 6]" in refusal(identity(tmp_path, kind=HALF), scale)


def test_a_type_no_spec_can_name_is_refused_by_onnx_s_name(scale: Spec, tmp_path: Path) -> None:
    assert "x DOUBLE" in refusal(identity(tmp_path, kind=TensorProto.DOUBLE), scale)


def test_other_dims_are_refused(scale: Spec, tmp_path: Path) -> None:
    assert "[batch, 2, 3]" in refusal(identity(tmp_path, dims=("N", 2, 3)), scale)


def test_a_static_batch_is_refused(scale: Spec, tmp_path: Path) -> None:
    assert "its inputs are x FP32 [1, 6]" in refusal(identity(tmp_path, dims=(1, 6)), scale)


def test_a_dimension_left_open_is_refused(scale: Spec, tmp_path: Path) -> None:
    assert "[batch, ?]" in refusal(identity(tmp_path, dims=("N", "W")), scale)


def test_an_unknown_shape_is_refused(scale: Spec, tmp_path: Path) -> None:
    assert "shape" in refusal(identity(tmp_path, dims=None), scale)


def test_an_opset_above_the_engine_s_is_refused_with_both(scale: Spec, tmp_path: Path) -> None:
    message = refusal(identity(tmp_path, opset=18), scale, 17)
    assert "opset 18" in message
    assert "opset 17 or lower" in message


def test_an_engine_without_a_known_limit_takes_any_opset(scale: Spec, tmp_path: Path) -> None:
    onnx_model.check(identity(tmp_path, opset=18), scale, None)


def test_the_weights_provenance_travels_in_the_file(tmp_path: Path) -> None:
    path = identity(tmp_path)
    model = onnx.load(str(path))
    facts = {"kind": "untrained", "untrained": True, "description": "UNTRAINED, seed 0"}
    onnx_model.set_weights(model, facts)
    onnx.save(model, str(path))
    assert onnx_model.get_weights(path) == facts


def test_a_file_without_provenance_gives_none(tmp_path: Path) -> None:
    assert onnx_model.get_weights(identity(tmp_path)) is None


@pytest.mark.parametrize(
    "value", ["", "words", "[]", "{}", '{"kind": "x"}', '{"kind": 1, "untrained": 0, "description": 2}']
)
def test_somebody_else_s_metadata_of_that_name_is_no_provenance(tmp_path: Path, value: str) -> None:
    path = identity(tmp_path)
    model = onnx.load(str(path))
    entry = model.metadata_props.add()
    entry.key, entry.value = "weights", value
    onnx.save(model, str(path))
    assert onnx_model.get_weights(path) is None


def test_provenance_of_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(ExportError, match=r"bad\.onnx"):
        onnx_model.get_weights(tmp_path / "bad.onnx")
