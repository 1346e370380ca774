"""Triton's counters out of its Prometheus text."""

from __future__ import annotations

import http.client
import re
from dataclasses import dataclass

from triton_stack_client.errors import ServerError
from triton_stack_client.transport import direct

# Of the families on :8002 only these are read. Lines are summed by (model, version): on a GPU a
# gpu_uuid label comes and goes.
_LINE = re.compile(
    r"^(nv_inference_request_success|nv_inference_count)\{([^}]*)\} ([0-9.eE+]+)$", re.MULTILINE
)


@dataclass(frozen=True)
class Counters:
    """Requests answered well, and inferences made (a request of batch n makes n), since the start."""

    requests: int
    inferences: int


def parse(text: str, model: str, version: int) -> Counters:
    """The counters of one model version in Prometheus text; zeros where it has none yet."""
    sums = {"nv_inference_request_success": 0, "nv_inference_count": 0}
    for family, labels, value in _LINE.findall(text):
        if f'model="{model}"' in labels and f'version="{version}"' in labels:
            sums[family] += round(float(value))
    return Counters(sums["nv_inference_request_success"], sums["nv_inference_count"])


def fetch(address: str, timeout: float) -> str:
    """The text at ``http://address/metrics``; raises ServerError."""
    try:
        with direct.open_url(f"http://{address}/metrics", timeout) as answer:
            return str(answer.read().decode("utf-8"))
    except (OSError, ValueError, http.client.HTTPException) as e:
        raise ServerError(f"metrics {address}: {e}", remedy="is the server up? ./scripts/status") from e
