"""Prometheus' text format, version 0.0.4."""

from __future__ import annotations

from typing import Iterable, List, Tuple

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Family:
    """One metric with all its label sets.

    Args:
        name: with the unit at its end, as Prometheus wants it.
        kind: "counter", "gauge" or "histogram".
        words: what it counts, one line.
    """

    def __init__(self, name: str, kind: str, words: str) -> None:
        self.name = name
        self.kind = kind
        self.words = words
        self._samples: List[Tuple[str, float]] = []

    def add(self, value: float, suffix: str = "", **labels: str) -> None:
        """One sample; ``suffix`` is a histogram's ("_bucket", "_sum", "_count")."""
        pairs = ",".join(f'{key}="{text.translate(_ESCAPES)}"' for key, text in labels.items())
        self._samples.append((f"{self.name}{suffix}" + (f"{{{pairs}}}" if pairs else ""), value))

    def lines(self) -> List[str]:
        """As Prometheus reads it; none where there is no sample."""
        if not self._samples:
            return []
        head = [f"# HELP {self.name} {self.words}", f"# TYPE {self.name} {self.kind}"]
        return head + [f"{name} {_number(value)}" for name, value in self._samples]


def page(families: Iterable[Family]) -> bytes:
    """The body of an answer to a scrape."""
    return "".join(f"{line}\n" for family in families for line in family.lines()).encode()


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
