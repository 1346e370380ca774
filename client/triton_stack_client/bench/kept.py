"""What a run has measured so far, on disk after each point: minutes of measuring end in no lost figure."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from triton_stack_client.bench import results
from triton_stack_client.bench.report import html
from triton_stack_client.bench.results import Results


class Kept:
    """Keeps a run's results in ``folder``; where that cannot be written, prints them at the end.

    Args:
        as_json: how to print them: as results.json would have them, or as results.csv.

    Attributes:
        problem: why the results, as they are now, are not in the folder; empty when they are.
    """

    def __init__(self, folder: Path, *, as_json: bool) -> None:
        self._folder = folder
        self._as_json = as_json
        self._latest: Results | None = None
        self.problem = ""

    def take(self, found: Results) -> None:
        """Keep these instead of the ones before. A full disk is no error before the end: it may get room."""
        self._latest = found
        try:
            found.save(self._folder)
            results.write(self._folder / "report.html", html.render(found))
        except OSError as e:
            if not self.problem:
                print(f"note: {self._folder} cannot be written now: {e.strerror}", file=sys.stderr)
            self.problem = e.strerror or str(e)
        else:
            self.problem = ""

    @contextmanager
    def whatever_happens(self) -> Iterator[None]:
        """At the end, and when the run fails or is interrupted, say where what was measured is."""
        whole = False
        try:
            yield
            whole = True
        finally:
            if self._latest is None:
                self._remove_empty()
            elif self.problem:
                text = self._latest.json() if self._as_json else self._latest.csv()
                print(text, end="", flush=True)
                print(
                    f"error: {self._folder} cannot be written: {self.problem}; its figures are printed\n"
                    "  next: free some space, or name another folder: --out DIR",
                    file=sys.stderr,
                )
            elif not whole:
                unfinished = self._latest.facts.get("unfinished", "")
                print(f"note: {unfinished}; they are in {self._folder}", file=sys.stderr)

    def _remove_empty(self) -> None:
        with suppress(OSError):  # somebody put something there
            self._folder.rmdir()
