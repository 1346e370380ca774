"""How a request is refused, by whichever protocol it came."""

from __future__ import annotations

from typing import List

# What gRPC calls an HTTP status that the gateway refuses with.
GRPC_STATUS = {
    400: 3,
    401: 16,
    403: 7,
    404: 5,
    408: 4,
    411: 3,
    413: 8,
    414: 3,
    415: 12,
    429: 8,
    431: 8,
    503: 14,
}


ERRORS = {
    400: "the request is malformed",
    408: "the request did not come to its end in time",
    500: "the gateway failed",
    502: "the server gave no proper answer",
    503: "no server is ready",
    504: "the server did not answer in time",
}


def refuse(status: int, why: str, when: str, *, header: str = "") -> List[str]:
    """The rules that refuse a request, by whichever protocol it came, when ``when`` holds.

    ``why`` is a format string of HAProxy's; an empty one leaves the reason that stands. ``when`` has no "or".
    """
    lines = [f"    http-request set-var-fmt(txn.why) '{why}' {when}"] if why else []
    return [
        *lines,
        f"    http-request set-var(txn.grpc_status) int({GRPC_STATUS[status]}) {when} is_grpc",
        f"    http-request return status 200 hdr grpc-status {GRPC_STATUS[status]}"
        f" hdr grpc-message '%[var(txn.why)]'{header} {when} is_grpc",
        f"    http-request return status {status} content-type application/json{header}"
        f' lf-string \'{{"error":"%[var(txn.why),json(utf8s)]"}}\' {when}',
    ]


# gRPC is a matter of HTTP/2: over HTTP/1.1 the content type makes no protocol.
IS_GRPC = [
    "    acl is_h2 req.ver 2.0",
    "    acl says_grpc req.hdr(content-type) -m reg ^application/grpc(\\+proto)?(;.*)?$",
    "    http-request set-var(txn.is_grpc) bool(true) if is_h2 says_grpc",
    "    acl is_grpc var(txn.is_grpc) -m found",
]
