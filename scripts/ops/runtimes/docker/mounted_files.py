"""Files of this machine that a one-off container reads, and what it says about places."""

from __future__ import annotations

import re
from pathlib import Path
from typing import List

from ops.errors import OpsError

_FREE = ("data", "home", "media", "mnt", "srv", "tmp")  # no image of ours has files there
_HOST = "/host"


def mounted(arg: str, mounts: List[str]) -> str:
    """``arg`` as a container sees it; what must be mounted for that is added to ``mounts``.

    Of a file its whole folder is mounted, read-only: under its own path, so that messages name it rightly,
    and under /host where an image may have something of its own. What is no absolute path of a file stays
    as it is.

    Raises:
        OpsError: Docker cannot mount the folder, or the user in the container cannot read it.
    """
    path = Path(arg)
    if not path.is_absolute() or not path.is_file():
        return arg
    if ":" in str(path.parent):
        raise OpsError(f"{path}: Docker cannot mount a folder with a colon in its name")
    for needed in (path, path.parent):
        if not _readable(needed):
            raise OpsError(
                f"{needed} cannot be read by user 1000, as whom the containers run",
                remedy=f"chmod -R o+rX {path.parent}",
            )
    place = "" if path.parts[1] in _FREE and len(path.parts) > 3 else _HOST
    mount = f"{path.parent}:{place}{path.parent}:ro"
    if mount not in mounts:
        mounts.append(mount)
    return f"{place}{path}"


def outside(message: str, volume: str) -> str:
    """What a container says, with the places as they are called out here."""
    message = re.sub(rf"(?<![\w.-]){_HOST}/", "/", message)
    return re.sub(r"(?<![\w./-])/models(?=/)", f"{volume}:", message)


def _readable(path: Path) -> bool:
    """Whether user 1000 may read it, as the permission bits say."""
    facts = path.stat()
    mode = facts.st_mode
    bits = mode >> 6 if facts.st_uid == 1000 else mode >> 3 if facts.st_gid == 1000 else mode
    needed = 5 if path.is_dir() else 4
    return bits & needed == needed
