"""Where Q/DQ stands in a graph: TensorRT's rules, on small graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper
from support import conv_net

from builder.errors import QuantizationError
from builder.quantize import answers, prepare, qdq, ranges, sites
from builder.quantize.sites import Site

PAIR = ["QuantizeLinear", "DequantizeLinear"]


def constant(rng: np.random.Generator, name: str, *shape: int) -> TensorProto:
    return numpy_helper.from_array(rng.normal(0, 0.5, shape).astype(np.float32), name)


def model(
    nodes: list[NodeProto], weights: list[TensorProto], outputs: tuple[str, ...] = ("y",)
) -> onnx.ModelProto:
    """``x`` FP32 [N, 4, 8, 8] in; every output has that rank."""
    infos = [helper.make_tensor_value_info(o, TensorProto.FLOAT, ["N", None, None, None]) for o in outputs]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 8, 8])
    graph = helper.make_graph(nodes, "rules", [x], infos, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


def conv(name: str, source: str, target: str) -> NodeProto:
    return helper.make_node("Conv", [source, f"w_{name}"], [target], name, pads=[1, 1, 1, 1])


def weights(*names: str) -> list[TensorProto]:
    rng = np.random.default_rng(3)
    return [constant(rng, f"w_{name}", 4, 4, 3, 3) for name in names]


class Made:
    """A quantized graph with ways to look at it."""

    def __init__(self, source: onnx.ModelProto, work: Path, leave: tuple[str, ...] = ()) -> None:
        work.mkdir(exist_ok=True)
        onnx.save(source, str(work / "source.onnx"))
        x = np.random.default_rng(7).normal(0, 1, (8, 4, 8, 8)).astype(np.float32)
        self.prepared = prepare.prepare(work / "source.onnx", work, {"x": x})
        self.sites = sites.find(self.prepared)
        chosen = [s for s in self.sites if s.name not in leave]
        measured = ranges.measure(self.prepared, [s.tensor for s in self.sites], {"x": x}, 4, "minmax", work)
        self.model = qdq.quantize(self.prepared, chosen, measured)
        onnx.checker.check_model(self.model, full_check=True)
        self.by_output = {o: n for n in self.model.graph.node for o in n.output}
        self.sqnr = answers.sqnr_db(
            answers.run(self.prepared, {"x": x})["y"], answers.run(self.model, {"x": x})["y"]
        )

    def before(self, node: str, place: int) -> list[str]:
        """The operations of a node's input, nearest last: Q, DQ, or what makes it."""
        (found,) = [n for n in self.model.graph.node if n.name == node]
        name, kinds = found.input[place], []
        while name in self.by_output and self.by_output[name].op_type in PAIR:
            kinds.insert(0, self.by_output[name].op_type)
            name = self.by_output[name].input[0]
        return kinds

    def source_of(self, node: str, place: int) -> str:
        """The tensor that a Q/DQ pair stands behind."""
        (found,) = [n for n in self.model.graph.node if n.name == node]
        name = found.input[place]
        while name in self.by_output and self.by_output[name].op_type in PAIR:
            name = self.by_output[name].input[0]
        return name


def test_a_convolution_has_its_data_and_its_weights_quantized_and_not_its_output(tmp_path: Path) -> None:
    nodes = [conv("a", "x", "c"), helper.make_node("Relu", ["c"], ["r"], "relu"), conv("b", "r", "y")]
    made = Made(model(nodes, weights("a", "b")), tmp_path)
    for name in ("a", "b"):
        assert made.before(name, 0) == PAIR
        assert made.before(name, 1) == PAIR
    assert made.before("relu", 0) == [], "nothing splits Conv and Relu"
    assert made.by_output["y"].op_type == "Conv"
    assert made.sqnr > 25


def test_scales_are_symmetric_and_by_channel_for_weights(tmp_path: Path) -> None:
    made = Made(model([conv("a", "x", "y")], weights("a")), tmp_path)
    constants = {i.name: numpy_helper.to_array(i) for i in made.model.graph.initializer}
    quantizers = [n for n in made.model.graph.node if n.op_type == "QuantizeLinear"]
    shapes = {q.input[0]: constants[q.input[1]].shape for q in quantizers}
    assert shapes == {"x": (), "w_a": (4,)}
    (of_weights,) = [q for q in quantizers if q.input[0] == "w_a"]
    assert [a.i for a in of_weights.attribute if a.name == "axis"] == [0]
    for q in quantizers:
        zero = constants[q.input[2]]
        assert zero.dtype == np.int8
        assert not zero.any()
    assert constants["w_a"].dtype == np.float32, "TensorRT 8.5 wants FP32 weights in front of their Q"


def identity(name: str = "add") -> list[NodeProto]:
    """A residual block and what follows: a -> Relu -> b -> Relu -> c -> Add with a's -> Relu -> d."""
    return [
        conv("a", "x", "c"), helper.make_node("Relu", ["c"], ["r"], "relu_a"),
        conv("b", "r", "d"), helper.make_node("Relu", ["d"], ["e"], "relu_b"),
        conv("c", "e", "f"), helper.make_node("Add", ["f", "r"], ["s"], name),
        helper.make_node("Relu", ["s"], ["t"], "relu_t"), conv("d", "t", "y"),
    ]  # fmt: skip


@pytest.mark.parametrize("swapped", [False, True])
def test_a_residual_add_has_its_shortcut_quantized_alone(tmp_path: Path, swapped: bool) -> None:
    nodes = identity()
    if swapped:
        nodes[5] = helper.make_node("Add", ["r", "f"], ["s"], "add")
    made = Made(model(nodes, weights("a", "b", "c", "d")), tmp_path)
    main, shortcut = (1, 0) if swapped else (0, 1)
    assert made.before("add", main) == []
    assert made.before("add", shortcut) == PAIR
    assert made.source_of("add", shortcut) == "r"
    quantizers = [n for n in made.model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "r"]
    assert len(quantizers) == 1, "an activation is quantized once for all its readers"


def test_no_dq_has_two_readers(tmp_path: Path) -> None:
    made = Made(model(identity(), weights("a", "b", "c", "d")), tmp_path)
    read = [i for n in made.model.graph.node for i in n.input]
    for node in made.model.graph.node:
        if node.op_type == "DequantizeLinear":
            assert read.count(node.output[0]) == 1


def test_of_two_convolutions_at_an_add_the_shallower_one_is_the_shortcut(tmp_path: Path) -> None:
    nodes = [
        conv("short", "x", "p"), conv("a", "x", "c"), helper.make_node("Relu", ["c"], ["r"], "relu"),
        conv("b", "r", "d"), helper.make_node("Add", ["p", "d"], ["s"], "add"),
        helper.make_node("Relu", ["s"], ["t"], "last"), conv("next", "t", "y"),
    ]  # fmt: skip
    made = Made(model(nodes, weights("short", "a", "b", "next")), tmp_path)
    assert made.before("add", 0) == PAIR
    assert made.before("add", 1) == []
    assert Site("add", "Add", "p", needs="b") in made.sites


def test_an_add_whose_result_nobody_reads_in_int8_adds_floats(tmp_path: Path) -> None:
    """TensorRT 8.5.1 refuses a pair on its shortcut."""
    end = [helper.make_node("GlobalMaxPool", ["t"], ["y"], "pool")]
    made = Made(model([*identity()[:-1], *end], weights("a", "b", "c")), tmp_path)
    assert made.before("add", 0) == made.before("add", 1) == []
    assert made.before("c", 0) == PAIR
    left = Made(model(identity(), weights("a", "b", "c", "d")), tmp_path / "left", leave=("d",))
    assert left.before("add", 1) == []


@pytest.mark.parametrize("kind", ["GlobalAveragePool", "AveragePool"])
def test_the_average_pooling_behind_an_add_reads_its_result_in_int8(tmp_path: Path, kind: str) -> None:
    """As at the end of ResNet50. TensorRT makes a reduction, without INT8, of a pooling with no size."""
    size = {"kernel_shape": [8, 8]} if kind == "AveragePool" else {}
    nodes = [*identity()[:-1], helper.make_node(kind, ["t"], ["y"], "pool", **size)]
    made = Made(model(nodes, weights("a", "b", "c")), tmp_path)
    assert made.before("pool", 0) == made.before("add", 1) == PAIR
    assert made.before("add", 0) == []
    (pool,) = [n for n in made.model.graph.node if n.name == "pool"]
    assert (pool.op_type, list(pool.attribute[0].ints)) == ("AveragePool", [8, 8])
    assert made.sqnr > 25
    left = Made(model(nodes, weights("a", "b", "c")), tmp_path / "left", leave=("c",))
    assert left.before("pool", 0) == left.before("add", 1) == []


def test_a_pooling_is_not_alone_in_reading_an_add(tmp_path: Path) -> None:
    nodes = [*identity(), helper.make_node("GlobalAveragePool", ["t"], ["z"], "pool")]
    made = Made(model(nodes, weights("a", "b", "c", "d"), ("y", "z")), tmp_path)
    assert made.before("pool", 0) == []
    assert made.before("add", 1) == made.before("d", 0) == PAIR


def test_a_global_pooling_of_a_free_size_stays_one(tmp_path: Path) -> None:
    nodes = [*identity()[:-1], helper.make_node("GlobalAveragePool", ["t"], ["y"], "pool")]
    free = model(nodes, weights("a", "b", "c"))
    for place in (2, 3):
        free.graph.input[0].type.tensor_type.shape.dim[place].dim_param = "size"
    made = Made(free, tmp_path)
    (pool,) = [n for n in made.model.graph.node if n.name == "pool"]
    assert pool.op_type == "GlobalAveragePool"
    assert made.before("pool", 0) == made.before("add", 1) == []


def test_of_two_adds_the_first_is_read_by_the_second(tmp_path: Path) -> None:
    second = [
        conv("e", "t", "u"), helper.make_node("Add", ["u", "t"], ["v"], "second"),
        helper.make_node("MaxPool", ["v"], ["w"], "pool", kernel_shape=[2, 2]), conv("g", "w", "y"),
    ]  # fmt: skip
    nodes, made_of = [*identity()[:-1], *second], weights("a", "b", "c", "e", "g")
    made = Made(model(nodes, made_of), tmp_path)
    assert made.before("second", 1) == made.before("add", 1) == PAIR
    # Without a reader of its own the second one keeps none for the first, whose other reader is "e".
    left = Made(model(nodes, made_of), tmp_path / "left", leave=("g", "e"))
    assert left.before("second", 1) == left.before("add", 1) == []


def test_every_kernel_says_how_large_it_is(tmp_path: Path) -> None:
    """TensorRT 8.5 asks for it where the weights come out of a Q/DQ pair; ONNX leaves it to the writer."""
    made = Made(model([conv("a", "x", "y")], weights("a")), tmp_path)
    (kernel,) = [n for n in made.model.graph.node if n.op_type == "Conv"]
    assert [list(a.ints) for a in kernel.attribute if a.name == "kernel_shape"] == [[3, 3]]


def test_an_add_of_activations_alone_is_left_alone(tmp_path: Path) -> None:
    nodes = [
        conv("a", "x", "c"), helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Add", ["r", "x"], ["y"], "add"),
    ]  # fmt: skip
    made = Made(model(nodes, weights("a")), tmp_path)
    assert [s.name for s in made.sites] == ["a"]
    assert made.before("add", 0) == made.before("add", 1) == []


def test_a_pooling_behind_a_convolution_and_a_matrix_product_stay_as_they_are(tmp_path: Path) -> None:
    """TensorRT 8.5.1 builds no INT8 product that a softmax follows."""
    nodes = [
        conv("a", "x", "c"), helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], "pool"),
        helper.make_node("MatMul", ["p", "w_dense"], ["y"], "dense"),
    ]  # fmt: skip
    dense = constant(np.random.default_rng(4), "w_dense", 1, 4)
    made = Made(model(nodes, [*weights("a"), dense]), tmp_path)
    assert [site.name for site in made.sites] == ["a"]
    for name in ("pool", "dense"):
        assert made.before(name, 0) == []


def test_a_layer_left_out_reads_and_is_read_as_floats(tmp_path: Path) -> None:
    made = Made(model(identity(), weights("a", "b", "c", "d")), tmp_path, leave=("b",))
    assert made.before("b", 0) == made.before("b", 1) == []
    assert made.source_of("b", 0) == "r"
    assert made.before("add", 1) == PAIR, "the shortcut is the same tensor, and still in INT8"


def test_a_shortcut_whose_convolution_is_left_out_is_not_quantized(tmp_path: Path) -> None:
    made = Made(model(identity(), weights("a", "b", "c", "d")), tmp_path, leave=("c",))
    assert made.before("add", 0) == made.before("add", 1) == []


def test_a_one_dimensional_convolution_is_left_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    nodes = [
        helper.make_node("Reshape", ["x", "flat"], ["f"], "reshape"),
        helper.make_node("Conv", ["f", "w"], ["c"], "conv1d"),
        helper.make_node("Reshape", ["c", "square"], ["s"], "back"), conv("a", "s", "y"),
    ]  # fmt: skip
    shapes = [numpy_helper.from_array(np.array(s, np.int64), n)
              for n, s in (("flat", [0, 4, 64]), ("square", [0, 4, 8, 8]))]  # fmt: skip
    made = Made(model(nodes, [*weights("a"), constant(rng, "w", 4, 4, 1), *shapes]), tmp_path)
    assert [s.name for s in made.sites] == ["a"]


def test_an_activation_that_is_an_output_is_not_quantized(tmp_path: Path) -> None:
    nodes = [conv("a", "x", "c"), helper.make_node("Relu", ["c"], ["z"], "relu"), conv("b", "z", "y")]
    made = Made(model(nodes, weights("a", "b"), ("y", "z")), tmp_path)
    assert [s.name for s in made.sites] == ["a"]
    assert made.by_output["z"].op_type == "Relu"


def test_batch_norms_are_folded_and_pixels_and_preprocessing_stay_as_they_are(tmp_path: Path) -> None:
    net = conv_net.write(tmp_path / "net")
    work = tmp_path / "work"
    work.mkdir()
    sample = {"pixels": net.images[:4]}
    ready = prepare.prepare(net.spec.with_name("net.onnx"), work, sample)
    kinds = [n.op_type for n in ready.graph.node]
    assert "BatchNormalization" not in kinds
    assert ready.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    found = sites.find(ready)
    measured = ranges.measure(ready, [s.tensor for s in found], sample, 4, "minmax", work)
    made = qdq.quantize(ready, found, measured)
    assert made.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    first = next(n for n in made.graph.node if n.op_type == "QuantizeLinear")
    by_output = {o: n for n in made.graph.node for o in n.output}
    assert first.input[0] not in {"float", "pixels"}
    for kind in ("Mul", "Cast"):
        (node,) = [n for n in made.graph.node if n.op_type == kind]
        assert by_output.get(node.input[0], node).op_type not in PAIR


def test_a_model_that_is_quantized_already_is_refused(tmp_path: Path) -> None:
    made = Made(model([conv("a", "x", "y")], weights("a")), tmp_path)
    onnx.save(made.model, str(tmp_path / "quantized.onnx"))
    with pytest.raises(QuantizationError, match="is quantized already") as e:
        prepare.prepare(tmp_path / "quantized.onnx", tmp_path, {"x": np.ones((1, 4, 8, 8), np.float32)})
    assert "trtexec_args: [--int8]" in e.value.remedy


def test_an_fp16_model_is_refused(tmp_path: Path) -> None:
    half = numpy_helper.from_array(np.ones((4, 4, 3, 3), np.float16), "w_a")
    source = model([conv("a", "x", "y")], [half])
    onnx.save(source, str(tmp_path / "half.onnx"))
    with pytest.raises(QuantizationError, match=r"has FP16 weights \(w_a"):
        prepare.prepare(tmp_path / "half.onnx", tmp_path, {"x": np.ones((1, 4, 8, 8), np.float32)})


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
def test_every_method_gives_ranges_within_what_was_seen(tmp_path: Path, method: str) -> None:
    source = model([conv("a", "x", "y")], weights("a"))
    x = np.random.default_rng(1).normal(0, 1, (64, 4, 8, 8)).astype(np.float32)
    x[0, 0, 0, 0] = 100.0  # one value far out
    found = ranges.measure(source, ["x"], {"x": x}, 16, method, tmp_path)
    largest = max(abs(float(np.ravel(v)[0])) for v in found["x"].range_value)
    least = 99.0 if method == "minmax" else 3.0
    assert least < largest <= 100.0


def test_noise_is_told_in_decibels() -> None:
    signal = np.array([3.0, 4.0])
    assert answers.sqnr_db(signal, signal * 0.9) == pytest.approx(20.0)
    assert answers.sqnr_db(signal, signal) == 200.0
    assert answers.sqnr_db(signal, np.array([np.nan, 4.0])) == -200.0
    assert answers.sqnr_db(np.zeros(2), np.ones(2)) == -200.0
