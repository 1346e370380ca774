"""A server is always spoken to directly: the proxies of the environment are for the rest of the world.

http_proxy and its relatives are set for package indexes and web pages. A proxy has no way to a server on
this machine's loopback or in its private network, and tritonclient's HTTP never asks one. So nothing here
does: not gRPC (which would by itself), not the metrics, not perf_analyzer; whatever the host. Where a server
can only be reached through a proxy, name the end of a tunnel as its URL.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping
from typing import Any

GRPC_OPTION = ("grpc.enable_http_proxy", 0)
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def open_url(url: str, timeout: float) -> Any:
    """``urllib.request.urlopen`` without a proxy."""
    return _OPENER.open(url, timeout=timeout)


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """``environ`` for a program that asks the server, without the proxies that it would take from it."""
    return {k: v for k, v in environ.items() if not k.lower().endswith("_proxy")}
