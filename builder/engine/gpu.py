"""The GPU as nvidia-smi sees it."""

from __future__ import annotations

import csv
import os
import subprocess
from typing import Any, Dict, List, Optional

_FIELDS = ["name", "compute_cap", "driver_version", "memory.total"]


def detect() -> Optional[Dict[str, Any]]:
    """Name, compute capability, driver and memory (MiB) of the GPU that CUDA takes first.

    None where there is no nvidia-smi or it finds no GPU: on some Jetsons TensorRT works without it.
    """
    argv = ["nvidia-smi", f"--query-gpu={','.join(_FIELDS)}", "--format=csv"]
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    if first:
        argv.append(f"--id={first}")
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse(done.stdout) if done.returncode == 0 else None


def parse(text: str) -> Optional[Dict[str, Any]]:
    """The first GPU of ``nvidia-smi --query-gpu=... --format=csv``, or None."""
    rows: List[List[str]] = [row for row in csv.reader(text.splitlines(), skipinitialspace=True) if row]
    if len(rows) < 2 or len(rows[1]) != len(_FIELDS):
        return None
    name, capability, driver, memory = (cell.strip() for cell in rows[1])
    mib = memory.partition(" ")[0]
    return {
        "name": name,
        "compute_capability": capability,
        "driver": driver,
        "memory_mib": int(mib) if mib.isdigit() else None,  # "[N/A]" where memory is shared with the CPU
    }
