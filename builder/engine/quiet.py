"""A build beside a GPU that serves: TensorRT times its tactics there, and others' work spoils the timings.

Measured on an H100 under full load: a build took 3.5 times as long, and three builds of one model differed.
"""

from __future__ import annotations

import time
from typing import Optional

from builder import progress
from builder.engine import gpu

_BUSY = 10  # percent: below it a GPU is quiet; a desktop's window manager stays below
_LULL = 5.0  # seconds that it has to stay so
_LOOK = 1.0
_SAY = 30.0  # seconds between two lines while it waits


def before_build(minutes: Optional[float]) -> Optional[int]:
    """Look at the GPU before an engine is built, and wait for a lull if asked to.

    Args:
        minutes: how long to wait at most; the build then begins all the same. None does not wait.

    Returns:
        How busy the GPU is as the build begins, in percent; None where nobody can tell.
    """
    busy = gpu.busy_percent()
    if busy is None:
        if minutes is not None:
            progress.say("--quiet-gpu: nvidia-smi does not tell how busy this GPU is: building at once")
        return None
    if minutes is not None:
        return _wait(minutes * 60)
    if busy >= _BUSY:
        progress.say(
            f"the GPU is busy ({busy} %): tactics timed beside a load take longer and may be worse; "
            "--quiet-gpu waits for a lull"
        )
    return busy


def _wait(seconds: float) -> int:
    began = last_said = time.monotonic()
    quiet_since: Optional[float] = None
    told = False
    while True:
        busy = gpu.busy_percent() or 0
        now = time.monotonic()
        if busy >= _BUSY:
            quiet_since = None
            if not told or now - last_said > _SAY:
                left = max(0.0, seconds - (now - began))
                progress.say(
                    f"waiting for the GPU to be quiet: it is {busy} % busy; {left:.0f} s are left to wait"
                )
                told, last_said = True, now
        else:
            quiet_since = now if quiet_since is None else quiet_since
            if now - quiet_since >= _LULL:
                return busy
        if now - began >= seconds:
            progress.say(
                f"the GPU was not quiet within {seconds / 60:g} minutes ({busy} % busy): "
                "building beside its load"
            )
            return busy
        time.sleep(_LOOK)
