"""Image preprocessing as numbers, so that the graph, the golden samples and any client agree on it.

The modes and figures are those of ``keras.applications.imagenet_utils.preprocess_input``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Tuple


@dataclass(frozen=True)
class Preprocessing:
    """``(pixels[..., order] * scale - mean) / std`` on RGB pixels 0..255, channels last."""

    mode: str
    channel_order: str
    scale: float
    mean: Tuple[float, float, float]
    std: Tuple[float, float, float]

    def apply(self, pixels: Any) -> Any:
        """Preprocess a float array or tensor of shape [..., 3]; works on NumPy and TensorFlow alike."""
        if self.channel_order == "BGR":
            pixels = pixels[..., ::-1]
        if self.scale != 1.0:
            pixels = pixels * self.scale
        if any(self.mean):
            pixels = pixels - list(self.mean)
        if any(s != 1.0 for s in self.std):
            pixels = pixels / list(self.std)
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
        # 0..1, any number of channels.
        Preprocessing("unit", "RGB", 1 / 255, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    )
}
