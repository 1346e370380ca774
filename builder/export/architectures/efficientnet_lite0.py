"""EfficientNet-Lite0 in Keras, with the weights of its PyTorch state dict.

The network of https://github.com/tensorflow/tpu (models/official/efficientnet/lite): EfficientNet-B0 without
squeeze-and-excitation, with ReLU6 in place of swish, 4.7 million parameters, 75.1 % top-1 on ImageNet. Its
pixels are (RGB - 127) / 128 at 224 x 224. It was trained with TensorFlow's padding, which "same" is.
"""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Set

import numpy as np

from builder.errors import SourceError

SIDE, CLASSES = 224, 1000
_EPSILON = 1e-3
_STEM, _HEAD = 32, 1280
_PARTS = ("weight", "bias", "running_mean", "running_var")  # of a batch norm, in Keras's order


class _Stage(NamedTuple):
    """Blocks of one kind; the first one has the stride."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    filters: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)


def build(tf: Any, weights: Optional[Dict[str, np.ndarray]]) -> Any:
    """The Keras model; without ``weights``, its variables are as Keras begins them.

    Raises:
        SourceError: a tensor is missing, is left over, or has another shape.
    """
    net = _Network(tf)
    picture = tf.keras.Input((SIDE, SIDE, 3), name="image")
    x = net.convolution(picture, "_conv_stem", _STEM, 3, 2)
    x = net.normalised(x, "_bn0")
    number, filters = 0, _STEM
    for stage in _STAGES:
        for turn in range(stage.repeats):
            stride = stage.stride if turn == 0 else 1
            x = net.block(x, f"_blocks.{number}.", filters, stride, stage)
            number, filters = number + 1, stage.filters
    x = net.convolution(x, "_conv_head", _HEAD, 1, 1)
    x = net.normalised(x, "_bn1")
    x = tf.keras.layers.GlobalAveragePooling2D()(x)
    answer = net.dense(x, "_fc", CLASSES)
    model = tf.keras.Model(picture, answer)
    if weights is not None:
        net.fill(weights)
    return model


class _Network:
    """Makes layers and remembers which of the state dict's tensors each one's variables are."""

    def __init__(self, tf: Any) -> None:
        self._tf = tf
        self._layers: List[Any] = []  # layer, names of its tensors, how each lies in PyTorch

    def convolution(self, x: Any, name: str, filters: int, kernel: int, stride: int) -> Any:
        """PyTorch has [out, in, height, width], Keras [height, width, in, out]."""
        layer = self._tf.keras.layers.Conv2D(filters, kernel, stride, "same", use_bias=False)
        return self._made(layer, x, [f"{name}.weight"], [(2, 3, 1, 0)])

    def depthwise(self, x: Any, name: str, kernel: int, stride: int) -> Any:
        """PyTorch has [channels, 1, height, width], Keras [height, width, channels, 1]."""
        layer = self._tf.keras.layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False)
        return self._made(layer, x, [f"{name}.weight"], [(2, 3, 0, 1)])

    def normalised(self, x: Any, name: str, *, relu: bool = True) -> Any:
        """Batch norm and, unless it ends a block, ReLU6."""
        layer = self._tf.keras.layers.BatchNormalization(epsilon=_EPSILON)
        x = self._made(layer, x, [f"{name}.{part}" for part in _PARTS], [(0,)] * len(_PARTS))
        return self._tf.keras.layers.ReLU(6.0)(x) if relu else x

    def dense(self, x: Any, name: str, classes: int) -> Any:
        """PyTorch has [out, in], Keras [in, out]."""
        layer = self._tf.keras.layers.Dense(classes, "softmax")
        return self._made(layer, x, [f"{name}.weight", f"{name}.bias"], [(1, 0), (0,)])

    def block(self, x: Any, name: str, filters: int, stride: int, stage: _Stage) -> Any:
        """An inverted residual: wider, depthwise, narrower, and around it where nothing changes its shape."""
        y = x
        if stage.expand > 1:
            y = self.convolution(y, f"{name}_expand_conv", filters * stage.expand, 1, 1)
            y = self.normalised(y, f"{name}_bn0")
        y = self.depthwise(y, f"{name}_depthwise_conv", stage.kernel, stride)
        y = self.normalised(y, f"{name}_bn1")
        y = self.convolution(y, f"{name}_project_conv", stage.filters, 1, 1)
        y = self.normalised(y, f"{name}_bn2", relu=False)
        around = stride == 1 and filters == stage.filters
        return self._tf.keras.layers.Add()([x, y]) if around else y

    def _made(self, layer: Any, x: Any, names: List[str], axes: List[Any]) -> Any:
        self._layers.append((layer, names, axes))
        return layer(x)

    def fill(self, weights: Dict[str, np.ndarray]) -> None:
        """Put the state dict's tensors into the layers; raises SourceError unless each has its place."""
        used: Set[str] = set()
        for layer, names, axes in self._layers:
            arrays = []
            for name, order, shape in zip(names, axes, [w.shape for w in layer.get_weights()]):
                array = weights.get(name)
                found = "is missing" if array is None else f"is {array.dtype} {list(array.shape)}"
                if array is None or array.ndim != len(order) or array.transpose(order).shape != shape:
                    raise SourceError(
                        f"the weights are not EfficientNet-Lite0's: {name} {found}",
                        expected=str([shape[place] for place in np.argsort(order)]),
                    )
                arrays.append(array.transpose(order))
                used.add(name)
            layer.set_weights(arrays)
        left = sorted(n for n in {*weights} - used if not n.endswith("num_batches_tracked"))
        if left:
            raise SourceError(
                f"the weights are not EfficientNet-Lite0's: {len(left)} tensors have no place in it",
                details=", ".join(left[:10]),
            )
