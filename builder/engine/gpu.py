"""The GPU as nvidia-smi sees it."""

from __future__ import annotations

import csv
import os
import re
import subprocess
from typing import Any, Dict, List, Optional, Tuple

from builder import progress
from builder.errors import EngineError

_FIELDS = ["name", "driver_version", "memory.total", "compute_cap"]


def detect() -> Optional[Dict[str, Any]]:
    """Name, compute capability, driver and memory (MiB) of the GPU that CUDA takes first.

    The compute capability is None where the driver is too old to tell it; that is said.
    None where there is no nvidia-smi or it finds no GPU: on some Jetsons TensorRT works without it.

    Raises:
        EngineError: CUDA_VISIBLE_DEVICES (GPU_ID) names a GPU that is not among those that nvidia-smi finds.
    """
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    gpu, part = _parent(first) if first.startswith("MIG-") else (first, "")
    which = [f"--id={gpu}"] if gpu else []
    found = parse(_ask([f"--query-gpu={','.join(_FIELDS)}", "--format=csv", *which]))
    if found is None:
        # A driver that does not know a field answers nothing at all.
        found = parse(_ask([f"--query-gpu={','.join(_FIELDS[:-1])}", "--format=csv", *which]))
    if found is None and first:
        there = [line.strip() for line in _ask(["-L"]).splitlines() if line.strip()]
        if there:
            raise EngineError(
                f"GPU_ID is {first}: nvidia-smi finds no such GPU",
                expected="one of: " + "; ".join(there),
                remedy="set GPU_ID to a number or a UUID of nvidia-smi -L",
            )
    if found is not None and part:
        # As CUDA, and so trtexec, names it; the memory is the whole GPU's.
        found.update(name=f"{found['name']} {part}", memory_mib=None)
    if found is not None and found["compute_capability"] is None:
        progress.say(
            f"nvidia-smi (driver {found['driver']}) does not tell the compute capability: a release "
            "is checked against the GPU's name, and trtexec tells the capability when it builds"
        )
    return found


def busy_percent() -> Optional[int]:
    """How much of the last moment something ran on the GPU, 0 to 100, by nvidia-smi (whose moment is a sixth
    of a second to a second); None where nobody can tell: no GPU, or a part of one (MIG)."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    which = [f"--id={first}"] if first else []
    answer = _ask(["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", *which]).strip()
    number = answer.splitlines()[0].strip() if answer else ""
    return int(number) if number.isdigit() else None


def parse(text: str) -> Optional[Dict[str, Any]]:
    """The first GPU of ``nvidia-smi --query-gpu=... --format=csv``, or None."""
    rows: List[List[str]] = [row for row in csv.reader(text.splitlines(), skipinitialspace=True) if row]
    # The heading of a field may carry its unit: "memory.total [MiB]".
    names = [cell.split(" ")[0] for cell in rows[0]] if rows else []
    if len(rows) < 2 or len(rows[1]) != len(names) or not set(_FIELDS[:-1]) <= set(names):
        return None
    cells = dict(zip(names, (cell.strip() for cell in rows[1])))
    capability, mib = cells.get("compute_cap", ""), cells["memory.total"].partition(" ")[0]
    return {
        "name": cells["name"],
        "compute_capability": capability if re.fullmatch(r"\d+(\.\d+)?", capability) else None,
        "driver": cells["driver_version"],
        "memory_mib": int(mib) if mib.isdigit() else None,  # "[N/A]" where memory is shared with the CPU
    }


def _parent(mig: str) -> Tuple[str, str]:
    """The GPU that a MIG device is part of, and the part's name ("MIG 3g.20gb"); empty where it is not found.

    ``nvidia-smi --query-gpu`` knows whole GPUs only, ``nvidia-smi -L`` lists their parts below each.
    """
    gpu = ""
    for line in _ask(["-L"]).splitlines():
        uuid = re.search(r"\(UUID: ([^)]+)\)", line)
        if uuid is None:
            continue
        if line.startswith("GPU "):
            gpu = uuid.group(1)
        elif uuid.group(1) == mig:
            return gpu, " ".join(line.split()[:2])
    return "", ""


def _ask(args: List[str]) -> str:
    """nvidia-smi's answer, empty when it has none."""
    try:
        done = subprocess.run(["nvidia-smi", *args], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
