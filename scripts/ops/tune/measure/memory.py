"""Is there memory for a second server beside the live one?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, Optional

from ops.errors import OpsError
from ops.probe import ask

_SERVER_MIB = {"gpu": 600, "cpu": 300}  # with no model: on a GPU the CUDA context and Triton's pools
_INSTANCE_MIB = {"gpu": 0, "cpu": 180}  # beside the model: on a CPU a Python process with onnxruntime


def needed_mib(device: str, model_bytes: int, instances: int) -> int:
    """What serving a model takes, on the high side: its file once more than instances, and as much again to
    compute in."""
    return 2 * (1 + instances) * (model_bytes >> 20) + _INSTANCE_MIB[device] * instances + 16


def free_mib(device: str, gpu: str) -> Optional[int]:
    """Free memory of the GPU that ``gpu`` names (GPU_ID) or of this machine; None where nobody tells."""
    if device == "gpu":
        answer = ask(
            ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits", f"--id={gpu}"]
        )
        text = (answer or "").splitlines()[0].strip() if answer else ""
        return int(text) if text.isdigit() else None
    found = [value for value in (_available(), _cgroup()) if value is not None]
    return min(found) if found else None


def check(device: str, gpu: str, model_bytes: int, instances: int) -> None:
    """Raise OpsError unless a scratch server with two such models fits beside what runs now."""
    free = free_mib(device, gpu)
    needed = _SERVER_MIB[device] + 2 * needed_mib(device, model_bytes, instances)
    if free is not None and free < needed:
        where = f"on GPU {gpu}" if device == "gpu" else "of this machine's memory"
        raise OpsError(
            f"{free} MiB are free {where}: too little for a scratch server beside the live one",
            expected=f"{needed} MiB: the server, the present model and one candidate",
            remedy="free memory, or tune on another machine with the same "
            f"{'GPU' if device == 'gpu' else 'processor'}",
        )


def _available() -> Optional[int]:
    found = re.search(r"MemAvailable:\s+(\d+) kB", _read("/proc/meminfo"))
    return int(found.group(1)) >> 10 if found else None


def _cgroup() -> Optional[int]:
    values: Dict[str, str] = {n: _read(f"/sys/fs/cgroup/memory.{n}").strip() for n in ("max", "current")}
    if not all(v.isdigit() for v in values.values()):
        return None  # no limit, or no cgroup v2
    cache = re.search(r"^inactive_file (\d+)", _read("/sys/fs/cgroup/memory.stat"), re.MULTILINE)
    return (int(values["max"]) - int(values["current"]) + int(cache.group(1) if cache else 0)) >> 20


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except OSError:
        return ""
