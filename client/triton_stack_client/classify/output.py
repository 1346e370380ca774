"""`classify`'s answers as they come: text for people, JSON and CSV for programs."""

from __future__ import annotations

import csv
import json
import sys
import time
from typing import Any, Protocol

from triton_stack_client.classify.answer import Classification
from triton_stack_client.classify.task import Task


class Writer(Protocol):
    """Writes every answer, once, in order, between ``begin`` and ``end``."""

    def begin(self, task: Task) -> None:
        """Before the first."""

    def add(self, answer: Classification) -> None:
        """One picture."""

    def end(self) -> None:
        """After the last."""


class Text:
    """A line a picture with --top 1, a block otherwise; failures go to standard error."""

    def begin(self, task: Task) -> None:
        """Nothing comes before the first picture."""

    def add(self, answer: Classification) -> None:
        """The picture's name, scores and labels."""
        if answer.error:
            return
        lines = [f"{label.score:8.4f}  {label.name}" for label in answer.labels]
        if len(lines) == 1:
            print(f"{answer.picture}: {lines[0].strip()}")
        else:
            print("\n".join([answer.picture, *lines]))

    def end(self) -> None:
        """Nothing is left to print."""


class Json:
    """One object; the results are written one by one, so that 100,000 pictures need no memory."""

    def begin(self, task: Task) -> None:
        """The model, and the head of the list."""
        self._comma = ""
        head = {
            "model": task.contract.model,
            "version": task.contract.version,
            "weights": task.weights,
            "untrained": task.untrained,
        }
        print(json.dumps(head)[:-1] + ', "results": [', end="")

    def add(self, answer: Classification) -> None:
        """An element: file, and either top or error."""
        row: dict[str, Any] = {"file": answer.picture}
        if answer.error:
            row["error"] = answer.error
        else:
            row["top"] = [
                {"class": label.number, "label": label.name, "score": label.score} for label in answer.labels
            ]
        print(f"{self._comma}\n{json.dumps(row)}", end="")
        self._comma = ","

    def end(self) -> None:
        """Close the list."""
        print("\n]}")


class Csv:
    """A row for each picture and rank; a failed picture has one row, with its error."""

    def begin(self, task: Task) -> None:
        """The heading."""
        self._task = task
        self._writer = csv.writer(sys.stdout, lineterminator="\n")
        self._writer.writerow(["file", "rank", "class", "label", "score", "error", "untrained"])

    def add(self, answer: Classification) -> None:
        """Its rows."""
        name, untrained = answer.picture, str(self._task.untrained).lower()
        if answer.error:
            self._writer.writerow([name, "", "", "", "", answer.error, untrained])
        for rank, label in enumerate(answer.labels, 1):
            self._writer.writerow([name, rank, label.number, label.name, f"{label.score:.6g}", "", untrained])

    def end(self) -> None:
        """Nothing is left to write."""


class Progress:
    """A bar on standard error, on a terminal only; failures are named above it."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = self._failed = 0
        self._began = time.monotonic()
        self._shown = 0.0
        self._bar = sys.stderr.isatty() and total > 1

    def add(self, answer: Classification) -> None:
        """Count it, and name it when it failed."""
        self._done += 1
        if answer.error:
            self._failed += 1
            self._clear()
            print(f"error: {answer.picture}: {answer.error}", file=sys.stderr)
        if self._bar and (time.monotonic() - self._shown > 0.1 or self._done == self._total):
            self._shown = time.monotonic()
            filled = "#" * (30 * self._done // self._total)
            print(f"\r[{filled:30}] {self._done}/{self._total} {self._rate()}", end="", file=sys.stderr)

    def end(self) -> int:
        """Sum up; the number of failures."""
        self._clear()
        if self._total > 1:
            failed = f", {self._failed} failed" if self._failed else ""
            print(f"{self._done} pictures{failed}, {self._rate()}", file=sys.stderr)
        return self._failed

    def _rate(self) -> str:
        seconds = time.monotonic() - self._began
        return f"{seconds:.1f} s, {self._done / max(seconds, 1e-9):.1f} pictures/s"

    def _clear(self) -> None:
        if self._bar:
            print("\r\033[K", end="", file=sys.stderr)
