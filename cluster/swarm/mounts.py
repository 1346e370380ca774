"""Volumes of a stack: those of the Compose files on each node, and what is kept in memory.

A tmpfs of a Swarm service takes a size alone; its mode is that of the image's folder, so it does for /tmp,
and nothing in it can be executed. For all else Docker's volume driver makes a tmpfs with every option that
the kernel knows; the service's tasks on a node share it.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

# Made anew at each start, and two tasks of the gateway may be on one node during an update: a folder of /tmp.
_OWN = {"gateway"}
_SHM = "/dev/shm"  # noqa: S108  (in a container of its own)
_UNITS = {"k": 10, "m": 20, "g": 30}


class Volumes:
    """Collects what the services mount; ``project`` as Compose resolves it."""

    def __init__(self, project: Mapping[str, Any]) -> None:
        self._named = project.get("volumes") or {}
        self._used: Dict[str, Any] = {}

    def of(self, name: str, service: Mapping[str, Any]) -> Dict[str, Any]:
        """The service's key ``volumes``."""
        made: List[Dict[str, Any]] = []
        for volume in service.get("volumes") or []:
            if volume["type"] == "bind":
                continue  # a file of the checkout: cluster.swarm.files
            if volume["source"] in _OWN:
                continue
            self._used[volume["source"]] = {"name": self._named[volume["source"]]["name"]}
            entry = {"type": "volume", "source": volume["source"], "target": volume["target"]}
            made.append({**entry, "read_only": True} if volume.get("read_only") else entry)
        for text in service.get("tmpfs") or []:
            target, _, given = text.partition(":")
            words = [word for word in given.split(",") if word]
            if target == "/tmp":  # noqa: S108  (in a container of its own)
                made.append(_memory(target, _size(words)))
                continue
            source = f"{name}{target.replace('/', '-')}"
            words = [*([] if "exec" in words else ["noexec"]), *words, "nosuid", "nodev"]
            driver = {"type": "tmpfs", "device": "tmpfs", "o": ",".join(words)}
            self._used[source] = {"driver_opts": driver}
            made.append({"type": "volume", "source": source, "target": target})
        if service.get("shm_size"):
            made.append(_memory(_SHM, int(service["shm_size"])))
        return {"volumes": made} if made else {}

    def declared(self) -> Dict[str, Any]:
        """The stack's key ``volumes``."""
        return {"volumes": dict(sorted(self._used.items()))} if self._used else {}


def _memory(target: str, size: int) -> Dict[str, Any]:
    """A tmpfs of the task's own; ``size`` in bytes, 0 for no limit."""
    made: Dict[str, Any] = {"type": "tmpfs", "target": target}
    return {**made, "tmpfs": {"size": size}} if size else made


def _size(words: List[str]) -> int:
    """Bytes that a tmpfs may have by its mount options; 0 where they do not say."""
    for word in words:
        if word.startswith("size="):
            number, unit = word[5:].rstrip("kmg"), word[-1]
            return int(number) << _UNITS.get(unit, 0)
    return 0
