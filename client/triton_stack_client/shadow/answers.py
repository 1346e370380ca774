"""A v2 inference request as it is copied, and the tensors of an answer to it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from tritonclient.utils import deserialize_bytes_tensor, triton_to_np_dtype

from triton_stack_client.errors import ClientError

LENGTH = "Inference-Header-Content-Length"


class UnusableError(ClientError):
    """A copy or an answer with which nothing can be compared."""


@dataclass(frozen=True)
class Answer:
    """The version that answered, and its outputs."""

    version: str
    outputs: dict[str, np.ndarray]


def copied(body: bytes, length: str | None) -> tuple[bytes, int]:
    """A request that asks for all outputs, as binary; its body, and how much of that is JSON.

    Args:
        body: the client's request.
        length: its Inference-Header-Content-Length, None where all of it is JSON.

    Raises:
        UnusableError: it is no request, or part of a sequence, which a copy would disturb.
    """
    try:
        end = len(body) if length is None else int(length)
        request = json.loads(body[:end])
        parameters = request.get("parameters") or {}
        inputs = request["inputs"]
    except (ValueError, KeyError, AttributeError) as e:
        raise UnusableError(f"the copy is no inference request: {e}") from e
    if "sequence_id" in parameters:
        raise UnusableError("the request is one of a sequence")
    header = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    return header + body[end:], len(header)


def parsed(body: bytes, length: str | None) -> Answer:
    """Triton's answer; raises UnusableError."""
    try:
        end = len(body) if length is None else int(length)
        described = json.loads(body[:end])
        outputs = {}
        for output in described["outputs"]:
            size = output.get("parameters", {}).get("binary_data_size")
            outputs[str(output["name"])] = _tensor(output, None if size is None else body[end : end + size])
            end += size or 0
        return Answer(str(described["model_version"]), outputs)
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise UnusableError(f"the answer cannot be read: {e!r}") from e


def _tensor(output: dict[str, Any], content: bytes | None) -> np.ndarray:
    datatype = output["datatype"]
    if content is None:
        flat = np.array(output["data"], triton_to_np_dtype(datatype))
    elif datatype == "BYTES":
        flat = np.asarray(deserialize_bytes_tensor(content))
    else:
        flat = np.frombuffer(content, triton_to_np_dtype(datatype))
    tensor: np.ndarray = flat.reshape(output["shape"])
    return tensor
