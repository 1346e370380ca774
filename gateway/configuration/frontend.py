"""What a request goes through, from its first byte to the choice of a backend."""

from __future__ import annotations

from typing import List

from gateway.configuration.access_log import CLIENT_S, ERROR_LINE, LINE
from gateway.configuration.allowed import path
from gateway.configuration.answers import IS_GRPC, refuse
from gateway.configuration.files import CERTIFICATE, KEYS, SERVERS, SHADOWS, SHARES
from gateway.configuration.inference import over_grpc, over_http
from gateway.configuration.limits import BODY_SECS, HEADER_BYTES, PATH_BYTES
from gateway.options import Options


def frontend(options: Options) -> str:
    """The TLS port with all its rules, in the order in which they judge."""
    lines = [
        "frontend gateway",
        f"    bind {options.address}:{options.port} ssl crt {CERTIFICATE} alpn h2,http/1.1",
        f"    log-format '{LINE}'",
        f"    error-log-format '{ERROR_LINE}'",
        "    tcp-request content set-var(txn.began) date(0,us)",
        "    http-request set-var(txn.method) method",
        f"    http-request set-var(txn.path) path,bytes(0,{PATH_BYTES})",
        *IS_GRPC,
        "    http-request set-var(txn.protocol) str(http/1.1)",
        "    http-request set-var(txn.protocol) str(http/2) if is_h2",
        "    http-request set-var(txn.protocol) str(grpc) if is_grpc",
        # The client's request id where it is one plain word, else one of ours. Triton gets it too.
        "    http-request set-var(txn.id) req.fhdr(x-request-id) if { req.fhdr_cnt(x-request-id) eq 1 }"
        " { req.fhdr(x-request-id) -m reg ^[A-Za-z0-9._:-]{1,64}$ }",
        "    http-request set-var(txn.id) uuid() if !{ var(txn.id) -m found }",
        "    http-request set-header x-request-id %[var(txn.id)]",
        "    http-after-response set-header x-request-id %[var(txn.id)]",
        *[
            f"    http-after-response set-var(txn.{name}_log) var(txn.{name}),json(utf8s)"
            for name in CLIENT_S
        ],
        "    http-after-response set-header strict-transport-security max-age=31536000",
        *_form(),
        *_key(options),
        *path(),
        *over_http(),
        *over_grpc(),
        *_passed_on(options),
    ]
    return "\n".join(lines) + "\n"


def _form() -> List[str]:
    """The form of the request as such."""
    return [
        *refuse(415, "gRPC needs HTTP/2", "if !is_h2 says_grpc"),
        *refuse(414, f"the path is longer than {PATH_BYTES} bytes", f"if {{ path,length gt {PATH_BYTES} }}"),
        *refuse(
            431,
            f"the headers are longer than {HEADER_BYTES} bytes",
            f"if {{ req.hdrs,length gt {HEADER_BYTES} }}",
        ),
    ]


def _key(options: Options) -> List[str]:
    return [
        # Over HTTP/2 an answer before the body's end comes with a reset, which hides it from some clients.
        # Who has no key may make us wait for a small body only.
        "    http-request wait-for-body time 2s if is_h2 { req.hdr_val(content-length) 1:65536 }",
        "    acl one_authorization req.fhdr_cnt(authorization) eq 1",
        f"    http-request set-var(txn.key) http_auth_bearer,digest(sha256),hex,lower,map_str({KEYS})"
        " if one_authorization",
        *refuse(
            401,
            "a valid API key is needed: Authorization: Bearer KEY",
            "if !{ var(txn.key) -m found }",
            header=" hdr www-authenticate Bearer",
        ),
        "    http-request del-header authorization",
        f"    http-request wait-for-body time {BODY_SECS}s if is_h2 {{ method POST }} !is_grpc",
        "    http-request track-sc0 var(txn.key) table keys",
        *refuse(
            429,
            f"the key %[var(txn.key)] is limited to {options.rate} requests a second",
            f"if {{ sc_http_req_rate(0) gt {options.rate} }}",
            header=" hdr retry-after 1",
        ),
        *refuse(
            429,
            f"the key %[var(txn.key)] is limited to {options.connections} requests at the same time",
            f"if {{ sc_conn_cur(0) gt {options.connections} }}",
            header=" hdr retry-after 1",
        ),
    ]


def _passed_on(options: Options) -> List[str]:
    return [
        "    http-request set-header x-forwarded-for %[src]",
        "    http-request del-header upgrade",
        "    http-request set-var(txn.sent) date(0,us)",
        "    http-response set-var(txn.server_us) date(0,us),sub(txn.sent)",
        "    http-response set-var(txn.server) srv_name",
        # A gRPC status is in the trailers, or, where there is no message, in the header.
        "    acl came_by_grpc var(txn.protocol) -m str grpc",
        "    http-response set-var(txn.grpc_status) int(0) if came_by_grpc",
        "    http-response set-var(txn.grpc_status) res.hdr(grpc-status) if came_by_grpc"
        " { res.hdr(grpc-status) -m found }",
        # What we answer ourselves.
        "    http-after-response set-header content-type application/grpc if came_by_grpc",
        "    http-after-response set-var(txn.grpc_status) int(14) if came_by_grpc { status 502:504 }",
        "    http-after-response set-header grpc-status 14 if came_by_grpc { status 502:504 }",
        # Written by us whatever the client sent; see hold.
        "    http-request set-var(txn.backend) str(http)",
        "    http-request set-var(txn.backend) str(grpc) if grpc_plain",
        "    http-request set-var(txn.backend) str(pictures) if classifies",
        "    http-request set-var-fmt(txn.backend) http_%[var(txn.model)] if infers or looks_at_model",
        "    http-request set-var-fmt(txn.backend) grpc_%[var(txn.model)] if grpc_model",
        f"    http-request set-var(txn.share) var(txn.model),map_str({SHARES}) if infers or looks_at_model or"
        " grpc_model",
        "    http-request lua.share if { var(txn.share) -m found }",
        f"    http-request set-var(txn.shadow) var(txn.model),map_str({SHADOWS}) if infers",
        "    http-request lua.shadow if { var(txn.shadow) -m found }",
        "    http-request set-header x-gateway-backend %[var(txn.backend)]",
        f"    http-request set-header x-gateway-until %[date({options.wait_secs})]",
        "    acl was_held res.hdr(x-gateway-server) -m found",
        "    http-response set-var(txn.server) res.hdr(x-gateway-server) if was_held",
        "    http-response del-header x-gateway-server",
        f"    acl has_an_id var(txn.server),map_str({SERVERS}) -m found",
        f"    http-response set-var(txn.server) var(txn.server),map_str({SERVERS}) if has_an_id",
        "    use_backend %[var(txn.backend)]",
        "",
        "# Requests of each key, whichever connection they come by.",
        "backend keys",
        "    stick-table type string len 64 size 10k expire 10m store conn_cur,http_req_rate(1s)",
    ]
