"""The allow-list of methods and paths. What is not on it is refused."""

from __future__ import annotations

from typing import List

from gateway.configuration.answers import refuse
from gateway.configuration.files import CONTRACTS

_SERVICE = "/inference.GRPCInferenceService/"
# Of Triton's gRPC methods, those that only look, and inference. ModelStreamInfer is not among them: a
# stream's requests pass after its first one unseen. Neither is anything that loads, registers or
# configures.
_GRPC_PLAIN = ("ServerLive", "ServerReady", "ServerMetadata")
_GRPC_MODEL = ("ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics", "ModelInfer")


def path() -> List[str]:
    """The allow-list, by method and by the path as it was sent: one written in another way is another."""
    model = "^/v2/models/[A-Za-z0-9_.-]+(/versions/[1-9][0-9]{0,17})?"
    methods = " ".join(_SERVICE + name for name in _GRPC_PLAIN)
    models = " ".join(_SERVICE + name for name in _GRPC_MODEL)
    return [
        "    acl is_get method GET",
        "    acl is_post method POST",
        f"    acl p_model path_reg {model}(/(ready|config|stats))?$",
        f"    acl p_infer path_reg {model}/infer$",
        "    acl p_classify path_reg ^/v1/models/[A-Za-z0-9_.-]+/classify$",
        "    acl p_server path /v2 /v2/health/live /v2/health/ready",
        "    http-request set-var(txn.kind) str(server) if is_get !is_grpc p_server",
        "    http-request set-var(txn.kind) str(model) if is_get !is_grpc p_model",
        "    http-request set-var(txn.kind) str(infer) if is_post !is_grpc p_infer",
        "    http-request set-var(txn.kind) str(classify) if is_post !is_grpc p_classify",
        f"    http-request set-var(txn.kind) str(grpc_server) if is_post is_grpc {{ path {methods} }}",
        f"    http-request set-var(txn.kind) str(grpc_model) if is_post is_grpc {{ path {models} }}",
        *refuse(403, "%[method] %[var(txn.path)] is not allowed", "if !{ var(txn.kind) -m found }"),
        "    acl looks_at_model var(txn.kind) -m str model",
        "    acl infers var(txn.kind) -m str infer",
        "    acl classifies var(txn.kind) -m str classify",
        "    acl grpc_plain var(txn.kind) -m str grpc_server",
        "    acl grpc_model var(txn.kind) -m str grpc_model",
        "    http-request set-var(txn.model) path,field(4,/) if looks_at_model or infers or classifies",
        "    http-request set-var(txn.version) path,field(6,/) if { path,field(5,/) -m str versions }",
        # Only the picture service reads a query (?top=5), and so nothing else behind us gets one.
        "    http-request set-query %[str()] if { query -m found } !classifies",
        *refuse(400, "a GET has no body", "if is_get { req.body_size gt 0 }"),
        *unknown("looks_at_model or infers or classifies"),
    ]


def unknown(when: str) -> List[str]:
    """Refuse what names a model that is not published, where ``when`` holds: ACLs with "or" between."""
    cases = " or ".join(f"{case} !{{ var(txn.contract) -m found }}" for case in when.split(" or "))
    return [
        f"    http-request set-var(txn.contract) var(txn.model),map_str({CONTRACTS}) if {when}",
        f"    http-request set-var(txn.unknown) bool(true) if {cases}",
        *refuse(403, 'the model "%[var(txn.model)]" is not published', "if { var(txn.unknown) -m found }"),
    ]
