"""Where the server is: a URL, or the stack's own variables."""

from __future__ import annotations

import os
from dataclasses import dataclass

from triton_stack_client.errors import ClientError
from triton_stack_client.transport.protocol import PROTOCOLS

_PORTS = {"http": ("HTTP_PORT", "8000"), "grpc": ("GRPC_PORT", "8001")}


@dataclass(frozen=True)
class Address:
    """A protocol and host:port."""

    protocol: str
    host_port: str

    @property
    def host(self) -> str:
        """The host alone."""
        return self.host_port.rpartition(":")[0].strip("[]")


def resolve(url: str | None, protocol: str | None) -> Address:
    """The address meant by a URL and a protocol, either of which may be missing.

    ``http://host:8000``, ``grpc://host:8001``, ``host:port`` or ``host``; without one it is
    TRITON_HOST (127.0.0.1) with HTTP_PORT or GRPC_PORT from the environment. The protocol is gRPC
    unless the URL or ``protocol`` says otherwise.

    Raises:
        ClientError: the URL cannot be read, or contradicts the protocol.
    """
    scheme, mark, rest = (url or "").partition("://")
    if not mark:
        scheme, rest = "", url or ""
    if scheme and scheme not in PROTOCOLS:
        raise ClientError(f'url "{url}": begins with {scheme}://; it is http://, grpc:// or host:port')
    if scheme and protocol and scheme != protocol:
        raise ClientError(f'url "{url}" contradicts the protocol {protocol}')
    chosen = scheme or protocol or "grpc"
    if chosen not in PROTOCOLS:
        raise ClientError(f'protocol "{chosen}": it is one of {", ".join(PROTOCOLS)}')
    host, colon, port = rest.rstrip("/").rpartition(":")
    if not colon or rest.endswith("]"):
        variable, default = _PORTS[chosen]
        host, port = rest.rstrip("/"), os.environ.get(variable) or default
    host = host or os.environ.get("TRITON_HOST") or "127.0.0.1"
    if not port.isdigit() or not 1 <= int(port) <= 65535 or "/" in host:
        raise ClientError(f'url "{url}": expected http://host:port, grpc://host:port or host:port')
    return Address(chosen, f"{host}:{port}")
