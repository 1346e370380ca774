"""The Helm chart's objects, held to Kubernetes' schemas."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from support import helm
from support.helm import (
    ALL,
    CPU,
    DAEMONSET,
    DRA,
    GATEWAY,
    HPA,
    REQUIRED,
    VARIANTS,
    Values,
    container,
    environment,
    one,
    pod,
)

CRDS = ("ServiceMonitor", "PrometheusRule")


@pytest.mark.parametrize("kubernetes", ["1.27", "1.32", "newest"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_object_is_what_kubernetes_takes(variant: str, kubernetes: str) -> None:
    version = helm.newest() if kubernetes == "newest" else kubernetes
    documents = helm.render(VARIANTS[variant], kubernetes=version)
    assert len(documents) >= 5
    for document in documents:
        if document["kind"] not in CRDS:
            helm.check(document, version)


def test_a_field_that_kubernetes_does_not_know_would_be_noticed() -> None:
    document = one(helm.render(), "StatefulSet")
    document["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(Exception, match="readinesProbe"):
        helm.check(document, "1.32")


def test_one_gpu_for_both_by_a_claim() -> None:
    documents = helm.render(DRA, kubernetes="1.34")
    for document in documents:
        helm.check(document, "1.34")
    claim = one(documents, "ResourceClaimTemplate")
    assert pod(documents)["resourceClaims"] == [
        {"name": "gpu", "resourceClaimTemplateName": claim["metadata"]["name"]}
    ]
    for name in ("triton", "agent"):
        resources = container(documents, name)["resources"]
        assert resources["claims"] == [{"name": "gpu"}]
        assert set(resources["limits"]) == {"memory"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_helm_s_own_lint(variant: str) -> None:
    done = helm.run("lint", helm.merged(REQUIRED, VARIANTS[variant]), "--strict")
    assert done.returncode == 0, done.stdout
    assert "[WARNING]" not in done.stdout


def test_names_and_selectors_meet() -> None:
    documents = helm.render(ALL, HPA)
    owner = one(documents, "StatefulSet")
    labels = owner["spec"]["template"]["metadata"]["labels"]
    assert owner["spec"]["selector"]["matchLabels"] == labels
    ports = {p["name"] for c in pod(documents)["containers"] for p in c.get("ports", [])}
    for service in [d for d in documents if d["kind"] == "Service"]:
        assert service["spec"]["selector"] == labels
        assert {p["targetPort"] for p in service["spec"]["ports"]} <= ports
    assert one(documents, "Service", owner["spec"]["serviceName"])["spec"]["clusterIP"] == "None"
    target = one(documents, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("StatefulSet", owner["metadata"]["name"])
    for kind in ("PodDisruptionBudget", "NetworkPolicy"):
        spec = one(documents, kind)["spec"]
        assert (spec.get("selector") or spec.get("podSelector"))["matchLabels"] == labels
    mounted = {m["name"] for c in pod(documents)["containers"] for m in c["volumeMounts"]}
    assert mounted - {"models"} == {v["name"] for v in pod(documents)["volumes"]}


def test_a_long_name_of_a_release_still_fits() -> None:
    done = helm.run("template", REQUIRED, release="a.very-long-name-of-a-release-that-helm-allows-us53")
    names = {d["metadata"]["name"] for d in yaml.safe_load_all(done.stdout) if d}
    assert names
    assert all(re.fullmatch(r"[a-z]([a-z0-9-]{0,50}[a-z0-9])?", name) for name in names), names


def test_a_statefulset_s_pods_have_volumes_of_their_own() -> None:
    documents = helm.render(
        {"replicas": 3, "persistence": {"storageClassName": "fast", "whenScaled": "Delete"}}
    )
    spec = one(documents, "StatefulSet")["spec"]
    assert (spec["replicas"], spec["podManagementPolicy"]) == (3, "Parallel")
    [claim] = spec["volumeClaimTemplates"]
    assert (claim["metadata"]["name"], claim["spec"]["storageClassName"]) == ("models", "fast")
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Delete"}
    assert pod(documents)["topologySpreadConstraints"]


def test_a_daemonset_s_pods_have_their_node_s_folder() -> None:
    documents = helm.render(DAEMONSET, {"updateStrategy": {"maxUnavailable": "25%"}})
    [models] = [v for v in pod(documents)["volumes"] if v["name"] == "models"]
    # DirectoryOrCreate makes a folder that belongs to root.
    assert models["hostPath"] == {"path": "/var/lib/tensorflow-triton", "type": "Directory"}
    update = one(documents, "DaemonSet")["spec"]["updateStrategy"]["rollingUpdate"]
    assert update == {"maxSurge": 0, "maxUnavailable": "25%"}
    kinds = {d["kind"] for d in documents}
    assert not kinds & {"StatefulSet", "PodDisruptionBudget", "HorizontalPodAutoscaler"}


def test_gpus_go_to_triton_and_agent() -> None:
    documents = helm.render(
        ALL, {"gpu": {"resource": "nvidia.com/mig-1g.10gb", "runtimeClassName": "nvidia"}}
    )
    spec = pod(documents)
    with_gpu = {c["name"] for c in spec["containers"] if "nvidia.com/mig-1g.10gb" in c["resources"]["limits"]}
    assert with_gpu == {"triton", "agent"}
    assert spec["runtimeClassName"] == "nvidia"
    documents = helm.render(ALL, CPU)
    assert not [c for c in pod(documents)["containers"] if set(c["resources"]["limits"]) != {"memory"}]
    agent = environment(container(documents, "agent"))
    assert agent["ENGINE"] == "onnxruntime"
    assert "NGC_TAG" not in agent


def test_clients_reach_the_gateway_or_triton() -> None:
    def ports(*values: Values) -> dict[str, int]:
        service = one(helm.render(*values), "Service", "stack")
        return {p["name"]: p["port"] for p in service["spec"]["ports"]}

    assert ports() == {"http": 8000, "grpc": 8001}
    assert ports(GATEWAY) == {"gateway": 8443}


def test_with_the_gateway_nobody_else_reaches_triton() -> None:
    documents = helm.render(ALL)
    labels = one(documents, "StatefulSet")["spec"]["selector"]["matchLabels"]
    clients, triton, metrics = one(documents, "NetworkPolicy")["spec"]["ingress"]
    assert clients == {"ports": [{"port": "gateway"}]}
    assert triton["ports"] == [{"port": "http"}, {"port": "grpc"}]
    assert triton["from"] == [{"podSelector": {"matchLabels": labels}}]
    assert {p["port"] for p in metrics["ports"]} == {"metrics", "gateway-metrics", "exporter"}
    clients, metrics = one(helm.render(), "NetworkPolicy")["spec"]["ingress"]
    assert clients["from"] == [{"podSelector": {}}], "pods of this namespace alone"
    peers = [{"ipBlock": {"cidr": "10.0.0.0/8"}}]
    policy = one(
        helm.render(GATEWAY, {"networkPolicy": {"clients": peers, "metrics": peers}}), "NetworkPolicy"
    )
    clients, _, metrics = policy["spec"]["ingress"]
    assert clients["from"] == metrics["from"] == peers


def test_a_budget_takes_a_number_or_a_percentage() -> None:
    for value in (2, "50%"):
        documents = helm.render({"podDisruptionBudget": {"maxUnavailable": value}})
        assert one(documents, "PodDisruptionBudget")["spec"]["maxUnavailable"] == value


def test_large_numbers_stay_whole() -> None:
    """Helm reads a values file's 10000000 as a float, and would print 1e+07."""
    values: Values = {
        "user": 10000000,
        "settings": {"GATEWAY_RATE": 1000000, "PINNED_POOL_MB": 1000000, "BUILD_SECS": 604800},
        "autoscaling": {"enabled": True, "queueMilliseconds": 3600000},
    }
    documents = helm.render(ALL, values)
    assert pod(documents)["securityContext"]["runAsUser"] == 10000000
    assert environment(container(documents, "gateway"))["GATEWAY_RATE"] == "1000000"
    assert environment(container(documents, "triton"))["PINNED_POOL_MB"] == "1000000"
    assert "BUILD_SECS=604800" in one(documents, "ConfigMap")["data"][".env"]
    [metric] = one(documents, "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert metric["pods"]["target"]["averageValue"] == "3600000m"
    text = helm.text(json.dumps(helm.merged(REQUIRED, ALL, values)), "")
    assert not re.search(r"\d[eE]\+\d", text)
