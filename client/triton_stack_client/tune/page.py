"""report.html of a tuning run: one file that needs nothing else, to be read beside result.json."""

from __future__ import annotations

from html import escape
from typing import Any

from triton_stack_client.bench.report import svg
from triton_stack_client.bench.report.html import STYLE

Row = dict[str, Any]
_COLOURS = {"present": 7, "chosen": 2, "measured": 0}


def render(result: Row) -> str:
    """The whole page of a ``result.json``."""
    rows = [r for r in result["candidates"] if r["loads"]]
    loads = sorted({int(n) for r in rows for n in r["loads"]})
    title = f"{result['model']}: tuned for {result['aim']}"
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width,initial-scale=1'>"
        f"<title>tune: {escape(result['model'])}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        f"<p class='soft'>{escape(_where(result))}</p>",
        f"<p><b>{escape(result['conclusion'])}</b></p>",
        _head(result),
        "<div class='grid2'>",
        *(_frontier(rows, n, result) for n in loads),
        _lines(rows, result),
        "</div>",
        _patch(result),
        _engines(result),
        _table(result["candidates"], loads),
        "</body></html>",
    ]
    return "".join(parts)


def _where(result: Row) -> str:
    machine = result["machine"]
    gpu = f", {machine['gpu']}" if machine.get("gpu") else ""
    return (
        f"{result['when']} on {machine['machine']}{gpu}; {machine['engine']}. Client on the same host, gRPC, "
        "single images; the scratch server stood beside the live one."
    )


def _head(result: Row) -> str:
    confirmed = result["confirmation"]
    facts = [
        ("budget", f"{result['budget_seconds']:.0f} s, {result['seconds']:.0f} s used"),
        ("noise of one look", f"{result['noise']:.1%}"),
        ("candidates measured", str(sum(bool(r["loads"]) for r in result["candidates"]) - 1)),
    ]
    if confirmed:
        ratio = f"{confirmed['ratio']:.3f} ± {confirmed['noise']:.3f} ({confirmed['name']})"
        facts.append(("the best against the present one", ratio))
    cells = "".join(f"<div><span>{escape(k)}</span><b>{escape(v)}</b></div>" for k, v in facts)
    return f"<div class='head'>{cells}</div>"


def frontier(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those points (images/s, ms) that no other beats in both, by images/s ascending."""
    best: list[tuple[float, float]] = []
    for rate, late in sorted(points, key=lambda p: (-p[0], p[1])):
        if not best or late < best[-1][1]:
            best.append((rate, late))
    return best[::-1]


def _frontier(rows: list[Row], clients: int, result: Row) -> str:
    """Every candidate a point at this load; the frontier is a line, the chosen one is marked."""
    # Where there is no room for every name, the chosen and the present one have theirs.
    first = sorted(rows, key=lambda r: {"chosen": 0, "present": 1}.get(r["state"], 2))
    there = [(r, r["loads"][str(clients)]) for r in first if str(clients) in r["loads"]]
    points = [(f["images_per_s"], f["p99"]) for _, f in there]
    series = [
        svg.Series("frontier", 4, [svg.Mark(x, y, "frontier", False) for x, y in frontier(points)], 0.6)
    ]
    for row, figures in there:
        mark = svg.Mark(
            figures["images_per_s"],
            figures["p99"],
            f"{row['name']} ({row['what']}): {figures['images_per_s']:.1f} images/s, "
            f"p50 {figures['p50']:.2f} ms, p99 {figures['p99']:.2f} ms",
            row["state"] != "measured",
            row["state"] if row["state"] in ("chosen", "present") else str(row["name"]),
        )
        size = 1.6 if row["state"] == "chosen" else 1.0
        series.append(svg.Series(row["name"], _COLOURS.get(row["state"], 0), [mark], size))
    plot = svg.lines(series, x="images/s", y="p99 of a request, ms")
    legend = svg.legend([("chosen", 2), ("present", 7), ("candidates", 0), ("frontier", 4)])
    heading = f"Throughput against latency, {clients} client{'s' if clients > 1 else ''}"
    budget = result["latency_budget_ms"]
    note = f"<p class='soft'>The latency budget is {budget:g} ms.</p>" if budget else ""
    return f"<section class='frontier'><h2>{heading}</h2>{legend}{plot}{note}</section>"


def _lines(rows: list[Row], result: Row) -> str:
    """The present and the chosen one over all loads, where both were measured at several."""
    series = []
    for row in rows:
        if row["state"] in ("present", "chosen") and len(row["loads"]) > 1:
            marks = [
                svg.Mark(f["images_per_s"], f["p99"], f"{row['state']}, {n} clients", True, n)
                for n, f in sorted(row["loads"].items(), key=lambda item: int(item[0]))
            ]
            series.append(svg.Series(row["state"], _COLOURS[row["state"]], marks))
    if not series or len(result["clients"]) < 2:
        return ""
    plot = svg.lines(series, x="images/s", y="p99 of a request, ms")
    legend = svg.legend([(s.name, s.colour) for s in series])
    return f"<section><h2>Over all loads</h2>{legend}{plot}<p class='soft'>Numbers are clients.</p></section>"


def _patch(result: Row) -> str:
    if not result["patch"] and not result["settings"]:
        return "<section><h2>Patch</h2><p>None: the present configuration stays.</p></section>"
    spec = result["patch_text"]
    lines = "".join(f"{escape(k)}={escape(v)}\n" for k, v in result["settings"].items())
    settings = f"<p>for .env</p><pre><code>{lines}</code></pre>" if lines else ""
    patch = (
        f"<p>for {escape(result['spec'])}</p><pre><code>{escape(spec)}</code></pre>"
        if result["patch"]
        else ""
    )
    return f"<section><h2>Patch</h2>{patch}{settings}</section>"


def _engines(result: Row) -> str:
    if not result["engines"]:
        return ""
    head = ["engine", "batch 1, ms", "largest batch", "images/s"]
    rows = [
        [e["what"], f"{e['p50_ms']:.3f}", str(e["batch"]), f"{e['images_per_s']:,.0f}"]
        for e in result["engines"]
    ]
    return f"<section><h2>Engines by themselves (trtexec)</h2>{_html_table(head, rows)}</section>"


def _table(rows: list[Row], loads: list[int]) -> str:
    head = ["", "state", "times", "looks"]
    head += [f"{n}: {what}" for n in loads for what in ("images/s", "p50 ms", "p99 ms")]
    body = []
    for row in sorted(rows, key=lambda r: -(r["ratio"] or (1.0 if r["loads"] else 0.0))):
        cells = [f"{row['name']}: {row['what']}", row["reason"] or row["state"]]
        cells += [f"{row['ratio']:.3f}" if row["ratio"] else "", str(row["looks"] or "")]
        for n in loads:
            figures = row["loads"].get(str(n))
            cells += (
                [f"{figures['images_per_s']:,.0f}", f"{figures['p50']:.2f}", f"{figures['p99']:.2f}"]
                if figures
                else [""] * 3
            )
        body.append(cells)
    return f"<section><h2>Every candidate</h2>{_html_table(head, body)}</section>"


def _html_table(head: list[str], rows: list[list[str]]) -> str:
    heading = "".join(f"<th>{escape(c)}</th>" for c in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f"<table><tr>{heading}</tr>{body}</table>"
