"""Images per second at saturation, served against local, in turns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triton_stack_client.bench.baseline_process import BaselineProcess
from triton_stack_client.bench.perf import PerfAnalyzer, Point


@dataclass(frozen=True)
class Saturation:
    """Medians over ``rounds``, and the median of the rounds' own ratios."""

    way: str
    batch: int
    concurrency: int
    rounds: int
    served: float
    local: float
    ratio: float


def measure(
    perf: PerfAnalyzer, local: BaselineProcess, best: Point, *, rounds: int, seconds: float
) -> Saturation:
    """Take turns of about ``seconds`` at the load of the ``best`` point; local runs the same batch size.

    Raises:
        ClientError: the server or the baseline does not answer.
    """
    requests = max(2 * best.concurrency, round(seconds * best.images_per_s / best.batch))
    served, own = [], []
    for _ in range(rounds):
        took = local.run(best.batch, max(3, requests))
        own.append(best.batch * len(took) / sum(took))
        served.append(perf.count(best.way, best.batch, best.concurrency, requests=requests).images_per_s)
    ratios = np.array(served) / np.array(own)
    return Saturation(
        best.way,
        best.batch,
        best.concurrency,
        rounds,
        float(np.median(served)),
        float(np.median(own)),
        float(np.median(ratios)),
    )
