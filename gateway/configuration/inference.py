"""What is looked at in the body of an inference request."""

from __future__ import annotations

from typing import List

from gateway.configuration.allowed import unknown
from gateway.configuration.answers import refuse
from gateway.configuration.files import LIMITS
from gateway.configuration.limits import BODY_SECS, PICTURE_BYTES


def over_http() -> List[str]:
    """Inference and pictures over HTTP: encodings, lengths, and the gate on the JSON part."""
    return [
        *refuse(
            415,
            "a compressed body is not taken",
            "if { req.fhdr_cnt(content-encoding) gt 0 }",
        ),
        *refuse(415, "one transfer coding is taken, chunked", "if { req.fhdr_cnt(transfer-encoding) gt 1 }"),
        *refuse(
            415,
            "one transfer coding is taken, chunked",
            "if { req.fhdr_cnt(transfer-encoding) eq 1 } !{ req.fhdr(transfer-encoding) -m str -i chunked }",
        ),
        # In chunks a body may end with headers. Triton's HTTP server answers such a request, and then not the
        # next one on that connection, which is another client's.
        *refuse(411, "inference needs a Content-Length", "if infers !{ req.hdr(content-length) -m found }"),
        *refuse(400, "a GET has no body", "if is_get { req.fhdr_cnt(transfer-encoding) gt 0 }"),
        f"    http-request wait-for-body time {BODY_SECS}s if infers",
        "    http-request lua.gate if infers",
        *[
            line
            for status in (403, 411, 413)
            for line in refuse(status, "", f"if infers {{ var(txn.gate) -m str {status} }}")
        ],
        *refuse(400, "", "if infers !{ var(txn.gate) -m str ok }"),
        *refuse(
            411, "a picture needs a Content-Length", "if classifies !{ req.hdr(content-length) -m found }"
        ),
        *refuse(
            413,
            f"a picture may have {PICTURE_BYTES} bytes",
            f"if classifies {{ req.hdr_val(content-length) gt {PICTURE_BYTES} }}",
        ),
    ]


def over_grpc() -> List[str]:
    """The start of a gRPC message: a byte that is 1 when it is compressed, its length, field 1: the name."""
    return [
        *refuse(415, "a compressed message is not taken", "if is_grpc { req.fhdr_cnt(grpc-encoding) gt 1 }"),
        *refuse(
            415,
            "a compressed message is not taken",
            "if is_grpc { req.fhdr(grpc-encoding) -m found } !{ req.fhdr(grpc-encoding) -m str identity }",
        ),
        f"    http-request wait-for-body time {BODY_SECS}s at-least 256 if grpc_model",
        *refuse(
            415, "a compressed message is not taken", "if grpc_model !{ req.body,bytes(0,1),hex -m str 00 }"
        ),
        "    http-request set-var(txn.model) req.body,bytes(5),protobuf(1) if grpc_model",
        "    http-request set-var(txn.version) req.body,bytes(5),protobuf(2) if grpc_model",
        *unknown("grpc_model"),
        f"    http-request set-var(txn.limit) var(txn.model),map_str_int({LIMITS},65536) if grpc_model",
        '    http-request set-var(txn.size) req.body,bytes(1,4),be2dec("",4) if grpc_model',
        *refuse(
            413,
            "a message for %[var(txn.model)] may have %[var(txn.limit)] bytes",
            "if grpc_model { var(txn.size),sub(txn.limit) gt 0 }",
        ),
    ]
