"""What is tuned: a spec whose release is live just as the spec says."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

from models_volume.layout import Volume
from ops.errors import OpsError
from ops.rollout import Rollout, ask
from ops.runtimes.native import Native
from ops.settings import ROOT, Settings, folder
from ops.tune.candidates import Present


@dataclass(frozen=True)
class Subject:
    """A model, its spec and its live release.

    Attributes:
        file: the spec's. shipped: whether it is one of the builder's own, which nobody should edit.
        release: the folder of the live release, whose number is ``version``.
        manifest: of that release.
    """

    model: str
    file: str
    shipped: bool
    sha256: str
    present: Present
    volume: Volume
    version: int
    manifest: Dict[str, Any]

    @property
    def release(self) -> Path:
        """The live release's folder."""
        return self.volume.release(self.model, self.version)

    @property
    def engine_bytes(self) -> int:
        """The size of its engine."""
        return int(self.manifest["engine"]["bytes"])

    def check_live(self) -> None:
        """Raise OpsError when another release went live meanwhile."""
        now = self.volume.live(self.model)
        if now != self.version:
            raise OpsError(
                f"{self.model}: release {now or 'none'} is live now, and {self.version} was when tuning "
                "began: what was measured compares with a configuration that is not served any more",
                remedy="run tune again, without --resume",
            )

    def identity(self) -> Dict[str, Any]:
        """What figures belong to, for a run that is resumed."""
        engine = self.manifest["engine"]
        return {
            "model": self.model,
            "spec": self.sha256,
            "release": self.version,
            "int8": dict(self.present.int8),
            "fingerprint": self.manifest["fingerprint"],
            "engine": f"{engine['name']} {engine['version']}",
            "machine": machine(),
            "gpu": (engine.get("gpu") or {}).get("name"),
        }


def find(runtime: Native, settings: Settings, name: str, calibration: Optional[Path] = None) -> Subject:
    """The subject called ``name``: a spec's file or its name.

    Args:
        calibration: a folder or file of data like real requests: INT8 is tried, too.

    Raises:
        OpsError: there is no such spec, its model is not live, the live release is not as the spec says, or
            INT8 cannot be tried.
    """
    if calibration is not None and not calibration.exists():
        raise OpsError(
            f"--calibration {calibration}: there is no such file or folder",
            remedy="name a folder of pictures, or an .npy or .npz",
        )
    described = _described(runtime, settings, name)
    model, volume = described["name"], Volume(settings.models_dir)
    version = volume.live(model)
    up = f"./scripts/redeploy --model {described['file']}"
    if version is None:
        raise OpsError(f"{model} is not live: there is nothing to compare with", remedy=up)
    if described["free"]:
        raise OpsError(
            f"{model} has free dimensions: figures of different sizes do not compare",
            expected="a spec whose inputs have fixed dims",
            remedy="tune a copy of it with the sizes that matter, and take its serving keys over",
        )
    would = Rollout(runtime, settings).dry_run(described["file"])
    if not would["would"].startswith("do nothing"):
        raise OpsError(
            f"{model}: release {version} is live, and it is not what {described['file']} says",
            details="\n".join(would["changes"]),
            remedy=f"{up}, and tune what is live then",
        )
    manifest = runtime.snapshot()[model]["manifest"]
    if manifest is None:
        raise OpsError(f"{model}: the manifest of release {version} cannot be read", remedy=f"{up} --force")
    int8 = {} if calibration is None else _int8(described, manifest, calibration)
    present = Present(described["batch"], described["serving"], described["levers"], int8)
    return Subject(
        model,
        described["file"],
        bool(described["shipped"]),
        described["sha256"],
        present,
        volume,
        version,
        dict(manifest),
    )


def _int8(described: Dict[str, Any], manifest: Dict[str, Any], data: Path) -> Dict[str, Any]:
    """What the spec would say; raises OpsError."""
    model = described["name"]
    if described["precision"].startswith("int8"):
        raise OpsError(f"{model} is {described['precision']} already", remedy="leave --calibration away")
    if (manifest.get("weights") or {}).get("untrained"):
        raise OpsError(
            f"{model} has untrained weights: what they answer is noise in any precision",
            remedy="give it trained weights, or leave --calibration away",
        )
    place = data.resolve()
    kind = "folder" if place.is_dir() else "file"
    return {"precision": "int8_fp16", "calibration": {kind: str(place)}}


def _described(runtime: Native, settings: Settings, name: str) -> Dict[str, Any]:
    """The builder's description of the first spec that ``name`` may mean: the one that the live release was
    built from, then the user's own, then ours."""
    if Path(name).is_file():
        names: List[str] = [str(Path(name).resolve())]
    else:
        built_from = Volume(settings.models_dir).spec(name) if "/" not in name else ""
        own = [
            Path(built_from),
            folder("SPECS_DIR", "specs") / f"{name}.yaml",
            *map(Path, settings.models.split()),
        ]
        names = [str((ROOT / p).resolve()) for p in own if (ROOT / p).is_file() and p.suffix]
        names.append(name)
    for spec in names:
        try:
            found: Dict[str, Any] = ask(runtime, "builder", ["describe", spec])
        except OpsError:
            if spec == names[-1]:
                raise
            continue
        if len(names) == 1 or found["name"] == name:
            return found
    raise OpsError(f'there is no spec of a model "{name}"', remedy="name the spec's file")


def machine() -> str:
    """The processor and how many cores of it this process may use."""
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text("utf-8"))
    except OSError:
        found = None
    return f"{found.group(1).strip() if found else 'unknown processor'}, {cores()} cores"


def cores() -> int:
    """Cores that this process may use: its affinity, or its control group's quota where that is less."""
    count = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text("ascii").split()
    except (OSError, ValueError):
        return count
    return count if quota == "max" else min(count, max(1, int(quota) // int(period)))
