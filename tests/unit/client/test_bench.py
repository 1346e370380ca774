"""bench without a server: what it reads, what it concludes, what its report shows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from triton_stack_client.bench import latency, perf, results, turns
from triton_stack_client.bench.baseline import Figure, Trtexec, parse_trtexec
from triton_stack_client.bench.latency import Latency
from triton_stack_client.bench.perf import PARTS, Point
from triton_stack_client.bench.report import html, svg
from triton_stack_client.bench.results import Results
from triton_stack_client.bench.run import Plan, possible
from triton_stack_client.bench.saturation import Saturation
from triton_stack_client.errors import ClientError

Sample = Callable[[str], str]


def point(
    way: str, concurrency: int, rate: float, p99: float, *, batch: int = 1, stable: bool = True
) -> Point:
    parts = dict.fromkeys(PARTS.values(), p99 / 14)
    return Point(
        way,
        batch,
        concurrency,
        stable,
        rate,
        p99 / 2,
        p99 * 0.8,
        p99 * 0.9,
        p99,
        parts,
        ["perf_analyzer", way],
    )


@pytest.fixture
def run() -> Results:
    facts: dict[str, Any] = {
        "model": "m<odel", "version": 3, "when": "2026-01-01 00:00 UTC",
        "baseline": "onnxruntime 1, 2 threads",
        "machine": {"cpu": "A & B", "cores": 2, "memory_gib": 8.0, "gpus": [], "system": "Linux"},
        "versions": {"triton": "2.51.0", "perf_analyzer": "2.47"}, "weights": "UNTRAINED", "untrained": True,
        "engine": "onnxruntime 1", "latency_budget_ms": 50.0,
    }  # fmt: skip
    return Results(
        facts,
        [
            point("grpc", 1, 90, 20),
            point("grpc", 4, 180, 48),
            point("grpc", 8, 400, 400, stable=False),
            point("http", 1, 95, 19),
            point("http", 4, 190, 60),
        ],
        [Figure(1, 100.0, 9.5, 11.0, ["python3", "local.py"])],
        [Latency("onnxruntime", 9, 9.5, 10, 11, 1.0), Latency("grpc", 9, 10.0, 11, 12, 1.053)],
        Saturation("http", 1, 4, 5, 188.0, 192.0, 0.979),
    )


def test_a_point_is_read_from_perf_analyzer_s_own_csv(sample: Sample) -> None:
    read = perf.parse(sample("perf_analyzer.csv"), "grpc", 1, ["x"], stable=True)
    assert (read.concurrency, read.images_per_s) == (1, 872.696)
    assert (read.p50, read.p90, read.p95, read.p99) == (1.128, 1.284, 1.344, 1.503)
    assert read.parts == {
        "client send": 0.024, "network": 0.314, "queue": 0.051, "input": 0.168, "compute": 0.548,
        "output": 0.036, "client receive": 0.001,
    }  # fmt: skip


def test_a_fixed_number_of_requests_is_not_divided_by_whole_seconds() -> None:
    # perf_analyzer 2.47's own, --request-count 300 with batch 4 and 2 clients.
    text = (
        "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,"
        "Server Compute Input,Server Compute Infer,Server Compute Output,Client Recv,"
        "p50 latency,p90 latency,p95 latency,p99 latency,Avg latency,request/response,response wait\n"
        "2,1199.5,45,1148,1531,75,2103,154,4,4120,9425,10761,13879,5063,49,4993\n"
    )
    assert perf.parse(text, "grpc", 4, [], stable=False).images_per_s == pytest.approx(2 * 4 / 0.005063)
    assert perf.parse(text, "grpc", 4, [], stable=True).images_per_s == 1199.5


@pytest.mark.parametrize("text", ["", "Concurrency\n", "Concurrency,x\nabc,1\n"])
def test_what_is_no_csv_of_perf_analyzer_is_an_error(text: str) -> None:
    with pytest.raises(ClientError, match="CSV cannot be read"):
        perf.parse(text, "grpc", 1, [], stable=True)


def test_trtexec_s_own_output_is_the_baseline_on_a_gpu(sample: Sample) -> None:
    figure = parse_trtexec(sample("run_fp16_io.log"), 4, ["trtexec"])
    assert figure.p50 == figure.p99 == 19.9484
    assert figure.images_per_s == pytest.approx(4 * 50.0757)


def test_a_trtexec_that_fails_is_an_error(sample: Sample) -> None:
    with pytest.raises(ClientError, match="the local baseline failed: trtexec"):
        parse_trtexec(sample("load_truncated_plan.log"), 1, ["trtexec"])


def test_the_headline_trusts_stable_points_only(run: Results) -> None:
    assert run.best().images_per_s == 190
    assert run.within(50) == run.points[1]
    assert run.within(1) is None
    words = dict(run.headline())
    assert words["saturation"] == "190.0 images/s (http, 4 clients, batch 1)"
    assert words["served / local, p50, 1 client, grpc"] == "1.053"
    assert words["served / local, images/s, 4 clients"] == "0.979"
    assert words["within 50 ms"].startswith("180.0 images/s, p99 48.0 ms")


def test_without_turns_the_ratios_come_from_the_points(run: Results) -> None:
    alone = Results(run.facts, run.points, run.local, [], None)
    ratios = dict(alone.ratios())
    assert ratios["p50, 1 client, grpc"] == pytest.approx(10 / 9.5)
    assert ratios["images/s, 4 clients"] == pytest.approx(1.9)


def test_a_run_is_read_back_as_it_was(run: Results, tmp_path: Path) -> None:
    run.save(tmp_path)
    assert results.load(tmp_path) == run
    rows = (tmp_path / "results.csv").read_text().splitlines()
    assert len(rows) == 1 + len(run.local) + len(run.points)
    assert [r.split(",")[3] for r in rows[2:]] == ["true", "true", "false", "true", "true"]
    data = json.loads((tmp_path / "results.json").read_text())
    (tmp_path / "results.json").write_text(json.dumps({**data, "schema": 99}))
    with pytest.raises(ClientError, match="has schema 99, not 1"):
        results.load(tmp_path)
    with pytest.raises(ClientError, match="cannot be read as a run of bench"):
        results.load(tmp_path / "none")


def test_compare_shows_both_figures_and_their_ratio(run: Results) -> None:
    faster = [point(p.way, p.concurrency, p.images_per_s * 2, p.p99 / 2, stable=p.stable) for p in run.points]
    rows = results.compare(run, Results(run.facts, faster, run.local, [], None))
    by_name = {row[0]: row[1:] for row in rows[1:]}
    assert by_name["grpc, batch 1, 4 clients"] == [
        "180.0 -> 360.0", "x 2.00", "24.0 -> 12.0", "x 0.50", "48.0 -> 24.0", "x 0.50",
    ]  # fmt: skip
    assert by_name["local, batch 1, 1 client"][1] == "x 1.00"
    assert "grpc, batch 1, 8 clients, unstable" in by_name
    with pytest.raises(ClientError, match="no point in common"):
        results.compare(run, Results(run.facts, [point("grpc", 99, 1, 1)], [], [], None))


class Outside(HTMLParser):
    """Everything that a page would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag in ("script", "link", "img", "iframe", "object"):
            self.found.append(tag)
        self.found += [f"{k}={v}" for k, v in attrs if k in ("src", "href", "data", "srcset")]


def test_the_report_needs_nothing_from_outside(run: Results) -> None:
    page = html.render(run)
    parser = Outside()
    parser.feed(page)
    assert parser.found == []
    assert "url(" not in page
    assert "@import" not in page
    # curves of each batch, time (two), ratios, and a panel for each way and batch
    assert parser.tags.count("svg") == 4 + 2
    assert "m&lt;odel" in page
    assert "A &amp; B" in page
    assert "UNTRAINED" in page


def test_every_point_is_on_the_report(run: Results) -> None:
    page = html.render(run)
    for p in run.points:
        name = f"{p.way}, batch 1, {p.concurrency} client{'s' if p.concurrency > 1 else ''}"
        assert f"<td>{name}" in page
    assert page.count('class="hollow') >= 1
    assert page.count("(unstable)") >= 2


@pytest.mark.parametrize("largest", [0.003, 1, 7.3, 96, 1234, 250000])
def test_plots_stay_inside_their_frame(largest: float) -> None:
    marks = [svg.Mark(largest * n / 4, largest * n / 4, "") for n in range(5)]
    drawn = svg.lines([svg.Series("s", 0, marks)], x="x", y="y")
    for cx, cy in re.findall(r'cx="([\d.-]+)" cy="([\d.-]+)"', drawn):
        assert 0 <= float(cx) <= svg.WIDTH
        assert 0 <= float(cy) <= svg.HEIGHT
    labels = re.findall(r'class="tick end"[^>]*>([^<]+)<', drawn)
    assert 3 <= len(labels) <= 8
    assert len(set(labels)) == len(labels)
    wide = svg.bars([svg.Bar("b", [("p", largest)], "n")], unit="ms", colours={"p": 0}, reference=largest)
    for x, width in re.findall(r'<rect[^>]* x="([\d.]+)"[^>]* width="([\d.]+)"', wide):
        assert float(x) + float(width) <= svg.WIDTH


def test_no_page_speaks_of_1_clients(run: Results) -> None:
    assert "1 clients" not in html.render(run).replace("11 clients", "")
    assert "1 clients" not in str(run.headline() + run.ratios())


def boxes(drawn: str) -> list[tuple[float, float, float, float]]:
    """Left, top, right and bottom of each tag of a plot."""
    found = re.findall(r'<text class="tag mid" x="([\d.]+)" y="([\d.]+)">([^<]+)<', drawn)
    return [(float(x) - 3 * len(t), float(y) - 9, float(x) + 3 * len(t), float(y)) for x, y, t in found]


def test_tags_cover_neither_each_other_nor_a_mark() -> None:
    # At saturation more clients change nothing: marks lie close together, and some on one another.
    places = [(10, 5), (95, 20), (100, 40), (101, 41), (101, 42), (102, 43), (99, 44), (101, 41)]
    marks = [svg.Mark(x, y, "", tag=str(2**n)) for n, (x, y) in enumerate(places)]
    drawn = svg.lines([svg.Series("a", 0, marks[:4]), svg.Series("b", 1, marks[4:])], x="x", y="y")
    tags = boxes(drawn)
    assert len(tags) >= 5
    circles = [(float(x), float(y)) for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', drawn)]
    dots = [(x - 4, y - 4, x + 4, y + 4) for x, y in circles]
    for n, a in enumerate(tags):
        assert 0 <= a[0] < a[2] <= svg.WIDTH
        for b in tags[n + 1 :] + dots:
            apart = a[2] <= b[0] + 0.2 or b[2] <= a[0] + 0.2 or a[3] <= b[1] + 0.2 or b[3] <= a[1] + 0.2
            assert apart, (a, b)


def test_p95_is_seen_where_it_equals_p99(run: Results) -> None:
    """The wider p99 lies below: its rim shows around the p95 that is drawn on it."""
    page = html.render(run)
    panel = page.split("Latency by clients")[1]
    drawn = re.findall(r'class="line c(\d)" stroke-width="([\d.]+)"', panel)
    assert [colour for colour, _ in drawn] == ["4", "0", "2"]
    assert float(drawn[0][1]) > 1.5 * float(drawn[1][1])
    radii = re.findall(r'class="(?:solid|hollow) c(\d)"[^>]* r="([\d.]+)"', panel)
    widest = {colour: float(r) for colour, r in radii}
    assert widest["4"] > 1.5 * widest["0"]


def test_a_ratio_is_the_median_of_the_turns_own() -> None:
    """The second turn of both was on a machine twice as slow."""
    direct, served = [[1.0, 1.0, 9.0], [2.0, 2.0, 2.0], [1.0, 1.0, 1.0]], [[1.1] * 3, [2.4] * 3, [1.5] * 3]
    found = latency.figures("grpc", served, direct)
    assert found.ratio == pytest.approx(1.2)
    assert (found.requests, found.p50) == (9, pytest.approx(1500))
    assert latency.figures("onnxruntime", direct, direct).ratio == 1


class Machine:
    """A GPU whose speed changes from round to round: trtexec's part of it, and perf_analyzer's."""

    def __init__(self) -> None:
        self.slower = iter([1.0, 3.0, 1.5])
        self.now = 1.0
        self.asked: list[Any] = []

    def turn(self, batch: int, seconds: float) -> Figure:
        if batch == 1:
            self.now = next(self.slower)
        self.asked.append(batch)
        return Figure(batch, 1000 * batch / self.now, 0.5 * self.now, 1, ["trtexec"], graph=True)

    def windows(self, way: str, batch: int, concurrency: int, *, window: float) -> Point:
        self.asked.append((way, batch, concurrency))
        return point(way, concurrency, 900 * 32 / self.now, 2 * 0.8 * self.now, batch=batch)


def test_on_a_gpu_a_ratio_is_of_one_round() -> None:
    machine = Machine()
    loads = turns.loads(["grpc", "grpc+cuda"], 8, 32)
    found = turns.measure(machine, machine, loads, rounds=3, seconds=1, say=lambda _: None)
    assert [(c.figure, c.way, c.batch, c.concurrency, c.local_batch) for c in found] == [
        ("p50", "grpc", 1, 1, 1),
        ("p50", "grpc+cuda", 1, 1, 1),
        ("images_per_s", "grpc", 1, 256, 32),
        ("images_per_s", "grpc+cuda", 1, 256, 32),
        ("images_per_s", "grpc+cuda", 32, 8, 32),
    ]
    assert [c.ratio for c in found] == pytest.approx([1.6, 1.6, 0.9, 0.9, 0.9])
    assert found[0].local == 0.75
    assert [a for a in machine.asked if isinstance(a, int)] == [1, 32] * 3, (
        "local once for each batch a round"
    )


def test_the_comparisons_of_a_gpu_are_the_ratios_everywhere(run: Results, tmp_path: Path) -> None:
    found = [turns.Comparison("p50", "grpc+cuda", 1, 1, 1, 3, 0.8, 0.5, 1.61)]
    local = [*run.local, replace(run.local[0], graph=True, p50=0.5)]
    ours = replace(run, local=local, comparisons=found)
    assert ours.base(1).graph
    name = "p50, grpc+cuda, 1 client, batch 1 / local batch 1"
    assert ours.ratios() == [(name, 1.61)]
    assert dict(ours.headline())[f"served / local, {name}"] == "1.610"
    ours.save(tmp_path)
    assert results.load(tmp_path) == ours
    assert json.loads((tmp_path / "results.json").read_text())["ratios"] == {name: 1.61}
    page = html.render(ours)
    assert name in page
    assert "local, CUDA graph, batch 1" in page
    assert "local, CUDA graph,1," in (tmp_path / "results.csv").read_text().replace('"', "")


def test_turns_of_trtexec_are_joined_by_their_medians(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    log.write_text(sample("run_loadinputs.log"))
    program = tmp_path / "trtexec"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\ncat {log}\n')
    program.chmod(0o755)
    tensor = SimpleNamespace(name="image", dims=(224, 224, 3))
    release: Any = SimpleNamespace(
        inputs=(tensor,), folder=tmp_path, version=1, engine={"file": "model.plan", "version": "8.5.1"}
    )
    trtexec = Trtexec(str(program), release, graph=True)
    for p50 in ("0.609296", "0.2", "0.3"):
        log.write_text(sample("run_loadinputs.log").replace("median = 0.609296", f"median = {p50}"))
        trtexec.turn(4, 1)
    assert trtexec.figure(4).p50 == 0.3
    assert trtexec.figure(4).images_per_s == pytest.approx(4 * 615.03)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert len(asked) == 3
    assert all("--useCudaGraph" in a and "--shapes=image:4x224x224x3 --duration=1" in a for a in asked)
    trtexec.without_graph().turn(4, 1)
    assert "--useCudaGraph" not in (tmp_path / "asked").read_text().splitlines()[-1]


def test_cuda_shared_memory_is_left_out_where_it_cannot_be_had(capsys: pytest.CaptureFixture[str]) -> None:
    class Analyzer:
        def windows(self, way: str, *_: Any, window: float) -> Point:
            raise ClientError("perf_analyzer failed (99): failed to register CUDA shared memory region")

    perf: Any = Analyzer()
    plan = Plan(["grpc", "grpc+cuda"], [1], [1], 1.0, 3, 1.0, 0, 3, loads=((1, 1), (1, 256), (32, 8)))
    assert possible(perf, plan) == ["grpc"]
    assert "grpc+cuda is left out: perf_analyzer failed (99)" in capsys.readouterr().err
    assert plan.points()[:3] == [("grpc", 1, 1), ("grpc", 1, 256), ("grpc+cuda", 1, 1)]
    assert plan.points()[-1] == ("grpc+cuda", 32, 8)
