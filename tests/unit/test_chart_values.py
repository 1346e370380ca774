"""Values of the Helm chart: what is refused, with which words, and what describes them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
import yaml
from ops import settings
from support import helm
from support.helm import (
    CHART,
    CLIENT,
    DAEMONSET,
    DRA,
    GATEWAY,
    HPA,
    MONITORING,
    REQUIRED,
    Values,
    one,
)
from support.stack import ROOT


def test_what_is_missing_is_said_at_once_with_what_to_do() -> None:
    words = helm.refused({"gateway": {"enabled": True}, "monitoring": {"exporter": {"enabled": True}}})
    for part in ("triton", "agent", "gateway", "monitoring.exporter"):
        assert f"{part}.image.repository: found nothing\n  allowed: host" in words
        assert f"next: build the images and push them (docs/kubernetes.md), then --set {part}." in words
    for name in ("models", "registry.address", "gateway.keysSecret", "gateway.certificateSecret"):
        assert re.search(rf"^{name}: found .*\n  allowed: .*\n  next: ", words, re.MULTILINE), name
    assert "client.image" not in words


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"autoscaling": {"enabled": True, "minReplicas": 5}}, "minReplicas: found 5, with maxReplicas 4"),
        (helm.merged(DAEMONSET, HPA), "autoscaling.enabled: found true with kind DaemonSet"),
        ({"pictures": {"enabled": True}, **CLIENT}, "pictures.enabled: found true without the gateway"),
        ({"pictures": {"enabled": True}, **GATEWAY}, "client.image.repository: found nothing"),
        (DRA, "gpu.allocation: found dra on Kubernetes v1.32"),
        ({"settings": {"EXIT_TIMEOUT_SECS": 45}}, "STOP_GRACE_SECS: found 45, with EXIT_TIMEOUT_SECS 45"),
        ({"settings": {"POLL_SECS": 90}}, "UNHEALTHY_AFTER: found 30, which is 90 s, with POLL_SECS 90"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(values: Values, words: str) -> None:
    said = helm.refused(REQUIRED, values)
    assert words in said
    assert re.search(r"\n  allowed: .*\n  next: ", said)


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"replica": 2}, "replica"),
        ({"kind": "Deployment"}, "kind"),
        ({"device": "tpu"}, "device"),
        ({"replicas": -1}, "replicas"),
        ({"replicas": 1.5}, "replicas"),
        ({"models": ["a b"]}, "models.0"),
        ({"registry": {"address": "https://registry.example"}}, "registry.address"),
        ({"settings": {"POLL_SECS": 0}}, "settings.POLL_SECS"),
        ({"settings": {"POLL_SECS": "10"}}, "settings.POLL_SECS"),
        ({"settings": {"REGISTRY_AUTH": "{}"}}, "REGISTRY_AUTH"),
        ({"triton": {"image": {"repository": "registry.example/server:22.11"}}}, "triton.image.repository"),
        ({"triton": {"image": {"digest": "sha256:1"}}}, "triton.image.digest"),
        ({"triton": {"sharedMemory": "1g"}}, "triton.sharedMemory"),
        ({"triton": {"sharedMemory": "0Gi"}}, "triton.sharedMemory"),
        ({"triton": {"resources": {"limits": {"nvidia.com/gpu": "1"}}}}, "nvidia.com/gpu"),
        ({"agent": {"resources": {"limits": {"memory": 1000000000}}}}, "agent.resources.limits.memory"),
        ({"persistence": {"hostPath": "var/lib"}}, "persistence.hostPath"),
        ({"persistence": {"size": "50g"}}, "persistence.size"),
        ({"podDisruptionBudget": {"maxUnavailable": "101%"}}, "podDisruptionBudget.maxUnavailable"),
        ({"podDisruptionBudget": {"maxUnavailable": 0}}, "podDisruptionBudget.maxUnavailable"),
        ({"updateStrategy": {"maxUnavailable": "half"}}, "updateStrategy.maxUnavailable"),
        ({"autoscaling": {"minReplicas": 0}}, "autoscaling.minReplicas"),
        ({"gpu": {"resource": "amd.com/gpu"}}, "gpu.resource"),
        ({"user": 0}, "user"),
        ({"tolerations": [{"effect": "Never"}]}, "tolerations.0.effect"),
        ({"networkPolicy": {"clients": [{}]}}, "networkPolicy.clients.0"),
        ({"service": {"type": "ExternalName"}}, "service.type"),
        ({"nodeNamePrefix": "a/"}, "nodeNamePrefix"),
    ],
)
def test_a_value_that_is_none_is_refused_by_its_name(values: Values, where: str) -> None:
    assert where in helm.refused(REQUIRED, values)


def test_each_value_has_its_line_of_why_and_its_schema() -> None:
    lines = (CHART / "values.yaml").read_text("utf-8").splitlines()
    for before, line in zip(["", *lines], lines):
        if re.match(r" *[A-Za-z]+: \S", line):
            assert before.lstrip().startswith("#"), f"{line}: no comment above it"
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    assert set(schema["properties"]) - {"global"} == set(values)
    compare(schema, schema, values)


def compare(schema: dict[str, Any], part: dict[str, Any], values: dict[str, Any]) -> None:
    """Each object is closed, and has the keys of the defaults."""
    for name, value in values.items():
        found = part["properties"][name]
        if "$ref" in found:
            found = schema["definitions"][found["$ref"].rpartition("/")[2]]
        if found.get("type") == "object" and isinstance(value, dict) and name != "affinity":
            assert found.get("additionalProperties") in (False, {"type": "string"}), name
            if "properties" in found:
                assert set(value) <= set(found["properties"]), name
                compare(schema, found, value)


def test_settings_that_the_values_take_are_settings() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    assert all(settings.known(name) for name in schema["properties"]["settings"]["properties"])
    for name, (low, high) in settings._SERVER.items():
        found = schema["properties"]["settings"]["properties"][name]
        assert (found["minimum"], found["maximum"]) == (low, high), name


def test_the_chart_has_the_stack_s_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    version = re.findall(r'^version = "(.*)"', project, re.MULTILINE)[0]
    assert chart["version"] == chart["appVersion"] == version


def test_the_notes_say_how_to_go_on(tmp_path: Path) -> None:
    """Without a cluster Helm prints none: so they are rendered as an object."""
    chart = tmp_path / "chart"
    shutil.copytree(CHART, chart)
    notes = (chart / "templates" / "NOTES.txt").read_text("utf-8")
    (chart / "templates" / "notes.yaml").write_text(f"kind: Notes\nnotes: |\n{indent(notes, '  ')}")
    done = helm.run("template", REQUIRED, chart=chart)
    text = one([d for d in yaml.safe_load_all(done.stdout) if d], "Notes")["notes"]
    assert "\n  REGISTRY=registry.example:5000/team ./scripts/rollout resnet50 --to N" in text


def test_a_package_holds_what_the_links_lead_to(tmp_path: Path) -> None:
    argv = [helm.program(), "package", str(CHART), "--destination", str(tmp_path)]
    subprocess.run(argv, capture_output=True, check=True)
    [package] = tmp_path.iterdir()
    done = helm.run("template", helm.merged(REQUIRED, MONITORING), chart=package)
    assert done.returncode == 0, done.stderr
    assert done.stdout == helm.text(json.dumps(helm.merged(REQUIRED, MONITORING)), "")


def test_the_values_that_the_page_shows_are_taken() -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text("utf-8")
    [example] = re.findall(r"```yaml\n(# mine.yaml\n.*?)```", page, re.DOTALL)
    done = helm.run("template", yaml.safe_load(example))
    assert done.returncode == 0, done.stderr


def test_no_image_has_the_chart() -> None:
    assert "cluster/chart" in (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert (CHART / "files" / "env").is_symlink()
