"""Files of this machine that services read: Swarm hands them to the nodes as secrets and configs.

Neither can be changed once it is there. So the name holds a digest of the content: another content is another
name, and the next deployment replaces the tasks that read it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Tuple

from cluster.swarm.options import StackError

_MOST = 500 * 1024  # bytes that Swarm takes
# What nothing works without, by the service that reads it: why, and what to do.
_NEEDED = {
    "keys": ("without a key the gateway lets nobody in", "./scripts/keys add NAME makes the first one"),
    "certificate": (
        "every gateway of the swarm would make a certificate of its own, and clients could trust none",
        "GATEWAY_CERT=FILE in .env: one PEM file that holds chain and private key",
    ),
}


class Used:
    """Collects what the services read; ``project`` as Compose resolves it."""

    def __init__(self, project: Mapping[str, Any]) -> None:
        self._project = project
        self._secrets: Dict[str, Any] = {}
        self._configs: Dict[str, Any] = {}

    def of(self, name: str, service: Mapping[str, Any], environment: Dict[str, Any]) -> Dict[str, Any]:
        """The service's keys ``secrets`` and ``configs``. A variable of ``environment`` that names a secret
        which is not given becomes empty.

        Raises:
            StackError: a file is missing, too large, or one that the stack cannot go without is empty.
        """
        secrets: List[Dict[str, str]] = []
        for wanted in service.get("secrets") or []:
            source = wanted["source"]
            target = wanted.get("target") or f"/run/secrets/{source}"
            path = Path(self._project["secrets"][source]["file"])
            if self._given(source, path):
                self._secrets[source] = self._declared(source, path)
                secrets.append({"source": source, "target": target})
            else:
                environment.update({k: "" for k, v in environment.items() if v == target})
        configs: List[Dict[str, str]] = []
        for source, path, target in self._mounted(name, service):
            self._configs[source] = self._declared(source, path)
            configs.append({"source": source, "target": target})
        return {key: value for key, value in (("secrets", secrets), ("configs", configs)) if value}

    def declared(self) -> Dict[str, Any]:
        """The stack's keys ``secrets`` and ``configs``."""
        both = {
            "configs": dict(sorted(self._configs.items())),
            "secrets": dict(sorted(self._secrets.items())),
        }
        return {key: value for key, value in both.items() if value}

    def _given(self, name: str, path: Path) -> bool:
        content = b"" if path == Path("/dev/null") or not path.exists() else _content(path)
        if not content and name in _NEEDED:
            why, remedy = _NEEDED[name]
            raise StackError(f"the secret {name}, {path}, is empty or missing: {why}", remedy)
        return bool(content)

    def _declared(self, source: str, path: Path) -> Dict[str, str]:
        digest = hashlib.sha256(_content(path)).hexdigest()[:12]
        return {"name": f"{self._project['name']}_{source}_{digest}", "file": str(path)}

    def _mounted(self, name: str, service: Mapping[str, Any]) -> Iterator[Tuple[str, Path, str]]:
        """Each file of the folders that are mounted from this machine: a name, the file, its place inside."""
        for volume in service.get("volumes") or []:
            if volume["type"] != "bind":
                continue
            folder = Path(volume["source"])
            found = [folder] if folder.is_file() else sorted(p for p in folder.rglob("*") if p.is_file())
            for path in found:
                inside = "" if path == folder else f"/{path.relative_to(folder).as_posix()}"
                target = volume["target"] + inside
                yield f"{name}{target.replace('/', '-').replace('.', '-')}", path, target


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as e:
        raise StackError(
            f"{path} cannot be read: {e.strerror}",
            "a certificate for Swarm is one PEM file that holds chain and private key"
            if path.is_dir()
            else "",
        ) from e
    if len(content) > _MOST:
        raise StackError(
            f"{path} has {len(content):,} bytes; Swarm takes {_MOST:,} at most",
            "put it into an image of your own, or leave it out of the folder",
        )
    return content
