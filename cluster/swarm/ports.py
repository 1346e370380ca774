"""What a service publishes on its nodes."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

from cluster.swarm.options import HOST, Options

_GLOBAL = ("agent", "triton")  # their names lead to tasks, which Swarm allows with a node's own ports alone


def of(
    name: str, service: Mapping[str, Any], options: Options, notes: Dict[str, List[str]]
) -> Dict[str, Any]:
    """The service's key ``ports``. What is for this machine only stays closed: Swarm opens a port on every
    address of a node. ``notes`` gets a sentence about each of those."""
    mode = HOST if name in _GLOBAL else options.ports
    made = []
    for port in service.get("ports") or []:
        if str(port.get("host_ip") or "").startswith("127.") or port.get("host_ip") == "::1":
            what = "Swarm cannot keep a port to the node itself, so it is not published"
            notes.setdefault(f"port {port['published']}: {what}", []).append(name)
            continue
        made.append(
            {
                "target": port["target"],
                "published": int(port["published"]),
                "protocol": port.get("protocol") or "tcp",
                "mode": mode,
            }
        )
    return {"ports": made} if made else {}
