"""Where the Triton servers of this node are: TRITON_SERVERS, by address or by a DNS name."""

from __future__ import annotations

import socket

from ops.errors import OpsError
from ops.several.places import Place

from models_volume import traffic


def find(setting: str, node: str) -> list[Place]:
    """Every server of this node.

    Args:
        setting: ``host:http:grpc[:metrics]``, several with spaces or commas between them; a host with several
            addresses is as many servers (TRITON_COUNT with Docker). Or ``dns:NAME:http:grpc[:metrics]``, of
            whose addresses only those are taken whose Triton calls itself ``node`` or ``node-gpuK``. The
            metrics port is the gRPC port plus one where it is left out.

    Raises:
        OpsError: it is not written like that.
    """
    places: list[Place] = []
    for text in setting.replace(",", " ").split():
        if text.startswith("dns:"):
            places += _of_name(_place(text.removeprefix("dns:"), setting), node)
        else:
            places += _each(_place(text, setting))
    if not setting.strip():
        raise OpsError("TRITON_SERVERS is empty", remedy="name this node's servers: host:8000:8001")
    return places


def _place(text: str, setting: str) -> Place:
    host, *ports = text.split(":")
    if not host or len(ports) not in (2, 3) or not all(p.isdecimal() and 0 < int(p) < 65536 for p in ports):
        raise OpsError(
            f'TRITON_SERVERS is "{setting}"',
            expected="host:http:grpc[:metrics], several of them, or dns:NAME:http:grpc[:metrics]",
        )
    http, grpc, metrics = [*map(int, ports), int(ports[1]) + 1][:3]
    return Place(text, host, http, grpc, metrics)


def _each(place: Place) -> list[Place]:
    """The server, or all of them where its name has several addresses."""
    found = _addresses(place)
    return found if len(found) > 1 else [place]


def _addresses(place: Place) -> list[Place]:
    """A server for each address of the name; none where nobody has that name."""
    try:
        found = socket.getaddrinfo(place.host, place.http, socket.AF_INET, socket.SOCK_STREAM)
    except OSError:
        return []
    hosts = sorted({str(entry[4][0]) for entry in found})
    return [Place(f"{h}:{place.http}:{place.grpc}", h, place.http, place.grpc, place.metrics) for h in hosts]


def _of_name(place: Place, node: str) -> list[Place]:
    places = []
    for one in _addresses(place):
        name = str((one.server.metadata() or {}).get("name", ""))
        if traffic.of_node(name, node):
            places.append(one)
    return places
