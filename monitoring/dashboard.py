"""The dashboard: seven questions, in the order in which one asks them, and the panels that answer each.

``python3 -m monitoring.dashboard`` writes it for Grafana; the page in monitoring/prometheus/consoles draws
the same file where there is no Grafana. Expressions hold as they are, with no variables of Grafana's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

FILE = Path(__file__).parent / "grafana" / "dashboards" / "triton-stack.json"
DATASOURCE = {"type": "prometheus", "uid": "prometheus"}
_COLUMNS = 24  # of Grafana's grid
_HEIGHT = {"stat": 4, "table": 6, "timeseries": 8}

Queries = List[Tuple[str, str]]  # expression and legend


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        kind: "stat" (the last value), "table" (labels) or "timeseries".
        unit: Grafana's name for it.
        words: what it answers, where the title does not say it all.
        values: words and colours for numbers: ("0", "no", "red").
        top: where the axis ends; None: at the largest value.
    """

    title: str
    queries: Queries
    kind: str = "timeseries"
    unit: str = "short"
    words: str = ""
    values: Tuple[Tuple[str, str, str], ...] = ()
    top: Optional[float] = None


def _average(part: str) -> str:
    """Seconds of a request that go into ``part``, averaged over 5 minutes."""
    return (
        f"sum by (model) (rate(nv_inference_{part}_duration_us[5m])) / 1e6"
        " / (sum by (model) (rate(nv_inference_request_success[5m])) > 0)"
    )


_YES_NO = (("0", "no", "red"), ("1", "yes", "green"))

QUESTIONS: Dict[str, List[Panel]] = {
    "Is it up?": [
        Panel(
            "The live release answers", [("triton_stack_model_ready", "{{model}} version {{version}}")],
            "stat", values=_YES_NO,
        ),
        Panel(
            "Prometheus reaches", [("triton_stack:up", "{{job}}")], "stat", values=_YES_NO,
            words="Gateway and picture service are shown for a day after they were last there.",
        ),
        Panel(
            "Servers that the gateway uses",
            [('sum by (proxy) (haproxy_server_status{state="UP"})', "{{proxy}}")], "stat",
            words="Only with the profile gateway.",
        ),
        Panel("Alerts that fire", [('count(ALERTS{alertstate="firing"}) or vector(0)', "alerts")], "stat"),
        Panel(
            "The certificate ends in",
            [("triton_stack_certificate_end_timestamp_seconds - time()", "certificate")], "stat", "s",
            words="Only with the profile gateway.",
        ),
    ],
    "Which release?": [
        Panel("Live releases", [("triton_stack_release_info", "")], "table"),
        Panel(
            "Live for", [("time() - triton_stack_release_live_timestamp_seconds", "{{model}}")], "stat", "s"
        ),
    ],
    "How many requests and errors?": [
        Panel(
            "Requests that Triton answered, a second",
            [
                ("sum by (model) (rate(nv_inference_request_success[5m]))", "{{model}}"),
                ("sum by (model) (rate(nv_inference_request_failure[5m]))", "{{model}} failed"),
            ],
            unit="reqps",
        ),
        Panel(
            "Requests at the gateway, a second",
            [("sum by (status) (triton_stack:requests:rate5m)", "{{status}}")],
            unit="reqps", words="By class of the status; a gRPC status counts as what it is in HTTP.",
        ),
        Panel(
            "Requests by key, a second",
            [("sum by (key) (rate(triton_stack_request_duration_seconds_count[5m]))", "{{key}}")],
            unit="reqps",
        ),
        Panel(
            "Share of failures",
            [
                ("triton_stack:inference_failures:ratio5m", "{{model}} at Triton"),
                ("triton_stack:request_errors:ratio5m", "{{model}} at the gateway"),
            ],
            unit="percentunit",
        ),
        Panel(
            "Refused by the gateway, a second",
            [("sum by (reason) (rate(triton_stack_refused_requests_total[5m]))", "{{reason}}")], unit="reqps",
        ),
        Panel(
            "Bytes a second",
            [
                ("sum by (model) (rate(triton_stack_received_bytes_total[5m]))", "{{model}} in"),
                ("sum by (model) (rate(triton_stack_sent_bytes_total[5m]))", "{{model}} out"),
            ],
            unit="Bps",
        ),
    ],
    "Where does the time go?": [
        Panel(
            "In Triton: averages of a request",
            [
                (_average("queue"), "{{model}} waits"),
                (_average("compute_input"), "{{model}} input"),
                (_average("compute_infer"), "{{model}} computes"),
                (_average("compute_output"), "{{model}} output"),
            ],
            unit="s", words="Triton counts sums of time: averages can be made of them, and no percentiles.",
        ),
        Panel(
            "At the gateway: percentiles of a request",
            [
                ("triton_stack:request_seconds:p50_5m", "{{model}} p50"),
                ("triton_stack:request_seconds:p99_5m", "{{model}} p99"),
            ],
            unit="s", words="Out of the exporter's histogram: as exact as its buckets.",
        ),
        Panel(
            "At the gateway: averages of a request",
            [
                (
                    "sum by (model) (rate(triton_stack_request_duration_seconds_sum[5m]))"
                    " / (sum by (model) (rate(triton_stack_request_duration_seconds_count[5m])) > 0)",
                    "{{model}} in all",
                ),
                (
                    "sum by (model) (rate(triton_stack_server_seconds_total[5m]))"
                    " / (sum by (model) (rate(triton_stack_request_duration_seconds_count[5m])) > 0)",
                    "{{model}} at the server",
                ),
            ],
            unit="s",
        ),
    ],
    "How well do batches fill?": [
        Panel(
            "Batch that is executed, average",
            [
                ("triton_stack:inferences:avg_batch5m", "{{model}}"),
                ("triton_stack_release_max_batch_size", "{{model}} at most"),
            ],
        ),
        Panel(
            "Executions a second", [("sum by (model) (rate(nv_inference_exec_count[5m]))", "{{model}}")],
            unit="ops",
        ),
    ],
    "What does the GPU do?": [
        Panel(
            "GPU busy",
            [("nv_gpu_utilization", "{{gpu_uuid}}")],
            unit="percentunit", words="Of a server without a GPU these three are empty.", top=1,
        ),
        Panel(
            "GPU memory taken", [("triton_stack:gpu_memory:ratio", "{{gpu_uuid}}")], unit="percentunit", top=1
        ),
        Panel(
            "GPU power",
            [("nv_gpu_power_usage", "{{gpu_uuid}}"), ("nv_gpu_power_limit", "{{gpu_uuid}} limit")],
            unit="watt",
        ),
        Panel(
            "Processor and memory of the server's machine",
            [
                ("nv_cpu_utilization", "processor"),
                ("nv_cpu_memory_used_bytes / nv_cpu_memory_total_bytes", "memory"),
            ],
            unit="percentunit", top=1,
        ),
    ],
    "When was the last redeploy?": [
        Panel(
            "Time since the last change", [("time() - triton_stack_redeploy_timestamp_seconds", "{{model}}")],
            "stat", "s",
        ),
        Panel(
            "It stayed", [("triton_stack_redeploy_success", "{{model}}")], "stat", values=_YES_NO,
            words="No: the release failed its proof, and the one before it is live again.",
        ),
        Panel(
            "A change is under way", [("triton_stack_release_pending", "{{model}}")], "stat",
            values=(("0", "no", "green"), ("1", "yes", "yellow")),
        ),
        Panel("Live version", [("triton_stack_release_version", "{{model}}")]),
    ],
}  # fmt: skip


def dashboard() -> Dict[str, Any]:
    """It as Grafana's JSON: each question is a row."""
    panels: List[Dict[str, Any]] = []
    top = 0
    for question, answers in QUESTIONS.items():
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": question,
                "collapsed": False,
                "gridPos": {"x": 0, "y": top, "w": _COLUMNS, "h": 1},
                "panels": [],
            }
        )
        top += 1
        for first in range(0, len(answers), 3):
            line = answers[first : first + 3]
            height = max(_HEIGHT[panel.kind] for panel in line)
            for n, panel in enumerate(line):
                width = _COLUMNS // len(line)
                place = {"x": n * width, "y": top, "w": width, "h": height}
                panels.append(_panel(panel, len(panels) + 1, place))
            top += height
    return {
        "uid": "triton-stack",
        "title": "Triton stack",
        "description": "docs/monitoring.md says what each panel answers. Written by monitoring/dashboard.py.",
        "tags": ["triton"],
        "timezone": "browser",
        "editable": False,
        "refresh": "15s",
        "schemaVersion": 39,
        "time": {"from": "now-1h", "to": "now"},
        "panels": panels,
    }


def _panel(panel: Panel, number: int, place: Dict[str, int]) -> Dict[str, Any]:
    options = {
        value: {"index": n, "text": text, "color": colour}
        for n, (value, text, colour) in enumerate(panel.values)
    }
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.words,
        "datasource": DATASOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                **({"min": 0} if panel.kind == "timeseries" else {}),
                **({} if panel.top is None else {"max": panel.top}),
                "mappings": [{"type": "value", "options": options}] if options else [],
            },
            "overrides": [],
        },
        "targets": [
            {
                "refId": chr(ord("A") + n),
                "datasource": DATASOURCE,
                "expr": expr,
                "legendFormat": legend,
                "instant": panel.kind != "timeseries",
                "range": panel.kind == "timeseries",
                "format": "table" if panel.kind == "table" else "time_series",
            }
            for n, (expr, legend) in enumerate(panel.queries)
        ],
    }


def text() -> str:
    """The file's content."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), "utf-8")
