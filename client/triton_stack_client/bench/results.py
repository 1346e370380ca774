"""A run's results: one folder with results.json, results.csv and report.html; and what they come to."""

from __future__ import annotations

import csv
import io
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from triton_stack_client.bench.baseline import Figure
from triton_stack_client.bench.latency import Latency
from triton_stack_client.bench.perf import PARTS, Point
from triton_stack_client.bench.saturation import Saturation
from triton_stack_client.bench.turns import Comparison
from triton_stack_client.errors import ClientError

SCHEMA = 1
FILE = "results.json"


@dataclass(frozen=True)
class Results:
    """Everything measured.

    Attributes:
        facts: model, version, when, machine, versions, weights, spec, manifest, budget; "unfinished", in
            words, when the run ended before its last measurement.
        points: served, by perf_analyzer.
        local: the baseline for each batch size.
        latency: in turns with the baseline, one client, batch 1; empty where it cannot take turns.
        saturation: in turns at the best point; None on a GPU.
        comparisons: on a GPU, with trtexec in turns.
    """

    facts: dict[str, Any]
    points: list[Point]
    local: list[Figure]
    latency: list[Latency]
    saturation: Saturation | None
    comparisons: list[Comparison] = field(default_factory=list)

    def best(self) -> Point:
        """The most images/s, of the stable points where there are any."""
        return max(self._trusted(), key=lambda p: p.images_per_s)

    def within(self, budget_ms: float) -> Point | None:
        """The most images/s with a p99 of at most ``budget_ms``; None when no point keeps it."""
        return max(
            (p for p in self._trusted() if p.p99 <= budget_ms), key=lambda p: p.images_per_s, default=None
        )

    def single(self) -> list[Point]:
        """One client at the smallest batch, by way."""
        low = min(p.batch for p in self.points)
        return [p for p in self.points if p.concurrency == 1 and p.batch == low]

    def base(self, batch: int) -> Figure:
        """The baseline at a batch size."""
        same = [f for f in self.local if f.batch == batch]
        return max(same, key=lambda f: f.graph)

    def ratios(self) -> list[tuple[str, float]]:
        """Served over local, by what: p50 at one client (lower is better), then images/s (higher is)."""
        if self.comparisons:
            return [(_compared(c), c.ratio) for c in self.comparisons]
        if self.latency:
            rows = [(f"p50, 1 client, {r.way}", r.ratio) for r in self.latency[1:]]
        else:
            rows = [(f"p50, 1 client, {p.way}", p.p50 / self.base(p.batch).p50) for p in self.single()]
        if self.saturation:
            rows.append((f"images/s, {clients(self.saturation.concurrency)}", self.saturation.ratio))
        else:
            best = self.best()
            rows.append(
                (
                    f"images/s, {clients(best.concurrency)}",
                    best.images_per_s / self.base(best.batch).images_per_s,
                )
            )
        return rows

    def headline(self) -> list[tuple[str, str]]:
        """The few figures to remember, in words."""
        best, local = self.best(), max(self.local, key=lambda f: f.images_per_s)
        rows = [
            ("saturation", f"{best.images_per_s:,.1f} images/s ({where(best)})"),
            ("local", f"{local.images_per_s:,.1f} images/s (batch {local.batch}, {self.facts['baseline']})"),
        ]
        if self.comparisons:
            rows += [
                (local_name(f) + f", batch {f.batch}", f"{f.images_per_s:,.0f} images/s, p50 {f.p50:.3f} ms")
                for f in self.local
            ]
        for p in self.single():
            rows.append(
                (f"1 client, {p.way}", f"p50 {p.p50:.2f} ms, p99 {p.p99:.2f} ms (batch {p.batch}{_mark(p)})")
            )
        rows += [(f"served / local, {what}", f"{ratio:.3f}") for what, ratio in self.ratios()]
        budget = self.facts.get("latency_budget_ms")
        if budget:
            point = self.within(budget)
            words = (
                f"{point.images_per_s:,.1f} images/s, p99 {point.p99:.1f} ms ({where(point)})"
                if point
                else "no point"
            )
            rows.append((f"within {budget:g} ms", words))
        return rows

    def save(self, folder: Path) -> None:
        """Write results.json and results.csv, each whole or not at all; raises OSError."""
        write(folder / FILE, self.json())
        write(folder / "results.csv", self.csv())

    def json(self) -> str:
        """Everything, with the headline."""
        data = {
            "schema": SCHEMA,
            **asdict(self),
            "headline": dict(self.headline()),
            "ratios": dict(self.ratios()),
        }
        return json.dumps(data, indent=2) + "\n"

    def csv(self) -> str:
        """The points and the baseline, a row each."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        figures = ["images_per_s", "p50", "p90", "p95", "p99"]
        writer.writerow(["way", "batch", "concurrency", "stable", *figures, *PARTS.values()])
        for f in self.local:
            writer.writerow(
                [
                    local_name(f),
                    f.batch,
                    1,
                    "",
                    f"{f.images_per_s:.2f}",
                    f"{f.p50:.3f}",
                    "",
                    "",
                    f"{f.p99:.3f}",
                ]
            )
        for p in self.points:
            row = [f"{getattr(p, name):.3f}" for name in figures] + [f"{v:.3f}" for v in p.parts.values()]
            writer.writerow([p.way, p.batch, p.concurrency, str(p.stable).lower(), *row])
        return out.getvalue()

    def _trusted(self) -> list[Point]:
        return [p for p in self.points if p.stable] or self.points


def write(path: Path, text: str) -> None:
    """Put ``text`` in place of a file; a full disk leaves what was there. Raises OSError."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        fresh.write_text(text, "utf-8")
        fresh.replace(path)
    except OSError:
        with suppress(OSError):
            fresh.unlink()
        raise


def load(path: Path) -> Results:
    """Read a run's folder, or its results.json; raises ClientError."""
    file = path / FILE if path.is_dir() else path
    try:
        data = json.loads(file.read_text("utf-8"))
        if data["schema"] != SCHEMA:
            raise ClientError(f"{file}: has schema {data['schema']}, not {SCHEMA}")
        return Results(
            facts=data["facts"],
            points=[Point(**p) for p in data["points"]],
            local=[Figure(**f) for f in data["local"]],
            latency=[Latency(**r) for r in data["latency"]],
            saturation=Saturation(**data["saturation"]) if data["saturation"] else None,
            comparisons=[Comparison(**c) for c in data.get("comparisons", [])],
        )
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise ClientError(f"{file}: cannot be read as a run of bench: {type(e).__name__} {e}") from e


def compare(old: Results, new: Results) -> list[list[str]]:
    """Rows of a table, heading first: every point that both runs have, with new over old."""
    rows = [["point", "images/s", "", "p50 ms", "", "p99 ms", ""]]
    before = {(p.way, p.batch, p.concurrency): (p.images_per_s, p.p50, p.p99) for p in old.points}
    before.update({(local_name(f), f.batch, 1): (f.images_per_s, f.p50, f.p99) for f in old.local})
    after = [((local_name(f), f.batch, 1), (f.images_per_s, f.p50, f.p99), "") for f in new.local]
    after += [((p.way, p.batch, p.concurrency), (p.images_per_s, p.p50, p.p99), _mark(p)) for p in new.points]
    for key, values, mark in after:
        if key not in before:
            continue
        row = [f"{key[0]}, batch {key[1]}, {clients(key[2])}{mark}"]
        for was, now in zip(before[key], values, strict=True):
            row += [f"{was:,.1f} -> {now:,.1f}", f"x {now / was:.2f}" if was else "-"]
        rows.append(row)
    if len(rows) == 1:
        raise ClientError("the two runs have no point in common", remedy="run both with the same options")
    return rows


def where(p: Point) -> str:
    """A point's load in words."""
    return f"{p.way}, {clients(p.concurrency)}, batch {p.batch}{_mark(p)}"


def local_name(f: Figure) -> str:
    """What a row of the baseline is called."""
    return "local, CUDA graph" if f.graph else "local"


def clients(count: int) -> str:
    """A number of clients in words."""
    return "1 client" if count == 1 else f"{count} clients"


def _compared(c: Comparison) -> str:
    what = "p50" if c.figure == "p50" else "images/s"
    return f"{what}, {c.way}, {clients(c.concurrency)}, batch {c.batch} / local batch {c.local_batch}"


def _mark(p: Point) -> str:
    return "" if p.stable else ", unstable"
