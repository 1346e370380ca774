"""report.html: one file that needs nothing else, to be read beside results.json."""

from __future__ import annotations

from html import escape
from pathlib import Path

from triton_stack_client.bench.perf import PARTS, Point
from triton_stack_client.bench.report import svg
from triton_stack_client.bench.results import Results, clients, local_name

# Of every report, this one's and those of tune.
STYLE = Path(__file__).with_name("report.css").read_text("utf-8") + "".join(
    f".line.c{n},.hollow.c{n}{{stroke:var(--c{n})}}.solid.c{n},.bar.c{n}{{fill:var(--c{n})}}"
    f".legend i.c{n}{{background:var(--c{n})}}"
    for n in range(8)
)


def render(results: Results) -> str:
    """The whole page."""
    facts = results.facts
    title = f"{facts['model']} version {facts['version']}"
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width,initial-scale=1'>"
        f"<title>bench: {escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(title)}: served against local</h1>",
        f"<p class='soft'>{escape(_measured_on(results))}</p>",
    ]
    if facts["untrained"]:
        parts.append(
            f"<p class='warn'>Weights: {escape(facts['weights'])}. "
            "The speed is the real model's, the answers are not.</p>"
        )
    if facts.get("unfinished"):
        parts.append(f"<p class='warn'>This run ended early: {escape(facts['unfinished'])}.</p>")
    parts.append("<div class='head'>")
    parts += [f"<div><span>{escape(k)}</span><b>{escape(v)}</b></div>" for k, v in results.headline()]
    parts.append("</div><div class='grid2'>")
    parts += [_curves(results, batch) for batch in dict.fromkeys(b for _, b in _groups(results))]
    parts += [_time(results)] if results.single() else []
    parts += [_ratios(results)]
    parts += [_percentiles(results, way, batch) for way, batch in _groups(results)]
    parts.append("</div>")
    parts += [_table(results), _details(results), "</body></html>"]
    return "".join(parts)


def _measured_on(results: Results) -> str:
    facts, machine = results.facts, results.facts["machine"]
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB"
    gpus = ", ".join(machine["gpus"])
    tools = f"Triton {facts['versions']['triton']}, {facts['baseline']}, {facts['versions']['perf_analyzer']}"
    return f"{facts['when']} on {where}{', ' + gpus if gpus else ''}. {tools}. Client on the same host."


def _groups(results: Results) -> list[tuple[str, int]]:
    return list(dict.fromkeys((p.way, p.batch) for p in results.points))


def _of(results: Results, way: str, batch: int) -> list[Point]:
    return sorted(
        (p for p in results.points if (p.way, p.batch) == (way, batch)), key=lambda p: p.concurrency
    )


def _hint(p: Point) -> str:
    stable = "" if p.stable else " (unstable)"
    return (
        f"{p.way}, batch {p.batch}, {clients(p.concurrency)}{stable}: {p.images_per_s:.1f} images/s, "
        f"p50 {p.p50:.2f} ms, p95 {p.p95:.2f} ms, p99 {p.p99:.2f} ms"
    )


def _curves(results: Results, batch: int) -> str:
    series = []
    for n, way in enumerate(way for way, b in _groups(results) if b == batch):
        marks = [
            svg.Mark(p.images_per_s, p.p99, _hint(p), p.stable, str(p.concurrency))
            for p in _of(results, way, batch)
        ]
        series.append(svg.Series(way, n % 8, marks))
    plot = svg.lines(series, x="images/s", y="p99 of a request, ms")
    legend = svg.legend([(s.name, s.colour) for s in series])
    note = "Numbers are clients; hollow marks never became stable."
    title = f"Throughput against latency: batch {batch}"
    return f"<section><h2>{title}</h2>{legend}{plot}<p class='soft'>{note}</p></section>"


def _percentiles(results: Results, way: str, batch: int) -> str:
    points = _of(results, way, batch)
    series = [
        svg.Series(
            name,
            colour,
            [svg.Mark(n, getattr(p, name), _hint(p), p.stable) for n, p in enumerate(points)],
            size,
        )
        # The highest first and widest: where two are equal, the lower one lies on it, and both are seen.
        for name, colour, size in (("p99", 4, 2.0), ("p95", 0, 1.2), ("p50", 2, 1.2))
    ]
    plot = svg.lines(series, x="clients", y="ms", categories=[str(p.concurrency) for p in points], height=230)
    legend = svg.legend([(s.name, s.colour) for s in reversed(series)])
    return f"<section><h2>Latency by clients: {escape(way)}, batch {batch}</h2>{legend}{plot}</section>"


def _time(results: Results) -> str:
    colours = {name: n for n, name in enumerate(PARTS.values())} | {"local": 7}
    base = results.base(results.single()[0].batch)
    whole = [svg.Bar(p.way, list(p.parts.items()), f"{sum(p.parts.values()):.2f}") for p in results.single()]
    whole.append(
        svg.Bar(f"local {results.facts['baseline'].split()[0]}", [("local", base.p50)], f"{base.p50:.2f}")
    )
    rest = [[(name, value) for name, value in p.parts.items() if name != "compute"] for p in results.single()]
    around = [
        svg.Bar(f"{p.way}, around it", parts, f"{sum(v for _, v in parts):.2f}")
        for p, parts in zip(results.single(), rest, strict=True)
    ]
    legend = svg.legend(list(colours.items()))
    plots = svg.bars(whole, unit="ms, mean of a request (local: median)", colours=colours)
    plots += svg.bars(around, unit="ms, mean, all but the compute", colours=colours)
    return f"<section><h2>Where a request's time goes, 1 client</h2>{legend}{plots}</section>"


def _ratios(results: Results) -> str:
    rows = [svg.Bar(what, [("ratio", ratio)], f"{ratio:.3f}") for what, ratio in results.ratios()]
    plot = svg.bars(rows, unit="served / local", colours={"ratio": 0}, reference=1.0)
    in_turns = results.latency or results.comparisons
    turns = "Measured in turns with the baseline. " if in_turns else ""
    note = f"{turns}Latency: lower is better; images/s: higher is."
    return f"<section><h2>Served over local</h2>{plot}<p class='soft'>{note}</p></section>"


def _table(results: Results) -> str:
    head = ["", "images/s", "p50 ms", "p95 ms", "p99 ms", *PARTS.values()]
    rows = [
        [
            f"{local_name(f)}, batch {f.batch}",
            f"{f.images_per_s:,.1f}",
            f"{f.p50:.2f}",
            "",
            f"{f.p99:.2f}",
            *[""] * len(PARTS),
        ]
        for f in results.local
    ]
    for p in results.points:
        name = f"{p.way}, batch {p.batch}, {clients(p.concurrency)}{'' if p.stable else ' (unstable)'}"
        figures = [f"{p.images_per_s:,.1f}", f"{p.p50:.2f}", f"{p.p95:.2f}", f"{p.p99:.2f}"]
        rows.append([name, *figures, *(f"{v:.2f}" for v in p.parts.values())])
    body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    heading = "".join(f"<th>{escape(c)}</th>" for c in head)
    return f"<section><h2>Every point</h2><table><tr>{heading}</tr>{body}</table></section>"


def _details(results: Results) -> str:
    facts = results.facts
    lines = [f"{k}: {v}" for k, v in facts["versions"].items()] + [f"weights: {facts['weights']}"]
    lines += [f"engine: {facts['engine']}", f"system: {facts['machine']['system']}"]
    commands = [" ".join(f.command) for f in results.local[:1]] + [
        " ".join(p.command) for p in results.points
    ]
    listed = "".join(f"<li>{escape(x)}</li>" for x in lines)
    asked = "".join(f"<li><code>{escape(c)}</code></li>" for c in commands)
    return (
        f"<details><summary>Versions and command lines</summary><ul>{listed}</ul><ol>{asked}</ol></details>"
    )
