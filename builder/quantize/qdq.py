"""Explicit Q/DQ written into a graph by onnxruntime's quantizer, in the places that ``sites`` names."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import onnx
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import QuantType

from builder.quantize.sites import WEIGHTED, Graph, Site, fitting

# TensorRT's: symmetric INT8, weights by channel and as a Q/DQ pair of their own, biases left alone.
_OPTIONS = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "AddQDQPairToWeight": True,
    "QuantizeBias": False,
    "OpTypesToExcludeOutputQuantization": list(WEIGHTED),
}


def quantize(model: onnx.ModelProto, chosen: Iterable[Site], ranges: Any) -> onnx.ModelProto:
    """A copy of ``model`` with Q/DQ pairs for the chosen sites.

    An activation is quantized once, right behind what makes it, and dequantized for each site by itself;
    what is no site reads it as it was. The same arguments give the same bytes.

    Args:
        model: as ``prepare`` gives it.
        ranges: of every site's tensor, as ``ranges.measure`` gives them.
    """
    names = {site.name for site in chosen if site.weighted}
    if not names:
        return copy.deepcopy(model)
    sites = fitting(model, [site for site in chosen if site.weighted or site.needs in names])
    quantizer = QDQQuantizer(
        copy.deepcopy(model),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=ranges,
        nodes_to_quantize=[site.name for site in sites if site.weighted],
        nodes_to_exclude=[],
        op_types_to_quantize=list(WEIGHTED),
        extra_options=dict(_OPTIONS),
    )
    for site in sites:
        if not site.weighted:
            quantizer.quantize_activation_tensor(site.tensor)
    quantizer.quantize_model()
    made: onnx.ModelProto = quantizer.model.model
    _place(made, sites)
    quantizer.model.topological_sort()
    _tidy(made, model)
    return made


def _place(made: onnx.ModelProto, sites: list[Site]) -> None:
    """A DQ of its own for each site, and the float tensor for all other readers of an activation.

    onnxruntime gives the dequantized tensor to whoever reads it.
    """
    graph = Graph(made)
    wanted = {(site.tensor, site.name) for site in sites}
    for tensor in dict.fromkeys(site.tensor for site in sites):
        (quantize,) = [n for n in graph.consumers[tensor] if n.op_type == "QuantizeLinear"]
        (dequantize,) = graph.consumers[quantize.output[0]]
        shared = dequantize.output[0]
        readers = graph.consumers[shared]
        for number, reader in enumerate(r for r in readers if (tensor, r.name) in wanted):
            mine = shared if number == 0 else f"{shared}_{number + 1}"
            if number:
                own = copy.deepcopy(dequantize)
                own.name, own.output[0] = f"{dequantize.name}_{number + 1}", mine
                made.graph.node.append(own)
            _rewire(reader, shared, mine)
        for reader in readers:
            if (tensor, reader.name) not in wanted:
                _rewire(reader, shared, tensor)


def _rewire(node: onnx.NodeProto, old: str, new: str) -> None:
    for place, name in enumerate(node.input):
        if name == old:
            node.input[place] = new


def _tidy(made: onnx.ModelProto, source: onnx.ModelProto) -> None:
    made.ir_version = source.ir_version
    del made.graph.value_info[:]  # of the tensors before
    read = {name for node in made.graph.node for name in node.input}
    kept = [i for i in made.graph.initializer if i.name in read]
    del made.graph.initializer[:]
    made.graph.initializer.extend(kept)
