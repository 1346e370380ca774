"""The servers of each model, the picture service, and the place where a request waits for a server."""

from __future__ import annotations

from typing import Container, Sequence

from gateway.configuration.answers import ERRORS, GRPC_STATUS, IS_GRPC, refuse
from gateway.configuration.files import HOLD, SHADOW
from gateway.options import Options
from gateway.servers import READY, Server

_CHECKS = (
    "check inter 1s fastinter 250ms downinter 250ms fall 2 rise 1"
    " observe layer7 error-limit 2 on-error mark-down pool-purge-delay 1s"
)


def backend(servers: Sequence[Server], model: str, canaries: Container[str], *, grpc: bool) -> str:
    """The servers for one model (or none), with one protocol; the last resort is to wait (``hold``).

    ``canaries`` names the servers that only get what is meant for them.

    A server is out as soon as two requests in a row fail on it, and back with its first good check: what
    waits meanwhile does not fail. An error that Triton answers counts as well, and costs as little.
    """
    check = f"/v2/models/{model}/ready" if model else "/v2/health/live"
    lines = [
        f"backend {'grpc' if grpc else 'http'}{f'_{model}' if model else ''}",
        "    balance leastconn",
        "    option httpchk",
        f"    http-check send meth GET uri {check}",
        "    http-check expect status 200",
    ]
    if grpc:
        for status, words in ERRORS.items():
            code = GRPC_STATUS.get(status, 14)
            lines.append(f"    http-error status {status} hdr grpc-status {code} hdr grpc-message '{words}'")
    if model:
        # One that is out is not taken, and the request goes to another.
        lines.append("    use-server %[var(txn.pick)] if { var(txn.pick) -m found }")
    for server in servers:
        parts = [f"server {server.name} {server.address}:{server.grpc if grpc else server.http} {_CHECKS}"]
        if grpc:
            parts.append(f"proto h2 port {server.http} check-proto h1")
        if not server.slot and not is_address(server.host):
            parts.append("resolvers dns init-addr last,libc,none")
        if server.name in canaries:
            parts.append("weight 0")
        if server.takes(model) != READY:
            parts.append("disabled")
        lines.append("    " + " ".join(parts))
    lines.append(f"    server hold unix@{HOLD}{' proto h2' if grpc else ''} backup")
    return "\n".join(lines) + "\n"


def hold() -> str:
    """Where a request goes that found no server: it waits for one here, and then goes the same way again. So
    a restart fails nothing. What ended a server on its way here is not sent twice more."""
    lines = [
        "frontend hold",
        f"    bind unix@{HOLD} mode 600",
        "    no log",
        *IS_GRPC,
        "    http-request set-var(txn.backend) req.hdr(x-gateway-backend)",
        "    http-request set-var(txn.until) req.hdr(x-gateway-until)",
        "    http-request lua.hold",
        *refuse(503, "no server is ready", "if !{ var(txn.up) -m str yes }"),
        "    http-request disable-l7-retry",
        "    http-response set-header x-gateway-server %[srv_name]",
        "    use_backend %[var(txn.backend)]",
    ]
    return "\n".join(lines) + "\n"


def pictures(options: Options) -> str:
    """The picture service, which has one place."""
    known = "" if is_address(host(options.pictures)) else " resolvers dns init-addr last,libc,none"
    return f"""backend pictures
    option httpchk
    http-check send meth GET uri /healthz
    http-check expect status 200
    server pictures {options.pictures} check inter 1s fall 2 rise 1{known}
"""


def shadow(options: Options) -> str:
    """Where copies of requests go; a copy that finds nobody there is dropped at once."""
    known = "" if is_address(host(options.shadow)) else " resolvers dns init-addr last,libc,none"
    return f"""frontend shadow
    bind unix@{SHADOW} mode 600
    no log
    use_backend shadow

backend shadow
    option httpchk
    http-check send meth GET uri /healthz
    http-check expect status 200
    timeout server 2s
    retries 0
    server shadow {options.shadow} check inter 1s fall 2 rise 1{known}
"""


# Names are asked anew, since a container that comes again has another address. One that cannot be resolved
# for a while keeps the last one: its checks tell whether it is there.
RESOLVERS = """resolvers dns
    parse-resolv-conf
    accepted_payload_size 8192
    hold valid 2s
    hold nx 1d
    hold other 1d
    hold refused 1d
    hold timeout 1d
    hold obsolete 1d
"""


def host(place: str) -> str:
    """The host of ``host:port``."""
    return place.rpartition(":")[0]


def is_address(host: str) -> bool:
    """Whether it needs no look-up in DNS: an address, or this machine."""
    return host == "localhost" or host.startswith("[") or host.replace(".", "").isdigit()
