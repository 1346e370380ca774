"""The gateway's settings, from the environment. .env describes each; the scripts and Compose hand them in."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import List, Mapping, Optional, Tuple

from gateway.errors import GatewayError

_SERVER = re.compile(
    r"(?P<dns>dns:)?(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\]):(?P<http>\d{1,5}):(?P<grpc>\d{1,5})"
)
_PLACE = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\]):(?P<port>\d{1,5})")


@dataclass(frozen=True)
class Triton:
    """One Triton server: its host and its two ports. With ``dns`` as many as the name has addresses."""

    host: str
    http: int
    grpc: int
    dns: bool = False


@dataclass(frozen=True)
class Options:
    """What the gateway is started with.

    Attributes:
        volume: the models volume.
        folder: of our own: configuration, maps, sockets, a generated certificate.
        address: what we listen on.
        port, metrics_port: for clients (TLS), and for HAProxy's own metrics (plain, this machine only).
        metrics_address: what the latter listens on.
        keys: the file of API keys.
        certificate: a PEM file or a folder of them; None for one of our own.
        rate: requests a second of one key; connections: its requests at the same time.
        buffer: bytes of a request that can be looked at: the largest JSON part.
        servers: the Triton servers.
        pictures, shadow: host and port of the picture service, and of the one that compares copies.
        log_to: host and port that access log lines go to by UDP, besides standard output; None for nowhere.
        poll_secs: how long a server may take to see a new release; load_secs: and then to load it.
        drain_secs: what requests in flight get when the gateway ends.
        wait_secs: how long a request waits while no server answers at all.
        haproxy: the program.
    """

    volume: Path
    folder: Path
    address: str
    port: int
    metrics_address: str
    metrics_port: int
    keys: Path
    certificate: Optional[Path]
    rate: int
    connections: int
    buffer: int
    servers: Tuple[Triton, ...]
    pictures: str
    shadow: str
    log_to: str
    poll_secs: int
    load_secs: int
    drain_secs: int
    wait_secs: int
    haproxy: str


def from_environment(environ: Mapping[str, str] = os.environ) -> Options:
    """Read the variables; raises GatewayError naming the one that is wrong."""
    repository = Path(environ.get("MODEL_REPOSITORY") or "/models/repository")
    certificate = environ.get("GATEWAY_CERT") or ""
    default = f"127.0.0.1:{environ.get('HTTP_PORT') or 8000}:{environ.get('GRPC_PORT') or 8001}"
    return Options(
        volume=repository.parent,
        folder=Path(environ.get("GATEWAY_FOLDER") or "/run/gateway"),
        address=environ.get("GATEWAY_ADDRESS") or "0.0.0.0",  # noqa: S104  (in a container Compose decides)
        port=_whole(environ, "GATEWAY_PORT", 8443, 65535),
        metrics_address=environ.get("GATEWAY_METRICS_ADDRESS") or "127.0.0.1",
        metrics_port=_whole(environ, "GATEWAY_METRICS_PORT", 8404, 65535),
        keys=Path(environ.get("KEYS_FILE") or "/run/secrets/keys"),
        certificate=Path(certificate) if certificate else None,
        rate=_whole(environ, "GATEWAY_RATE", 10000, 10**6),
        connections=_whole(environ, "GATEWAY_CONNECTIONS", 256, 10**5),
        buffer=_whole(environ, "GATEWAY_BUFFER_KB", 1024, 16384) << 10,
        servers=tuple(servers(environ.get("TRITON_SERVERS") or default)),
        pictures=_place(environ, "PICTURES_ADDRESS", f"127.0.0.1:{environ.get('PICTURES_PORT') or 8010}"),
        shadow=_place(environ, "SHADOW_ADDRESS", f"127.0.0.1:{environ.get('SHADOW_PORT') or 8011}"),
        log_to=_place(environ, "ACCESS_LOG_ADDRESS", ""),
        poll_secs=_whole(environ, "POLL_SECS", 30, 86400),
        load_secs=_whole(environ, "LOAD_SECS", 15, 3600),
        drain_secs=_whole(environ, "EXIT_TIMEOUT_SECS", 30, 3600, low=0),
        wait_secs=_whole(environ, "GATEWAY_WAIT_SECS", 30, 90, low=0),
        haproxy=environ.get("HAPROXY") or "haproxy",
    )


def servers(text: str) -> List[Triton]:
    """TRITON_SERVERS: ``host:http port:grpc port``, or ``dns:name:http port:grpc port``, separated by
    blanks or commas; raises GatewayError."""
    found = []
    for word in text.replace(",", " ").split():
        match = _SERVER.fullmatch(word)
        if not match or not all(0 < int(match[port]) < 65536 for port in ("http", "grpc")):
            raise GatewayError(
                f'TRITON_SERVERS has "{word}"; allowed is host:http-port:grpc-port, or dns: before it for '
                "every address of a name, and blanks between",
                remedy="for example TRITON_SERVERS=10.0.0.1:8000:8001 10.0.0.2:8000:8001, or "
                "TRITON_SERVERS=dns:tasks.triton:8000:8001",
            )
        found.append(Triton(match["host"], int(match["http"]), int(match["grpc"]), bool(match["dns"])))
    if not found:
        raise GatewayError("TRITON_SERVERS names no server", remedy="host:http-port:grpc-port")
    return found


def _whole(environ: Mapping[str, str], name: str, default: int, high: int, low: int = 1) -> int:
    text = environ.get(name) or str(default)
    if not re.fullmatch("[0-9]{1,9}", text) or not low <= int(text) <= high:
        raise GatewayError(
            f'{name} is "{text}"; allowed is a whole number from {low} to {high}',
            remedy=f"set {name} in the environment or in .env",
        )
    return int(text)


def _place(environ: Mapping[str, str], name: str, default: str) -> str:
    text = environ.get(name) or default
    if text and not _PLACE.fullmatch(text):
        raise GatewayError(f'{name} is "{text}"; allowed is host:port')
    return text
