"""Classifying many pictures: decoded by threads, sent in batches, several in flight, answered in order.

At any time only a window of batches exists, however many pictures there are.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np

from triton_stack_client.classify import pictures
from triton_stack_client.classify.answer import Classification
from triton_stack_client.classify.sources import Source
from triton_stack_client.classify.task import Task
from triton_stack_client.errors import ContractError, PictureError, ServerError
from triton_stack_client.model import AsyncModel

_AHEAD = 2  # batches that are decoded while others are in flight


class Pipeline:
    """Classifies pictures with one model, many at a time.

    Args:
        top: classes to name for each picture.
        batch: pictures in a request, at most contract.max_batch.
        concurrency: requests in flight.

    Raises:
        ContractError: the model takes no such batch.
    """

    def __init__(self, model: AsyncModel, task: Task, *, top: int, batch: int, concurrency: int) -> None:
        low, high = task.min_batch, task.contract.max_batch
        if not low <= batch <= high:
            raise ContractError(f"batch {batch}: {task.contract.model} takes {low} to {high}")
        self._model = model
        self._task = task
        self._top = min(top, task.scores.dims[0])
        self._batch = batch
        self._window = concurrency + _AHEAD
        self._in_flight = asyncio.Semaphore(concurrency)
        self._gone = ""

    async def run(self, sources: Iterable[Source]) -> AsyncGenerator[Classification, None]:
        """Every source's answer, in the order of the sources. Raises nothing for a single one's failure."""
        rest = iter(sources)
        pending: deque[asyncio.Task[list[Classification]]] = deque()
        # Decoding gets every core: Pillow lets go of Python's lock while it works.
        with ThreadPoolExecutor(len(os.sched_getaffinity(0)), "decode") as pool:
            try:
                while True:
                    while len(pending) < self._window and (batch := self._take(rest)):
                        pending.append(asyncio.create_task(self._classify(batch, pool)))
                    if not pending:
                        return
                    for answer in await pending.popleft():
                        yield answer
            finally:
                for left in pending:
                    left.cancel()
                await asyncio.gather(*pending, return_exceptions=True)

    def _take(self, rest: Iterator[Source]) -> list[Source]:
        return list(islice(rest, self._batch))

    async def _classify(self, sources: list[Source], pool: ThreadPoolExecutor) -> list[Classification]:
        loop = asyncio.get_running_loop()
        decoded = await asyncio.gather(*(loop.run_in_executor(pool, self._decode, s) for s in sources))
        arrays = [d for d in decoded if isinstance(d, np.ndarray)]
        try:
            scores = iter(await self._scores(np.stack(arrays)) if arrays else ())
        except ServerError as e:
            if not e.refused:
                self._gone = e.found
            return [
                Classification(s.name, failure=e if isinstance(d, np.ndarray) else d)
                for s, d in zip(sources, decoded, strict=True)
            ]
        return [
            Classification(s.name, self._task.best(next(scores), self._top))
            if isinstance(d, np.ndarray)
            else Classification(s.name, failure=d)
            for s, d in zip(sources, decoded, strict=True)
        ]

    def _decode(self, source: Source) -> np.ndarray | PictureError:
        """A picture as the model takes it, or why not."""
        content = source.content
        try:
            if content is None:
                content = sys.stdin.buffer.read(pictures.MAX_BYTES)
            height, width, channels = self._task.pixels.usual
            return self._task.prepare(pictures.load(content, height, width, channels))
        except PictureError as e:
            return e

    async def _scores(self, batch: np.ndarray) -> np.ndarray:
        async with self._in_flight:
            if self._gone:  # the whole timeout has been spent on it already; do not spend it again
                raise ServerError(f"not sent: {self._gone}")
            count = len(batch)
            if count < self._task.min_batch:
                batch = np.resize(batch, (self._task.min_batch, *batch.shape[1:]))
            answers = await self._model.infer({self._task.pixels.name: batch})
            return answers[self._task.scores.name][:count]
