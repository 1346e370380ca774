"""Counters of the shadow service, as Prometheus reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

_PREFIX = "triton_stack_shadow"
_HELP = {
    "compared": "Copies that both servers answered, by model and the canary's release.",
    "differing": "Copies whose answers differ by more than the manifest allows.",
    "dropped": "Copies that were not compared, by model and reason.",
}


class Metrics:
    """What has happened so far; used by one thread.

    Attributes:
        waiting: copies in memory now.
    """

    def __init__(self) -> None:
        self.waiting = 0
        self._compared: Counter[tuple[str, str]] = Counter()
        self._differing: Counter[tuple[str, str]] = Counter()
        self._dropped: Counter[tuple[str, str]] = Counter()

    def compared(self, model: str, version: str, *, differs: bool) -> None:
        """Count a comparison with the release ``version`` of the canary."""
        self._compared[model, version] += 1
        self._differing[model, version] += differs

    def dropped(self, model: str, reason: str, count: int = 1) -> None:
        """Count copies that nothing was compared with."""
        self._dropped[model, reason] += count

    def text(self) -> str:
        """All of it in Prometheus's text format."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        for name, label, counts in (
            ("compared", "release", self._compared),
            ("differing", "release", self._differing),
            ("dropped", "reason", self._dropped),
        ):
            yield f"# HELP {_PREFIX}_{name}_total {_HELP[name]}"
            yield f"# TYPE {_PREFIX}_{name}_total counter"
            for (model, value), count in sorted(counts.items()):
                yield f'{_PREFIX}_{name}_total{{model="{model}",{label}="{value}"}} {count}'
        yield f"# HELP {_PREFIX}_waiting Copies in memory."
        yield f"# TYPE {_PREFIX}_waiting gauge"
        yield f"{_PREFIX}_waiting {self.waiting}"
