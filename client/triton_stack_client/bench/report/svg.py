"""The few kinds of plot that the report needs, as SVG text: no library, no script, no network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TypeAlias

WIDTH, HEIGHT = 560, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 14, 44
_RADIUS = 4.0
_Box: TypeAlias = "tuple[float, float, float, float]"  # left, top, right, bottom
_TAG_HEIGHT, _TAG_WIDTH = 9.0, 6.0  # of a figure of a tag: report.css sets them in 10 px


@dataclass(frozen=True)
class Mark:
    """A point of a series: hollow when not ``solid``; ``hint`` shows under the pointer, ``tag`` beside it."""

    x: float
    y: float
    hint: str
    solid: bool = True
    tag: str = ""


@dataclass(frozen=True)
class Series:
    """A named line; ``colour`` is a class of the report's palette, 0 to 7; ``size`` multiplies its width."""

    name: str
    colour: int
    marks: list[Mark]
    size: float = 1.0


@dataclass(frozen=True)
class Bar:
    """A row of a bar chart: its parts, as (name, value), one after another."""

    name: str
    parts: list[tuple[str, float]]
    note: str = ""


def lines(
    series: list[Series], *, x: str, y: str, categories: list[str] | None = None, height: int = HEIGHT
) -> str:
    """Lines with marks; with ``categories`` the x of a mark is an index into them. Both axes from zero."""
    marks = [m for s in series for m in s.marks]
    top_x = (len(categories) - 0.5) if categories else _nice(max(m.x for m in marks))
    low_x = -0.5 if categories else 0.0
    top_y = _nice(max(m.y for m in marks))
    inner_w, inner_h = WIDTH - _LEFT - _RIGHT, height - _TOP - _BOTTOM

    def px(value: float) -> float:
        return _LEFT + (value - low_x) / (top_x - low_x) * inner_w

    def py(value: float) -> float:
        return _TOP + inner_h - value / top_y * inner_h

    out = [_open(height, f"{y} against {x}")]
    for tick in _ticks(top_y):
        out.append(
            f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{py(tick):.1f}" y2="{py(tick):.1f}"/>'
        )
        out.append(f'<text class="tick end" x="{_LEFT - 6}" y="{py(tick) + 4:.1f}">{_number(tick)}</text>')
    places = list(enumerate(categories)) if categories else [(t, _number(t)) for t in _ticks(top_x)]
    for place, label in places:
        out.append(
            f'<text class="tick mid" x="{px(place):.1f}" y="{height - _BOTTOM + 17}">{escape(label)}</text>'
        )
    out.append(f'<text class="axis mid" x="{_LEFT + inner_w / 2:.0f}" y="{height - 8}">{escape(x)}</text>')
    middle = _TOP + inner_h / 2
    out.append(
        f'<text class="axis mid" transform="translate(14 {middle:.0f}) rotate(-90)">{escape(y)}</text>'
    )
    tags = _Tags([[(px(m.x), py(m.y)) for m in s.marks] for s in series], height)
    for s in series:
        path = " ".join(f"{px(m.x):.1f},{py(m.y):.1f}" for m in s.marks)
        width = f'stroke-width="{2 * s.size:g}"'
        out.append(f'<polyline class="line c{s.colour}" {width} points="{path}"/>')
        radius = _RADIUS * s.size
        for m in s.marks:
            kind = "solid" if m.solid else "hollow"
            out.append(
                f'<circle class="{kind} c{s.colour}" cx="{px(m.x):.1f}" cy="{py(m.y):.1f}" r="{radius:g}">'
                f"<title>{escape(m.hint)}</title></circle>"
            )
            if m.tag and (spot := tags.place(px(m.x), py(m.y), m.tag)):
                out.append(
                    f'<text class="tag mid" x="{spot[0]:.1f}" y="{spot[1]:.1f}">{escape(m.tag)}</text>'
                )
    return "".join([*out, "</svg>"])


class _Tags:
    """Finds a place for each tag beside its mark: on no other tag, on no mark and, if it can be, on no line.

    Args:
        lines: the marks of each line, in pixels of the plot.
    """

    def __init__(self, lines: list[list[tuple[float, float]]], height: int) -> None:
        self._taken = [_around(x, y, _RADIUS) for line in lines for x, y in line]
        self._drawn = [_around(x, y, 1) for line in lines for x, y in _along(line)]
        self._frame = (_LEFT, 0, WIDTH, height - _BOTTOM)

    def place(self, x: float, y: float, tag: str) -> tuple[float, float] | None:
        """The middle and the base line of its text; None where there is no room: the mark's hint has it."""
        half = _TAG_WIDTH * len(tag) / 2
        side, corner = half + _RADIUS + 3, half + 3
        up, down, level = -8.0, 8 + _TAG_HEIGHT, _TAG_HEIGHT / 2
        tries = [(0, up), (0, down), (side, level), (-side, level), (corner, up), (-corner, up)]
        tries += [(corner, down), (-corner, down), (0, 2 * up), (0, 2 * down - _TAG_HEIGHT)]
        for taken in (self._taken + self._drawn, self._taken):
            for dx, dy in tries:
                box = (x + dx - half, y + dy - _TAG_HEIGHT, x + dx + half, y + dy)
                if self._free(box, taken):
                    self._taken.append(box)
                    return x + dx, y + dy
        return None

    def _free(self, box: _Box, taken: list[_Box]) -> bool:
        left, top, right, bottom = self._frame
        inside = left <= box[0] and top <= box[1] and box[2] <= right and box[3] <= bottom
        return inside and not any(
            box[0] < t[2] and t[0] < box[2] and box[1] < t[3] and t[1] < box[3] for t in taken
        )


def _around(x: float, y: float, radius: float) -> _Box:
    return x - radius, y - radius, x + radius, y + radius


def _along(line: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points of a line, three pixels apart."""
    found = []
    for (x1, y1), (x2, y2) in zip(line, line[1:], strict=False):
        steps = int(math.hypot(x2 - x1, y2 - y1) / 3) + 1
        found += [(x1 + (x2 - x1) * n / steps, y1 + (y2 - y1) * n / steps) for n in range(steps)]
    return found


def bars(rows: list[Bar], *, unit: str, colours: dict[str, int], reference: float | None = None) -> str:
    """Horizontal stacked bars from zero, one a row, with an upright line at ``reference``."""
    left, step = 170, 34
    height = _TOP + step * len(rows) + 34
    top = _nice(max([sum(v for _, v in r.parts) for r in rows] + ([reference * 1.05] if reference else [])))
    scale = (WIDTH - left - 76) / top
    out = [_open(height, f"bars in {unit}")]
    for tick in _ticks(top):
        x = left + tick * scale
        out.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{height - 32}"/>')
        out.append(f'<text class="tick mid" x="{x:.1f}" y="{height - 18}">{_number(tick)}</text>')
    for number, row in enumerate(rows):
        y, x = _TOP + number * step + 5, float(left)
        out.append(f'<text class="tick end" x="{left - 8}" y="{y + 15}">{escape(row.name)}</text>')
        for name, value in row.parts:
            out.append(
                f'<rect class="bar c{colours[name]}" x="{x:.1f}" y="{y}" '
                f'width="{max(value * scale, 0.6):.1f}" height="22">'
                f"<title>{escape(name)}: {value:.3f} {escape(unit)}</title></rect>"
            )
            x += value * scale
        out.append(f'<text class="tick" x="{x + 6:.1f}" y="{y + 15}">{escape(row.note)}</text>')
    if reference is not None:
        x = left + reference * scale
        out.append(f'<line class="reference" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 6}" y2="{height - 32}"/>')
    middle = left + (WIDTH - left - 76) / 2
    out.append(f'<text class="axis mid" x="{middle:.0f}" y="{height - 4}">{escape(unit)}</text>')
    return "".join([*out, "</svg>"])


def legend(entries: list[tuple[str, int]]) -> str:
    """Names beside their colours."""
    items = "".join(f'<span><i class="c{colour}"></i>{escape(name)}</span>' for name, colour in entries)
    return f'<p class="legend">{items}</p>'


def _open(height: int, label: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}" '
        'xmlns="http://www.w3.org/2000/svg">'
    )


def _nice(value: float) -> float:
    """The next round number: 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(n * power for n in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if n * power >= value * 1.0001)


def _ticks(top: float) -> list[float]:
    power = 10.0 ** math.floor(math.log10(top))
    step = next(power * s for s in (0.1, 0.2, 0.25, 0.5, 1, 2) if top / (power * s) <= 6.001)
    return [step * n for n in range(int(top / step + 1e-9) + 1)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
