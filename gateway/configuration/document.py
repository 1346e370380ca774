"""The whole of haproxy.cfg."""

from __future__ import annotations

from typing import Container, Iterable, Mapping, Optional, Sequence

from gateway.configuration.backends import RESOLVERS, backend, hold, host, is_address, pictures, shadow
from gateway.configuration.frontend import frontend
from gateway.configuration.process import defaults, metrics, process
from gateway.options import Options
from gateway.servers import Server, fixed


def text(
    options: Options,
    models: Iterable[str],
    buffer: int,
    log_to: str = "",
    servers: Optional[Sequence[Server]] = None,
    canaries: Mapping[str, Container[str]] = {},
) -> str:
    """The whole file.

    Args:
        models: the names of the published models; each is checked and balanced by itself.
        buffer: bytes of a request that can be looked at.
        log_to: address and port that access log lines go to by UDP; empty for nowhere.
        servers: of every backend; the fixed ones of ``options`` where none are given.
        canaries: by model, the names of the servers that only get what is meant for them.
    """
    if servers is None:
        servers = fixed(s for s in options.servers if not s.dns)
    names = sorted(models)
    parts = [
        process(options, buffer, log_to),
        defaults(),
        frontend(options),
        hold(),
        metrics(options),
    ]
    for name in ("", *names):
        parts.append(backend(servers, name, canaries.get(name, ()), grpc=False))
        parts.append(backend(servers, name, canaries.get(name, ()), grpc=True))
    parts += [pictures(options), shadow(options)]
    hosts = [s.host for s in servers if not s.slot] + [host(options.pictures), host(options.shadow)]
    if not all(map(is_address, hosts)):
        parts.append(RESOLVERS)
    return "\n".join(parts)
