"""One picture's way: decoded by a thread, sent to Triton, its scores named."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from triton_stack_client.classify import pictures
from triton_stack_client.classify.answer import Label
from triton_stack_client.classify.task import Task
from triton_stack_client.errors import ContractError, PictureError, ServerError
from triton_stack_client.pictures import screening
from triton_stack_client.pictures.errors import RefusalError
from triton_stack_client.pictures.live import Live
from triton_stack_client.pictures.metrics import Metrics
from triton_stack_client.transport.address import Address
from triton_stack_client.transport.protocol import AsyncConnection

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5  # seconds between two tries
_GONE_SECS = 3.0  # a model that was there may come back within
_STALE_TRIES = 8  # a server that refuses the very version it names is not changing, but wrong


@dataclass(frozen=True)
class Answer:
    """A picture's labels, and the task of the version that gave the scores."""

    task: Task
    labels: tuple[Label, ...]


class Workshop:
    """Decodes and classifies pictures; used by one event loop.

    Args:
        threads: pictures decoded at once.
        max_pixels: of one picture.
        timeout: seconds until the server has answered, sending again included.
    """

    def __init__(
        self,
        where: Address,
        models_dir: Path | None,
        metrics: Metrics,
        *,
        threads: int,
        max_pixels: int,
        timeout: float,
    ) -> None:
        self._metrics = metrics
        self._connection = AsyncConnection(where.protocol, where.host_port, timeout)
        self.live = Live(self._connection, where, models_dir, timeout)
        self._pool = ThreadPoolExecutor(threads, "decode")
        self._max_pixels = max_pixels
        self._timeout = timeout
        self._decoding = 0

    @property
    def decoding(self) -> int:
        """Pictures that threads hold, those included that nobody waits for any more."""
        return self._decoding

    async def classify(self, model: str, content: bytes, top: int) -> Answer:
        """The labels of one picture, best first.

        Raises:
            RefusalError: the picture cannot be taken, or there is no such model.
            ServerError: no answer in time.
        """
        deadline = time.monotonic() + self._timeout
        screening.screen(content, self._max_pixels)
        task = await self._task(model, deadline)
        pixels = await self._decode(task, content)
        began, pause, stale = time.monotonic(), _FIRST_PAUSE, 0
        while True:
            try:
                scores = await self._scores(task, pixels, deadline)
                break
            except ServerError as e:
                if time.monotonic() + pause > deadline:
                    raise
                now = await self._task(model, deadline, not_version=task.contract.version)
                if now.contract.version == task.contract.version:
                    stale += e.refused and not e.retriable
                    if stale > _STALE_TRIES or not (e.refused or e.retriable):
                        raise
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _LONGEST_PAUSE)
                elif _same_pixels(task, now):
                    task = now
                else:
                    task, pixels = now, await self._decode(now, content)
        self._metrics.time("infer", time.monotonic() - began)
        return Answer(task, task.best(scores, top))

    async def _task(self, model: str, deadline: float, *, not_version: int | None = None) -> Task:
        pause, gone = _FIRST_PAUSE, time.monotonic() + _GONE_SECS
        while True:
            try:
                return await self.live.task(model, not_version=not_version)
            except ContractError as e:
                raise RefusalError(400, e.found, remedy=e.remedy) from e
            except ServerError as e:
                known = self.live.knows(model) and time.monotonic() < gone
                if e.refused and not e.retriable and not known:
                    raise RefusalError(404, f'the server has no model "{model}" that is ready') from e
                if not (e.retriable or e.refused) or time.monotonic() + pause > deadline:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _decode(self, task: Task, content: bytes) -> np.ndarray:
        self._decoding += 1
        asked = time.monotonic()
        work = asyncio.get_running_loop().run_in_executor(self._pool, self._pixels, task, content, asked)
        work.add_done_callback(self._decoded)
        # A thread cannot be stopped: when the caller gives up, the picture counts until it is done.
        pixels, queued, decoded = await asyncio.shield(work)
        self._metrics.time("queue", queued)
        self._metrics.time("decode", decoded)
        return pixels

    def _decoded(self, work: asyncio.Future[tuple[np.ndarray, float, float]]) -> None:
        self._decoding -= 1
        if not work.cancelled():
            work.exception()  # it is known, whether or not anybody waits

    def _pixels(self, task: Task, content: bytes, asked: float) -> tuple[np.ndarray, float, float]:
        began = time.monotonic()
        height, width, channels = task.pixels.usual
        try:
            pixels = pictures.load(content, height, width, channels, max_pixels=self._max_pixels)
        except PictureError as e:
            status = 413 if "million pixels" in e.found else 400
            raise RefusalError(
                status, f"the picture {e.found}", allowed=f"a whole {screening.FORMATS} file"
            ) from e
        return task.prepare(pixels), began - asked, time.monotonic() - began

    async def _scores(self, task: Task, pixels: np.ndarray, deadline: float) -> np.ndarray:
        """The scores [classes] of pixels [height, width, channels]; Triton makes batches of what comes."""
        batch = np.broadcast_to(pixels, (task.min_batch, *pixels.shape))
        answer = await self._connection.infer(
            task.contract.model,
            task.contract.version,
            {task.pixels.name: np.ascontiguousarray(batch)},
            [task.scores.name],
            timeout=max(deadline - time.monotonic(), 0.001),
        )
        scores: np.ndarray = answer[task.scores.name][0]
        return scores

    async def close(self) -> None:
        """End the threads and close the connection."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        await self._connection.close()


def _same_pixels(one: Task, other: Task) -> bool:
    return (one.pixels, one.pixels.usual, one.preprocessing) == (
        other.pixels, other.pixels.usual, other.preprocessing,
    )  # fmt: skip
