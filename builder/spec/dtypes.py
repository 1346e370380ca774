"""The tensor types a spec may name, and what each is called by the tools along the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Optional

import numpy as np


@dataclass(frozen=True)
class DType:
    """One tensor type.

    Attributes:
        name: Triton's name on the wire, as in the v2 protocol.
        numpy: the array type.
        onnx: the number of ``onnx.TensorProto.DataType``.
        trtexec: the type in ``--inputIOFormats``; None where trtexec 8.5's grammar has no word for it
            (it takes a UINT8 tensor as it is when no format is given).
    """

    name: str
    numpy: np.dtype[np.generic]
    onnx: int
    trtexec: Optional[str]


# The types that TensorRT 8.5 takes at an engine's boundary and onnxruntime's CPU kernels cover too.
DTYPES: Dict[str, DType] = {
    d.name: d
    for d in (
        DType("UINT8", np.dtype(np.uint8), 2, None),
        DType("INT32", np.dtype(np.int32), 6, "int32"),
        DType("FP16", np.dtype(np.float16), 10, "fp16"),
        DType("FP32", np.dtype(np.float32), 1, "fp32"),
    )
}
