"""What a server that was killed leaves behind: the Python backend's processes and shared memory.

A server that ends in order removes both. After SIGKILL (the kernel's, when memory runs out, or an
operator's) a backend process that was busy waits for ever for its server, and holds its 64 MB region.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Iterator, Set

_SHM = Path("/dev/shm")  # noqa: S108  (where Triton puts them)
_REGIONS = "triton_*_backend_shm_region_*"
_STUB = "triton_python_backend_stub"


def remove(backends: Path) -> None:
    """End this user's orphaned stubs of ``backends``, and remove regions that nobody has mapped."""
    for pid in _orphans(backends / "python" / _STUB):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        while _mapped(pid):  # until the kernel has let go of its memory
            time.sleep(0.01)
    for region in _unused():
        region.unlink(missing_ok=True)


def _orphans(stub: Path) -> Iterator[int]:
    for process in Path("/proc").glob("[0-9]*"):
        # The stub is laid out anew at every start, so an older server's is a deleted file by now.
        if _executable(process).replace(" (deleted)", "") != str(stub):
            continue
        try:
            # pid (command) state ppid ...; the command may hold spaces.
            parent = (process / "stat").read_text("utf-8").rpartition(")")[2].split()[1]
        except OSError:
            continue  # it has ended
        if Path(_executable(Path("/proc") / parent)).name != "tritonserver":
            yield int(process.name)


def _executable(process: Path) -> str:
    return _link(process / "exe")


def _link(path: Path) -> str:
    try:
        return os.readlink(str(path))
    except OSError:
        return ""  # ended, or somebody else's


def _unused() -> Set[Path]:
    regions = {p for p in _SHM.glob(_REGIONS) if _owner(p) == os.getuid()}
    for process in Path("/proc").glob("[0-9]*"):
        if not regions:
            break
        # Its open files first: another server's region that is not mapped yet is open, and may be
        # mapped and closed by the time the maps are read.
        held = _open(process) + _mapped(int(process.name))
        regions -= {r for r in regions if str(r) in held}
    return regions


def _owner(region: Path) -> int:
    try:
        return region.stat().st_uid
    except OSError:
        return -1


def _open(process: Path) -> str:
    try:
        return "\n".join(_link(fd) for fd in (process / "fd").iterdir())
    except OSError:
        return ""


def _mapped(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/maps").read_text("utf-8")
    except OSError:
        return ""


if __name__ == "__main__":
    remove(Path(sys.argv[1]))
