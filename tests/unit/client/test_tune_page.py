"""The page of a tuning run: every candidate is a point, the chosen one is marked, the frontier is right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from triton_stack_client.tune import cli
from triton_stack_client.tune.page import frontier, render


def row(name: str, state: str, rate: float, late: float, **more: Any) -> dict[str, Any]:
    figures = {"images_per_s": rate, "p50": late / 2, "p95": late, "p99": late}
    return {
        "name": name, "what": f"what {name} is", "changes": {}, "settings": {}, "state": state, "reason": "",
        "ratio": None if state == "present" else rate / 100, "looks": 2, "loads": {"1": figures}, **more,
    }  # fmt: skip


RESULT = {
    "model": "m", "spec": "/specs/m.yaml", "release": 1, "when": "2026-11-25 04:00 UTC",
    "machine": {"machine": "a processor, 2 cores", "gpu": None, "engine": "onnxruntime 1.2"},
    "objective": "throughput", "aim": "images/s with 1 client", "clients": [1], "latency_budget_ms": 20.0,
    "budget_seconds": 60, "seconds": 50.0, "noise": 0.02, "conclusion": "c01 is <better>",
    "confirmation": {"name": "c01", "ratio": 1.5, "noise": 0.02}, "chosen": "c01",
    "patch": {"serving": {"cpu_threads": 2}}, "patch_text": "serving:\n  cpu_threads: 2",
    "settings": {"COPY_THREADS": "4"},
    "engines": [{"what": "batch.opt 32", "p50_ms": 0.6, "batch": 32, "images_per_s": 23458.0}],
    "candidates": [
        row("present", "present", 100, 10),
        row("c01", "chosen", 150, 8),
        row("c02", "failed", 120, 30, reason="it does not load any more"),
        row("c03", "measured", 160, 12),
        {**row("c04", "not measured", 1, 1), "loads": {}, "ratio": None, "looks": 0, "reason": "no time"},
    ],
}  # fmt: skip


def test_the_frontier_has_the_points_that_no_other_beats_in_both() -> None:
    points = [(100.0, 10.0), (150.0, 8.0), (160.0, 12.0), (120.0, 30.0), (150.0, 9.0)]
    assert frontier(points) == [(150.0, 8.0), (160.0, 12.0)]


def test_every_candidate_is_on_the_page_and_the_chosen_one_is_marked(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps(RESULT))
    assert cli.main(["report", str(tmp_path / "result.json")]) == 0
    page = (tmp_path / "report.html").read_text()
    assert page == render(RESULT)
    for name in ("present", "c01", "c02", "c03"):
        assert page.count(f"<title>{name} (what {name} is)") == 1
    assert "<title>c04" not in page
    assert "no time" in page
    assert 'class="solid c2"' in page
    assert ">chosen</text>" in page
    assert "c01 is &lt;better&gt;" in page
    assert "serving:\n  cpu_threads: 2" in page
    assert "COPY_THREADS=4" in page
    assert "23,458" in page
    assert "The latency budget is 20 ms" in page


def test_a_result_that_cannot_be_read_is_an_error(tmp_path: Path, capsys: Any) -> None:
    assert cli.main(["report", str(tmp_path / "none.json")]) == 1
    assert "none.json" in capsys.readouterr().err
