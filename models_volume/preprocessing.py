"""Image preprocessing as numbers, so that the graph, the golden samples and any client agree on it.

The modes and figures are those of ``keras.applications.imagenet_utils.preprocess_input``, and two more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Tuple

_ORDERS = ("RGB", "BGR")


@dataclass(frozen=True)
class Preprocessing:
    """``(pixels[..., order] * scale - mean) / std`` on RGB pixels 0..255, channels last."""

    mode: str
    channel_order: str
    scale: float
    mean: Tuple[float, ...]
    std: Tuple[float, ...]

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Preprocessing:
        """From a manifest's numbers; raises KeyError, TypeError or ValueError for what cannot be one."""
        if data["channel_order"] not in _ORDERS:
            raise ValueError(f"channel_order {data['channel_order']} is none of {', '.join(_ORDERS)}")
        mean, std = (tuple(float(v) for v in data[key]) for key in ("mean", "std"))
        return cls(str(data.get("mode", "")), data["channel_order"], float(data["scale"]), mean, std)

    def apply(self, pixels: Any) -> Any:
        """Preprocess an array or tensor [..., channels]; works on NumPy and TensorFlow alike.

        Whole numbers become float32 first; fractions keep their type, or become float32 of float16.
        """
        import numpy as np  # here, since readers of the manifest alone do without it

        if isinstance(pixels, np.ndarray) and pixels.dtype.kind in "iu":
            pixels = pixels.astype(np.float32)
        channels = int(pixels.shape[-1])
        if self.channel_order == "BGR":
            pixels = pixels[..., ::-1]
        if self.scale != 1.0:
            pixels = pixels * self.scale
        if any(self.mean):
            pixels = pixels - np.array(self.mean[:channels], np.float32)
        if any(s != 1.0 for s in self.std):
            pixels = pixels / np.array(self.std[:channels], np.float32)
        return pixels

    def as_json(self) -> Dict[str, Any]:
        """The numbers, for the manifest: whoever prepares requests needs nothing else."""
        return {
            "mode": self.mode,
            "channel_order": self.channel_order,
            "scale": self.scale,
            "mean": list(self.mean),
            "std": list(self.std),
        }


MODES: Dict[str, Preprocessing] = {
    p.mode: p
    for p in (
        # ResNet, VGG: Caffe's BGR with the ImageNet means taken away.
        Preprocessing("caffe", "BGR", 1.0, (103.939, 116.779, 123.68), (1.0, 1.0, 1.0)),
        # DenseNet: 0..1, then the ImageNet mean and deviation.
        Preprocessing("torch", "RGB", 1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        # MobileNet, Inception, Xception: -1..1.
        Preprocessing("tf", "RGB", 1 / 127.5, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
        # EfficientNet-Lite: (RGB - 127) / 128.
        Preprocessing("lite", "RGB", 1 / 128, (127 / 128,) * 3, (1.0, 1.0, 1.0)),
        # 0..1, any number of channels.
        Preprocessing("unit", "RGB", 1 / 255, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    )
}
