"""Several servers in containers: replicas, which publish nothing and are reached by their addresses."""

from __future__ import annotations

from typing import Any, Dict, List

from ops.several.places import Place

_HTTP, _GRPC, _METRICS = 8000, 8001, 8002  # inside, whatever is published


def number(container: Any) -> int:
    """Which of the service's containers it is, from 1 on."""
    return int(container.labels.get("com.docker.compose.container-number", "1"))


def places(containers: List[Any]) -> List[Place]:
    """Where those are that have an address, and so run."""
    found = [(c.name, address(c)) for c in containers]
    return [Place(name, where, _HTTP, _GRPC, _METRICS) for name, where in found if where]


def missing(containers: List[Any], wanted: int) -> List[str]:
    """Those that do not run, of ``wanted``."""
    down = [f"{c.name} ({c.status})" for c in containers if c.status != "running"]
    lacking = wanted - len(containers)
    return down + ([f"{lacking} that TRITON_COUNT asks for and nobody started"] if lacking > 0 else [])


def address(container: Any) -> str:
    """A container's address in the stack's network; empty where it has none."""
    networks = container.attrs["NetworkSettings"]["Networks"]
    return next((n["IPAddress"] for n in networks.values() if n["IPAddress"]), "")


def row(container: Any) -> Dict[str, Any]:
    """One of several, for `status`."""
    found = places([container])
    answers = any(place.server.metadata() is not None for place in found)
    where = address(container)
    return {
        "name": container.name,
        "state": "running" if answers else "not answering" if found else container.status,
        "http": f"{where}:{_HTTP}",
        "grpc": f"{where}:{_GRPC}",
        "metrics": f"{where}:{_METRICS}",
        "log": f"docker logs {container.name}",
    }
