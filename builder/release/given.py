"""A release that was built elsewhere: its files, and whether its engine is for this machine."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Tuple

from builder import hashing
from builder.engine import LOG, Built
from models_volume import layout

# Beside the engine: what was found out about these very bytes, and cannot be found out without the data.
_REPORTS = (
    layout.EVALUATION, layout.EVALUATION_PAGE, layout.QUANTIZATION, layout.QUANTIZATION_PAGE,
)  # fmt: skip
_OURS = ("file", "bytes", "sha256", "argv", "cached", "gpu_busy_percent")  # of a manifest's engine


@dataclass(frozen=True)
class Given:
    """A release in a folder, as it was published elsewhere.

    Attributes:
        data: its manifest.
        fits: whether this machine can load its engine; if not, one is built of its ONNX file.
        origin: where it came from, for the manifest.
    """

    folder: Path
    data: Mapping[str, Any]
    fits: bool
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def engine(self) -> Path:
        """Its engine's file."""
        return self.folder / "model" / str(self.data["version"]) / str(self.data["engine"]["file"])

    def place(self, file: Path, work: Path) -> Built:
        """Copy the engine to ``file``, and its build log to ``work``; what its manifest says of that."""
        made = self.data["engine"]
        shutil.copyfile(self.engine, file)
        log = self.folder / LOG
        shutil.copyfile(log, work / LOG) if log.is_file() else (work / LOG).touch()
        identity = {key: value for key, value in made.items() if key not in _OURS}
        return Built(
            list(made.get("argv") or []),
            0.0,
            identity,
            cached=True,
            gpu_busy_percent=made.get("gpu_busy_percent"),
        )

    def reports(self, release: Path) -> Tuple[Optional[Dict[str, Any]], Optional[Dict[str, Any]]]:
        """Copy what was found out about this engine to ``release``; its evaluation and its quantization in
        short. Nothing for another engine: its accuracy was not measured."""
        if not self.fits:
            return None, None
        for name in _REPORTS:
            if (self.folder / name).is_file():
                shutil.copyfile(self.folder / name, release / name)
        return self.data.get("evaluation"), self.data.get("quantization")


def shared(data: Mapping[str, Any]) -> Dict[str, str]:
    """The files that do not depend on the engine, and their sha256: ONNX, golden samples, labels.

    Raises KeyError or TypeError for what is no manifest.
    """
    labels = [f"model/{o['labels']}" for o in data["contract"]["outputs"] if o.get("labels")]
    return {name: str(data["files"][name]) for name in (layout.ONNX, layout.GOLDEN, *sorted(set(labels)))}


def key(data: Mapping[str, Any]) -> str:
    """A hash of what a release is to its users, whatever engine runs it: model, contract, batching.

    Raises KeyError or TypeError for what is no manifest.
    """
    asked = {name: data["spec"][name] for name in ("name", "batch", "precision", "trtexec_args", "serving")}
    return hashing.of_json({"files": shared(data), "contract": data["contract"], "spec": asked})
