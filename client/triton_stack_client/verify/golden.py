"""A release's golden samples sent to a server, and its answers held to what was verified."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from models_volume import comparator
from triton_stack_client.errors import ServerError
from triton_stack_client.transport.protocol import Arrays, Connection
from triton_stack_client.verify.release import Release

_SINGLES = 8  # golden samples sent one by one, over each protocol


@dataclass
class Tally:
    """What we have asked of one model version so far."""

    requests: int = 0
    inferences: int = 0


class Golden:
    """A release's golden samples, as requests."""

    def __init__(self, release: Release, point: str = "opt") -> None:
        self._release = release
        self._inputs, self._outputs = release.golden(point)
        self._verified = release.verified(point)
        self._count = len(next(iter(self._inputs.values())))

    def batches(self) -> list[int]:
        """Batch sizes to send: all samples together, and the largest the contract allows."""
        low, high = self._release.min_batch, self._release.max_batch
        return sorted({max(low, min(self._count, high)), high} - {1} or {high})

    def singly(self, connection: Connection, tally: Tally) -> str:
        """The smallest batches, one after another."""
        worst = 0.0
        for start in range(min(_SINGLES, self._count)):
            worst = max(worst, self._ask(connection, self._release.min_batch, start, tally))
        return f"{min(_SINGLES, self._count)} requests, max abs {worst:.2g}"

    def batched(self, connection: Connection, size: int, tally: Tally) -> str:
        """One request of ``size`` samples."""
        return f"max abs {self._ask(connection, size, 0, tally):.2g}"

    def refusals(self) -> Iterator[tuple[str, Callable[[Connection], object]]]:
        """Requests that the server must refuse, with what is wrong about each."""
        release = self._release
        good = self._rows(self._inputs, release.min_batch, 0)
        names = [t.name for t in release.outputs]
        name, array = next(iter(good.items()))
        over = self._rows(self._inputs, release.max_batch + 1, 0)
        other = np.float32 if array.dtype != np.float32 else np.int32
        free = any(t.name == name and -1 in t.dims for t in release.inputs)
        taller = array[:, None] if free else np.concatenate([array, array[:, :1]], axis=1)

        def ask(inputs: Arrays, model: str = release.model) -> Callable[[Connection], object]:
            return lambda connection: connection.infer(model, release.version, inputs, names)

        yield f"batch {release.max_batch + 1}", ask(over)
        yield f"{np.dtype(other).name} input", ask({**good, name: array.astype(other)})
        yield f"shape {list(taller.shape)}", ask({**good, name: taller})
        yield "an unknown input", ask({**{k: v for k, v in good.items() if k != name}, f"{name}_x": array})
        yield "an unknown model", ask(good, f"{release.model}_x")

    def _ask(self, connection: Connection, size: int, start: int, tally: Tally) -> float:
        release = self._release
        answers = connection.infer(
            release.model,
            release.version,
            self._rows(self._inputs, size, start),
            [t.name for t in release.outputs],
        )
        tally.requests += 1
        tally.inferences += size
        return max(self._compare(t.name, answers[t.name], size, start) for t in release.outputs)

    def _compare(self, name: str, found: np.ndarray, size: int, start: int) -> float:
        """How far an output is from the golden one; raises ServerError when it is not as released."""
        golden = self._rows(self._outputs, size, start)[name]
        verified = self._rows(self._verified, size, start).get(name)
        problem = comparator.wrong(name, found, golden, verified, self._release.allowed[name])
        if problem:
            raise ServerError(problem)
        return comparator.compare(golden, found).max_abs

    def _rows(self, arrays: Arrays, size: int, start: int) -> Arrays:
        rows = (np.arange(size) + start) % self._count
        return {name: np.ascontiguousarray(a[rows]) for name, a in arrays.items()}
