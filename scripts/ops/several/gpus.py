"""Which GPU each of several native servers gets. In containers triton/entrypoint chooses by the same rule."""

from __future__ import annotations

import re
from typing import List

from ops.errors import OpsError
from ops.probe import ask
from ops.settings import Settings


def listed(text: str) -> List[str]:
    """The UUIDs in `nvidia-smi -L`; a GPU that is divided by MIG counts as its parts."""
    found: List[str] = []
    for line in text.splitlines():
        match = re.search(r"UUID: ([^)\s]+)", line)
        if not match:
            continue
        if line.lstrip().startswith("MIG") and found and found[-1].startswith("GPU-"):
            found.pop()
        found.append(match[1])
    return found


def chosen(settings: Settings) -> List[str]:
    """A GPU for each of TRITON_COUNT servers; raises OpsError where there are fewer."""
    found = settings.triton_gpus or listed(ask(["nvidia-smi", "-L"]) or "")
    if len(found) < settings.triton_count:
        raise OpsError(
            f"TRITON_COUNT is {settings.triton_count}, and there are {len(found)} GPUs: "
            f"{', '.join(found) or 'none'}",
            remedy="set TRITON_COUNT to that number at most; TRITON_GPUS names the GPUs to use",
        )
    return found[: settings.triton_count]
