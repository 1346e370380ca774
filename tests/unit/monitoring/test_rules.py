"""Rules, dashboard and their documentation as data; whether Prometheus takes them is promtool's to say."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from support.monitoring import PROMETHEUS, metrics, queries, rules
from support.stack import ROOT, free_ports

from builder.release.lifecycle import ModelReleases
from builder.release.store import Store
from models_volume.layout import Volume
from monitoring import dashboard
from monitoring.exporter import __main__ as exporter
from monitoring.exporter import access
from monitoring.exporter.releases import Releases
from monitoring.exporter.traffic import Traffic

TESTS = ROOT / "tests" / "promtool" / "alerts.yml"
ALERTS = [rule["alert"] for rule in rules() if "alert" in rule]


def promtool(*argv: str | Path) -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("no promtool here: apt-get install prometheus")
    done = subprocess.run([program, *map(str, argv)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_configuration_and_the_rules() -> None:
    promtool("check", "rules", "--lint-fatal", *sorted((PROMETHEUS / "rules").glob("*.yml")))
    promtool("check", "config", PROMETHEUS / "prometheus.yml")


def test_each_alert_fires_and_clears() -> None:
    promtool("test", "rules", TESTS)


def test_no_alert_goes_without_its_test() -> None:
    """Each fires in at least one test and is clear in another of the same name."""
    fires, clear = set(), set()
    for test in yaml.safe_load(TESTS.read_text())["tests"]:
        for row in test["alert_rule_test"]:
            (fires if row["exp_alerts"] else clear).add(row["alertname"])
    assert fires == clear == set(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_what_to_do(alert: str) -> None:
    [rule] = [rule for rule in rules() if rule.get("alert") == alert]
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    text = (ROOT / page).read_text("utf-8")
    sections = {
        heading.lower(): body.split("\n#")[0].strip()
        for heading, body in re.findall(r"^#+ (\w+)\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    }
    assert len(sections[anchor]) > 60, "a line that helps"
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"]


def test_the_dashboard_is_what_its_source_says() -> None:
    assert dashboard.FILE.read_text("utf-8") == dashboard.text(), "python3 -m monitoring.dashboard"


def test_the_dashboard_answers_in_this_order() -> None:
    panels = json.loads(dashboard.FILE.read_text("utf-8"))["panels"]
    assert [panel["title"] for panel in panels if panel["type"] == "row"] == [
        "Is it up?", "Which release?", "How many requests and errors?", "Where does the time go?",
        "How well do batches fill?", "What does the GPU do?", "When was the last redeploy?",
    ]  # fmt: skip
    assert len({panel["id"] for panel in panels}) == len(panels)
    bottom = 0
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert place["y"] >= bottom or place["x"] > 0, panel["title"]
        bottom = max(bottom, place["y"])
    datasource = yaml.safe_load(
        (ROOT / "monitoring/grafana/provisioning/datasources/prometheus.yml").read_text()
    )
    uids = {target["datasource"]["uid"] for panel in panels for target in panel.get("targets", [])}
    assert uids == {datasource["datasources"][0]["uid"]}


def test_averages_are_called_averages() -> None:
    """Triton's times are sums: a panel of them that speaks of percentiles, or of nothing, would mislead."""
    for panels in dashboard.QUESTIONS.values():
        for panel in panels:
            for expr, _ in panel.queries:
                if "_duration_us" in expr or "avg" in expr or "_sum[" in expr:
                    assert "average" in panel.title, panel.title


def test_names_of_metrics_are_read_out_of_an_expression() -> None:
    expr = (
        'sum by (le, model) (rate(a_total{x="b", y!~"c|d"}[5m])) / on (job) group_left e:f:g_1 > 1e6'
        " unless g offset 5m or count(ALERTS) and 0 * h_bucket"
    )
    assert metrics(expr) - {"group_left"} == {"a_total", "e:f:g_1", "g", "ALERTS", "h_bucket"}


def emitted(tmp_path: Path) -> set[str]:
    """The names of what the exporter emits when it has something of everything."""
    releases = ModelReleases(Store(tmp_path / "models"), "m")
    version = 1
    staged = releases.store.stage("m") / "release"
    (staged / "model" / "1").mkdir(parents=True)
    for name in ("model/config.pbtxt", "golden.npz"):
        (staged / name).touch()
    releases.store.write_json(
        staged / "manifest.json",
        {"model": "m", "version": 1, "files": {}, "contract": {"max_batch_size": 1}, "spec": {}},
    )
    releases.store.publish(staged, "m", version)
    releases.activate(version)
    traffic = Traffic(lambda _model: True)
    traffic.add(access.Request("m", "k", "4xx", "no key", 1, 1, 1.0, 1.0))
    [port] = free_ports(1)
    found = [*traffic.families(), *Releases(Volume(tmp_path / "models"), ("127.0.0.1", port)).families()]
    lines = [line for family in found for line in family.lines()]
    names = {re.split(r"[{ ]", line)[0] for line in lines if line[0] != "#"}
    return names | {
        exporter.LOST, exporter.CERTIFICATE_END,  # of the receiver, and of a gateway that is not here
    }  # fmt: skip


def test_no_query_names_a_metric_that_nothing_emits(tmp_path: Path, sample: Callable[[str], str]) -> None:
    """Of Triton 2.28 on a GPU (a real page of it) and of our own; HAProxy's, and Triton 2.51's on a CPU, are
    checked with the real ones in tests/native."""
    triton = set(re.findall(r"^(nv_\w+)", sample("metrics.txt"), re.MULTILINE))
    records = {rule["record"] for rule in rules() if "record" in rule}
    known = triton | records | emitted(tmp_path) | {"up", "ALERTS"}
    named = {name for expr in queries().values() for name in metrics(expr)}
    assert {name for name in named - known if not name.startswith("haproxy_")} == set()
