"""Which layers INT8 hurts, and which of them are left out of it.

A layer is a convolution, with the Add that is quantized on its account. Each layer is quantized alone, and
the noise that this makes at the outputs is measured: the layers' order. Then the worst ones are left out, as
few as a bisection finds to be enough. Everything here is judged on calibration samples; what is held out is
not looked at.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from builder import progress
from builder.quantize import agreement, answers, qdq
from builder.quantize.agreement import Figures
from builder.quantize.answers import Arrays
from builder.quantize.sites import Site

_ALONE = 32  # samples that a layer is measured on alone
_NEWS = 10.0  # seconds between two lines


@dataclass(frozen=True)
class Layer:
    """A layer's cost.

    Attributes:
        name: its node's.
        op: "Conv", ...
        alone: how far the model is from the source with this layer in INT8 and nothing else.
        left_out: whether it stays out of INT8.
    """

    name: str
    op: str
    alone: Figures
    left_out: bool = False


@dataclass(frozen=True)
class Plan:
    """What runs in INT8.

    Attributes:
        sites: the operations that do.
        layers: all that could, those that hurt most first.
        plain: how far the model is from the source with everything in INT8.
        chosen: and with ``sites`` in INT8.
        enough: whether that meets what was asked.
        seconds: that the search took.
    """

    sites: tuple[Site, ...]
    layers: tuple[Layer, ...]
    plain: Figures
    chosen: Figures
    enough: bool
    seconds: float


class Search:
    """Of one model on one set of calibration samples."""

    def __init__(
        self, model: onnx.ModelProto, sites: Sequence[Site], ranges: Any, inputs: Arrays, batch: int
    ) -> None:
        self._model, self._sites, self._ranges = model, list(sites), ranges
        self._inputs, self._batch = inputs, batch
        self._reference = answers.run(model, inputs, batch)

    def _figures(self, sites: Sequence[Site], most: int | None = None) -> Figures:
        made = qdq.quantize(self._model, sites, self._ranges)
        inputs = {name: array[:most] for name, array in self._inputs.items()}
        found = answers.run(made, inputs, self._batch)
        return agreement.compare({n: a[:most] for n, a in self._reference.items()}, found)

    def alone(self) -> list[Layer]:
        """Every layer's cost by itself, the worst first; of equal ones, the first in the graph."""
        weighted = [site for site in self._sites if site.weighted]
        found = []
        began = told = time.monotonic()
        for number, site in enumerate(weighted, 1):
            figures = self._figures([s for s in self._sites if site.name in (s.name, s.needs)], _ALONE)
            found.append(Layer(site.name, site.op, figures))
            now = time.monotonic()
            if now - told > _NEWS:
                left = (now - began) / number * (len(weighted) - number)
                progress.detail(f"  {number} of {len(weighted)} layers measured, about {left:.0f} s more")
                told = now
        return sorted(found, key=lambda layer: layer.alone.sqnr_db)

    def run(self, least_agreement: float, least_sqnr_db: float, most: int) -> Plan:
        """Leave out as few layers as meet this, at most ``most`` of them."""
        began = time.monotonic()
        plain = self._figures(self._sites)
        layers = self.alone()
        tried = {0: plain}

        def enough(count: int) -> bool:
            if count not in tried:
                tried[count] = self._figures(self._without(layers[:count]))
                progress.detail(f"  {count} layers left out: {tried[count]}")
            return tried[count].meets(least_agreement, least_sqnr_db)

        low, high = 0, min(most, len(layers))
        if not enough(0) and enough(high):
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if enough(middle) else (middle, high)
            count = high
        else:
            count = 0 if enough(0) else high
        rows = tuple(
            Layer(layer.name, layer.op, layer.alone, left_out=place < count)
            for place, layer in enumerate(layers)
        )
        sites = tuple(self._without(layers[:count]))
        return Plan(sites, rows, plain, tried[count], enough(count), time.monotonic() - began)

    def _without(self, layers: Sequence[Layer]) -> list[Site]:
        gone = {layer.name for layer in layers}
        return [site for site in self._sites if site.name not in gone and site.needs not in gone]
