"""Metrics, alerts and autoscaling of the Helm chart."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import helm
from support.helm import (
    ALL,
    HPA,
    MONITORING,
    one,
)
from support.stack import ROOT


def test_jobs_are_called_as_the_rules_expect() -> None:
    documents = helm.render(ALL)
    monitor = one(documents, "ServiceMonitor")["spec"]
    wanted = monitor["selector"]["matchLabels"].items()
    services = [d for d in documents if d["kind"] == "Service"]
    [service] = [d for d in services if wanted <= d["metadata"]["labels"].items()]
    ports = {p["name"] for p in service["spec"]["ports"]}
    jobs = set()
    for endpoint in monitor["endpoints"]:
        assert set(endpoint) == {"port", "interval", "relabelings"}
        assert endpoint["port"] in ports
        assert endpoint["interval"] == "15s"
        [relabeling] = endpoint["relabelings"]
        assert (relabeling["action"], relabeling["targetLabel"]) == ("replace", "job")
        jobs.add(relabeling["replacement"])
    config = yaml.safe_load((ROOT / "monitoring/prometheus/prometheus.yml").read_text("utf-8"))
    scraped = {job["job_name"] for job in config["scrape_configs"]}
    # Of the two that listen on loopback there are no metrics here: docs/kubernetes.md says so.
    assert jobs == scraped - {"pictures", "shadow"}
    [up] = [
        rule["expr"]
        for group in one(documents, "PrometheusRule", "stack-recording")["spec"]["groups"]
        for rule in group["rules"]
        if rule["record"] == "triton_stack:up"
    ]
    matched = {job for words in re.findall(r'job=~"([^"]+)"', up) for job in words.split("|")}
    assert matched == scraped
    assert len(re.findall(r"\bup\b", up)) == up.count("job=~"), "no other job of a shared Prometheus counts"


def test_rules_are_those_of_the_stack() -> None:
    documents = [d for d in helm.render(MONITORING) if d["kind"] == "PrometheusRule"]
    files = sorted((ROOT / "monitoring" / "prometheus" / "rules").glob("*.yml"))
    assert [d["spec"] for d in documents] == [yaml.safe_load(f.read_text("utf-8")) for f in files]
    labelled = helm.render(MONITORING, {"monitoring": {"rules": {"labels": {"release": "prometheus"}}}})
    assert one(labelled, "PrometheusRule", "stack-alerts")["metadata"]["labels"]["release"] == "prometheus"


def test_an_autoscaler_owns_the_number_of_pods() -> None:
    documents = helm.render(HPA)
    assert "replicas" not in one(documents, "StatefulSet")["spec"]
    spec = one(documents, "HorizontalPodAutoscaler")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (1, 4)
    [metric] = spec["metrics"]
    assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": "100m"}
    assert metric["pods"]["metric"]["name"] == adapter_rule()["name"]["as"]


def adapter_rule() -> dict[str, Any]:
    """The rule of prometheus-adapter in docs/kubernetes.md."""
    page = (ROOT / "docs" / "kubernetes.md").read_text("utf-8")
    [block] = re.findall(r"```yaml\n(rules:\n.*?)```", page, re.DOTALL)
    [rule] = yaml.safe_load(block)["rules"]["custom"]
    return dict(rule)


def test_the_adapter_s_rule_gives_each_pod_s_queue_time(tmp_path: Path) -> None:
    """As the adapter fills it in, evaluated by Prometheus: a busy pod, an idle one, and somebody else's."""
    if shutil.which("promtool") is None:
        pytest.skip("no promtool here: apt-get install prometheus")
    rule = adapter_rule()
    series, _, matcher = rule["seriesQuery"].partition("{")
    assert matcher == 'namespace!="",pod!=""}'
    query = rule["metricsQuery"]
    query = query.replace("<<.Series>>", series).replace("<<.GroupBy>>", "pod")
    query = query.replace("<<.LabelMatchers>>", 'namespace="a",pod=~"busy|idle"')
    assert "<<" not in query
    # 120 requests a minute that wait 0.25 s each.
    rows = [
        {"series": f'{name}{{namespace="a",pod="{owner}",model="m"}}', "values": f"0+{step}x20"}
        for owner, waited, answered in (("busy", 30_000_000, 120), ("idle", 0, 0), ("other", 9, 9))
        for name, step in ((series, waited), ("nv_inference_request_success", answered))
    ]
    test = {
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": rows,
                "promql_expr_test": [
                    {
                        "expr": query,
                        "eval_time": "10m",
                        "exp_samples": [
                            {"labels": '{pod="busy"}', "value": 0.25},
                            {"labels": '{pod="idle"}', "value": 0},
                        ],
                    }
                ],
            }
        ],
    }
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump(test))
    done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
