"""Where tasks run, how many, with what, and how one set of them is replaced by the next."""

from __future__ import annotations

from typing import Any, Dict, Mapping

from cluster.swarm.options import HOST, Options

# A label of the engine (daemon.json), and not of the node: nobody has to tell the manager about a new node.
LABEL = "tensorflow-triton.device"
# NVIDIA's runtime finds the task's GPU in DOCKER_RESOURCE_GPU (swarm-resource in its config.toml).
_RESOURCE = "gpu"
_GLOBAL = ("agent", "triton")  # one on every node that serves
_BUILDS = ("agent",)  # uses the GPU that Triton has
_RESTART = {"no": "none", "on-failure": "on-failure"}


def device(services: Mapping[str, Any]) -> str:
    """ "gpu" where a service reserves one, else "cpu"."""
    return "gpu" if any(_reserves(service) for service in services.values()) else "cpu"


def deploy(name: str, service: Mapping[str, Any], kind: str, options: Options) -> Dict[str, Any]:
    """The service's key ``deploy``.

    Args:
        kind: the device of the nodes that serve.
    """
    made: Dict[str, Any] = {}
    if name in _GLOBAL or (name == "gateway" and options.ports == HOST):
        made["mode"] = "global"
    else:
        made["mode"] = "replicated"
        made["replicas"] = 2 if name == "gateway" else 1
    if name in _GLOBAL:
        # The names lead to the tasks themselves: a virtual address would hide who answers, and needs IPVS.
        made["endpoint_mode"] = "dnsrr"
    elif options.ports == HOST or not service.get("ports"):
        made["endpoint_mode"] = "dnsrr"
    if _uses_models(service):
        made["placement"] = {"constraints": [f"engine.labels.{LABEL} == {kind}"]}
    made["resources"] = _resources(name, service, kind)
    made["restart_policy"] = {"condition": _RESTART.get(service.get("restart") or "no", "any"), "delay": "2s"}
    order = "start-first" if made["mode"] == "replicated" else "stop-first"
    change = {"parallelism": 1, "delay": "5s", "monitor": "15s", "max_failure_ratio": 0, "order": order}
    made["update_config"] = {**change, "failure_action": "rollback"}
    made["rollback_config"] = {**change, "failure_action": "pause"}
    return {key: value for key, value in made.items() if value}


def _reserves(service: Mapping[str, Any]) -> bool:
    reservations = ((service.get("deploy") or {}).get("resources") or {}).get("reservations") or {}
    return bool(reservations.get("devices"))


def _uses_models(service: Mapping[str, Any]) -> bool:
    """Whether it reads the releases, which only nodes that serve have."""
    return any(v.get("source") == "models" for v in service.get("volumes") or [])


def _resources(name: str, service: Mapping[str, Any], kind: str) -> Dict[str, Any]:
    made: Dict[str, Any] = {}
    if service.get("mem_limit"):
        made["limits"] = {"memory": str(service["mem_limit"])}
    if kind == "gpu" and _reserves(service) and name not in _BUILDS:
        spec = {"discrete_resource_spec": {"kind": _RESOURCE, "value": 1}}
        made["reservations"] = {"generic_resources": [spec]}
    return made
