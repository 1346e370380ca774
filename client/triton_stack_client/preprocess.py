"""What a client does to pixels before they travel, where the model's graph does not do it itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_ORDERS = ("RGB", "BGR")


@dataclass(frozen=True)
class Preprocessing:
    """``(pixels[..., order] * scale - mean) / std`` on pixels 0..255, channels last."""

    order: str
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Preprocessing:
        """From a manifest's numbers; raises KeyError, TypeError or ValueError for what cannot be one."""
        if data["channel_order"] not in _ORDERS:
            raise ValueError(f"channel_order {data['channel_order']} is none of {', '.join(_ORDERS)}")
        mean, std = (tuple(float(v) for v in data[key]) for key in ("mean", "std"))
        return cls(data["channel_order"], float(data["scale"]), mean, std)

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Float32 [..., channels] from UINT8 of the same shape."""
        channels = pixels.shape[-1]
        ordered = pixels[..., ::-1] if self.order == "BGR" else pixels
        mean, std = (np.array(v[:channels], np.float32) for v in (self.mean, self.std))
        return np.asarray((ordered.astype(np.float32) * np.float32(self.scale) - mean) / std)
