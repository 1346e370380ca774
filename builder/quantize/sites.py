"""Which operations of a graph may run in INT8, by TensorRT's rules for explicit Q/DQ.

A site is an operation with the activations that get a Q/DQ pair in front of it. Its output gets none:
TensorRT fuses DQ -> Conv -> (Add ->) Relu -> Q into one INT8 kernel, and a pair between would split it.

* Convolutions with constant weights: the pair is on the data, another on the weights.
* A residual Add: a pair on the shortcut alone. The other branch comes out of a quantized convolution, which
  adds the shortcut in INT8 within its own kernel. That kernel must write INT8, too, for an operation with
  weights, another Add or the average pooling at the end; TensorRT 8.5.1 refuses the engine otherwise
  ("cannot be quantized by ..._QuantizeLinear", seen on an H200), and also where the pooling is a global one.
* An average pooling that alone reads such an Add. It computes in FP16, from what the Add wrote in INT8.
  ResNet50 as a whole takes 4 % less time for it (batch 32: 0.767 ms, and 0.803 ms without it, on an H200).
  Behind anything but an Add a pair has nothing to gain.
* No matrix product: with a softmax behind it, as in every classifier, TensorRT 8.5.1 finds no INT8 kernel for
  it ("Could not find any implementation for node {ForeignNode[...softmax]}", seen with ResNet50 and with a
  small network). It is about one per cent of ResNet50's time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx
from onnx import TensorProto

WEIGHTED = ("Conv", "ConvTranspose")
_ACTIVATIONS = ("Clip", "LeakyRelu", "Relu")  # fused behind a convolution


@dataclass(frozen=True)
class Site:
    """An operation that may run in INT8.

    Attributes:
        name: the node's.
        op: "Conv", "Add", ...
        tensor: the activation that gets a Q/DQ pair on its way into this node.
        needs: the weighted node without which this site gains nothing; empty for a weighted node itself.
    """

    name: str
    op: str
    tensor: str
    needs: str = ""

    @property
    def weighted(self) -> bool:
        """Whether its weights are quantized too."""
        return not self.needs


class Graph:
    """A model's graph with ways to walk it."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.constants = {i.name: i for i in model.graph.initializer}
        self.outputs = {o.name for o in model.graph.output}
        self.producer = {name: node for node in self.nodes for name in node.output if name}
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                self.consumers.setdefault(name, []).append(node)
        self._depth: dict[str, int] = {}
        for node in self.nodes:  # ONNX graphs are in topological order
            deepest = 1 + max((self._depth.get(name, 0) for name in node.input), default=0)
            self._depth.update(dict.fromkeys(node.output, deepest))

    def depth(self, tensor: str) -> int:
        """How many nodes lie on the longest way to it."""
        return self._depth.get(tensor, 0)

    def weighted(self, tensor: str) -> onnx.NodeProto | None:
        """The weighted node that this tensor comes from directly, if nothing else sees it on the way."""
        node = self.producer.get(tensor)
        alone = len(self.consumers.get(tensor, [])) == 1 and tensor not in self.outputs
        return node if node is not None and alone and self.takes_weights(node) else None

    def result(self, name: str) -> str:
        """What the node of this name gives to others, with the activation and the pooling that TensorRT fuses
        or moves the pair past."""
        (node,) = [n for n in self.nodes if n.name == name]
        while True:
            readers = self.consumers.get(node.output[0], [])
            if len(readers) != 1 or readers[0].op_type not in (*_ACTIVATIONS, "MaxPool"):
                return str(node.output[0])
            node = readers[0]

    def takes_weights(self, node: onnx.NodeProto) -> bool:
        """Whether it multiplies data with constant FP32 weights."""
        if node.op_type not in WEIGHTED or len(node.input) < 2 or node.input[0] in self.constants:
            return False
        weights = self.constants.get(node.input[1])
        if weights is None or weights.data_type != TensorProto.FLOAT:
            return False
        # TensorRT 8.5 takes Q/DQ in front of two-dimensional convolutions' weights; it makes those of the
        # one-dimensional itself, by a reshaping that has no INT8.
        return len(weights.dims) == 4


def find(model: onnx.ModelProto) -> list[Site]:
    """All sites, in the graph's order."""
    graph = Graph(model)
    found = []
    for node in graph.nodes:
        if graph.takes_weights(node):
            found.append(Site(node.name, node.op_type, node.input[0]))
        elif node.op_type == "Add":
            found += _residual(graph, node)
    # The pair would have to stand between the graph and its caller.
    return [site for site in found if site.tensor not in graph.outputs]


def fitting(model: onnx.ModelProto, chosen: Iterable[Site]) -> list[Site]:
    """Those of the chosen sites that TensorRT takes together: no Add whose own result is not read in INT8."""
    graph, left = Graph(model), list(chosen)
    while True:
        read = {site.tensor for site in left}
        kept = [site for site in left if site.op != "Add" or graph.result(site.name) in read]
        if len(kept) == len(left):
            return kept
        left = kept  # the Add before it may have lost its reader


def _residual(graph: Graph, node: onnx.NodeProto) -> Iterable[Site]:
    one, other = node.input
    if one == other or one in graph.constants or other in graph.constants:
        return
    convolved = [t for t in (one, other) if graph.weighted(t) is not None]
    if not convolved:
        return
    # Of two convolutions the deeper one is the main branch, the other one projects the shortcut.
    main = max(convolved, key=lambda tensor: (graph.depth(tensor), tensor == other))
    branch = graph.weighted(main)
    assert branch is not None
    yield Site(node.name, node.op_type, other if main == one else one, needs=branch.name)
    end = graph.result(node.name)
    readers = graph.consumers.get(end, [])
    if len(readers) == 1 and readers[0].op_type == "AveragePool":
        yield Site(readers[0].name, readers[0].op_type, end, needs=branch.name)
