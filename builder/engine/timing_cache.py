"""TensorRT's timing cache: how fast each tactic was, kept from one build to the next.

With it a second build of the same layers takes less time, and a build beside a serving GPU chooses what was
the fastest on a quiet one. A file belongs to one TensorRT version and one kind of GPU. TensorRT refuses a
file that it does not like and builds all the same ("The timing cache will not be used!", seen with 8.5.1 for
ResNet50). It never makes a build fail: one that fails with a kept file is tried once more with a fresh one,
and one that crashes is tried once more without any. trtexec 8.5.1 crashes as it writes the file where cuDNN
is not complete, which nothing else of a build needs; an empty file then says that none is kept here.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple, TypeVar

from builder import progress
from builder.errors import CrashError, EngineError

_FILE = "timing.cache"
_REFUSED = "timing cache will not be used"
_Argv = TypeVar("_Argv")


class TimingCache:
    """The cache for one build.

    Args:
        folder: where the files are kept; None keeps none.
        identity: of the engine: TensorRT's version and the GPU.
        work: the build's own folder, in which trtexec runs.
    """

    def __init__(self, folder: Optional[Path], identity: Dict[str, Any], work: Path) -> None:
        gpu = identity.get("gpu")
        self._kept = folder / _name(identity["version"], gpu["name"]) if folder and gpu else None
        self._work = work

    def around(self, build: Callable[[str], Tuple[_Argv, str]]) -> Tuple[_Argv, str]:
        """Run ``build`` with the cache's file name, empty for none; gives what it gives: argv and log.

        Raises:
            EngineError: the build's own.
        """
        if self._kept is None:
            return build("")
        mine = self._work / _FILE
        known = self._take(mine)
        if known and mine.stat().st_size == 0:
            return build("")
        try:
            done = build(_FILE)
        except CrashError as e:
            progress.say(f"{e.found} with a timing cache: trying once more without one")
            done = build("")
            with contextlib.suppress(OSError):
                self._kept.write_bytes(b"")
            return done
        except EngineError:
            if not known:
                raise
            progress.say("the build failed with the kept timing cache: trying once more without it")
            with contextlib.suppress(OSError):
                self._kept.unlink()
            mine.unlink(missing_ok=True)
            done = build(_FILE)
        if known and _REFUSED in done[1]:
            progress.detail("TensorRT did not use the kept timings of earlier builds")
        self._keep(mine)
        return done

    def _take(self, mine: Path) -> bool:
        """Copy the kept file into the work folder, so that two builds never write the same; whether there
        was one."""
        assert self._kept is not None
        try:
            shutil.copyfile(self._kept, mine)
        except OSError:
            return False
        return True

    def _keep(self, mine: Path) -> None:
        assert self._kept is not None
        fresh = self._kept.with_name(f".{self._kept.name}.{os.getpid()}")
        try:
            if mine.stat().st_size == 0:
                return
            shutil.copyfile(mine, fresh)
            fresh.replace(self._kept)
        except OSError as e:
            progress.detail(f"the timing cache is not kept: {e.strerror or e}")
            with contextlib.suppress(OSError):
                fresh.unlink()


def _name(version: str, gpu: str) -> str:
    return f"timing-{version}-{re.sub('[^A-Za-z0-9.]+', '_', gpu)}.cache"
