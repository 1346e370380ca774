"""From a resolved Compose project to a Swarm stack."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Tuple

from cluster.swarm import files, mounts, placement, ports
from cluster.swarm.options import Options, StackError

_OURS = "tensorflow-triton/"  # what the names of images begin with that are built here
# Swarm knows them, and they mean the same there.
_KEPT = (
    "command", "entrypoint", "environment", "healthcheck", "init", "labels", "logging", "read_only",
    "cap_add", "cap_drop", "stop_grace_period", "stop_signal", "user", "working_dir",
)  # fmt: skip
# Nothing is lost without them: a stack builds nothing and has no profiles, the rest is said in another way.
_ELSEWHERE = (
    "build", "profiles", "image", "deploy", "mem_limit", "networks", "ports", "restart", "scale", "secrets",
    "shm_size", "tmpfs", "volumes",
)  # fmt: skip
_INSTEAD = {
    "depends_on": "Swarm starts everything at once, and each service waits by itself for what it needs",
    "security_opt": 'Swarm has no such option: set "no-new-privileges": true in every node\'s daemon.json',
}
# Where the others find the servers, and what a server and an agent are called.
_SERVERS = "dns:tasks.triton:8000:8001"
_NODE = "{{.Node.Hostname}}"
# The name of a task that ends is gone before it is told. The gateway has seen that after at most 2.5 s, is
# sure of it and has told HAProxy 1 s later. As much again is for a busy machine and slow name servers.
_DRAIN_SECS = "8"
_PER_NODE = {
    "triton": {"TRITON_ID": _NODE, "DRAIN_SECS": _DRAIN_SECS, "HEALTHY_EMPTY": "1"},
    "agent": {"NODE_NAME": _NODE, "TRITON_SERVERS": _SERVERS},
    "gateway": {"TRITON_SERVERS": _SERVERS, "GATEWAY_FOLDER": "/tmp/gateway"},  # noqa: S108
}


def stack(project: Mapping[str, Any], options: Options) -> Tuple[Dict[str, Any], List[str]]:
    """The stack file's content, and a sentence for each thing that Swarm does not do.

    Args:
        project: what ``docker compose config --format json`` prints.

    Raises:
        StackError: no stack can be made of it.
    """
    if "triton" not in project["services"]:
        raise StackError(
            f"there is no service triton among {', '.join(sorted(project['services'])) or 'none'}",
            "leave the profile serve in",
        )
    kind = placement.device(project["services"])
    notes: Dict[str, List[str]] = {}
    services = {}
    used = files.Used(project)
    volumes = mounts.Volumes(project)
    for name, service in sorted(project["services"].items()):
        made: Dict[str, Any] = {"image": _image(service["image"], options)}
        made.update({key: service[key] for key in _KEPT if service.get(key)})
        made["environment"] = {**(service.get("environment") or {}), **_PER_NODE.get(name, {})}
        made["networks"] = ["default"]
        made["deploy"] = placement.deploy(name, service, kind, options)
        made.update(ports.of(name, service, options, notes))
        made.update(volumes.of(name, service))
        made.update(used.of(name, service, made["environment"]))
        for key in sorted(set(service) - set(_KEPT) - set(_ELSEWHERE)):
            if service[key]:
                notes.setdefault(f"{key}: {_INSTEAD.get(key, 'Swarm has no such option')}", []).append(name)
        services[name] = made
    content = {
        "version": "3.8",
        "services": services,
        "networks": {"default": {"driver": "overlay", "attachable": True}},
        **volumes.declared(),
        **used.declared(),
    }
    return content, [f"{what} ({', '.join(names)})" for what, names in sorted(notes.items())]


def images(project: Mapping[str, Any], options: Options) -> Dict[str, str]:
    """Our images: the name in the registry by the name here."""
    here = sorted({service["image"] for service in project["services"].values()})
    return {image: _image(image, options) for image in here if image.startswith(_OURS)}


def _image(image: str, options: Options) -> str:
    """As every node can pull it; an image that others publish keeps its name."""
    if not image.startswith(_OURS):
        return image
    name, _, tag = image.partition(":")
    return f"{options.registry}/{name}:{options.tag or tag or 'latest'}"
