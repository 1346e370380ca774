"""Pictures to labels, as objects: ``Classifier``, and ``AsyncClassifier`` for asyncio.

from triton_stack_client import Classifier

with Classifier("resnet50", url="http://127.0.0.1:8000") as classifier:
    for label in classifier.classify("dog.jpg", top=3):
        print(f"{label.score:.3f}  {label.name}")
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from triton_stack_client.classify import sources, task
from triton_stack_client.classify.answer import Classification, Label
from triton_stack_client.classify.sources import Picture
from triton_stack_client.classify.task import Task
from triton_stack_client.model import AsyncModel
from triton_stack_client.transport import address

_T = TypeVar("_T")


class AsyncClassifier:
    """Classifies pictures with a served model, for asyncio; see ``Classifier`` for arguments and errors.

    Made anywhere, used within one running event loop.
    """

    def __init__(
        self,
        model: str,
        *,
        url: str | None = None,
        protocol: str | None = None,
        models_dir: str | os.PathLike[str] | None = None,
        timeout: float = 60.0,
        shared_memory: str = "off",
    ) -> None:
        from triton_stack_client.classify import pictures  # noqa: F401  (says now when Pillow is missing)

        where = address.resolve(url, protocol)
        if (
            models_dir is None and url is None
        ):  # another host's models are not described by this host's volume
            models_dir = os.environ.get("MODELS_DIR") or None
        self._models_dir = Path(models_dir) if models_dir is not None else None
        self._where = where
        self._timeout = timeout
        url = f"{where.protocol}://{where.host_port}"
        self._model = AsyncModel(model, url=url, timeout=timeout, shared_memory=shared_memory)
        self._task: Task | None = None

    async def task(self) -> Task:
        """What classifying with this model means; asked once, and kept: see ``Classifier``."""
        if self._task is None:
            self._task = await asyncio.to_thread(
                task.find, self._model.name, self._where, self._models_dir, self._timeout
            )
        return self._task

    async def classify(self, picture: Picture, *, top: int = 5) -> tuple[Label, ...]:
        """See ``Classifier.classify``."""
        async for found in self.classify_many([picture], top=top, concurrency=1):
            if found.failure is not None:
                raise found.failure
            return found.labels
        raise AssertionError("one picture has one answer")

    async def classify_many(
        self, pictures: Iterable[Picture], *, top: int = 5, batch: int | None = None, concurrency: int = 4
    ) -> AsyncGenerator[Classification, None]:
        """See ``Classifier.classify_many``."""
        from triton_stack_client.classify.pipeline import Pipeline

        if isinstance(pictures, str | Path | bytes) or (
            isinstance(pictures, np.ndarray) and pictures.ndim < 4
        ):
            raise TypeError("classify_many takes several pictures; classify takes one")
        work = await self.task()
        size = batch or work.contract.max_batch
        pipeline = Pipeline(self._model, work, top=top, batch=size, concurrency=concurrency)
        answers = pipeline.run(map(sources.of, pictures, count(1)))
        try:
            async for found in answers:
                yield found
        finally:
            await answers.aclose()

    async def close(self) -> None:
        """Give shared memory back and close the connections."""
        await self._model.close()

    async def __aenter__(self) -> AsyncClassifier:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


class Classifier:
    """Classifies pictures with a served model.

    What the model takes and the names of its classes are those of the release that is live at the first
    picture; make a new object to follow a release that changes them.

    Args:
        model, url, protocol, timeout, shared_memory: as for ``Model``.
        models_dir: the server's models volume, where this machine has it (MODELS_DIR by default, without a
            ``url``). A model that wants its pixels prepared by the client, or that scores in FP16, says in
            its release how, and what its classes are called; for any other the server says enough.

    Raises:
        ClientError: Pillow or tritonclient is not installed, or the URL cannot be read.
    """

    def __init__(
        self,
        model: str,
        *,
        url: str | None = None,
        protocol: str | None = None,
        models_dir: str | os.PathLike[str] | None = None,
        timeout: float = 60.0,
        shared_memory: str = "off",
    ) -> None:
        self._classifier = AsyncClassifier(
            model,
            url=url,
            protocol=protocol,
            models_dir=models_dir,
            timeout=timeout,
            shared_memory=shared_memory,
        )
        self._loop = _LoopThread()

    def classify(self, picture: Picture, *, top: int = 5) -> tuple[Label, ...]:
        """One picture's labels, best first.

        Args:
            picture: a path, the content of a file, or pixels UINT8 [height, width] or [height, width, 1, 3
                (RGB) or 4 (RGBA)] of any size.
            top: how many labels; all of them where the model has fewer.

        Raises:
            PictureError: it is no picture that can be read.
            ContractError: the model does not classify pictures.
            ServerError: no answer within the timeout, or the server refused the request.
        """
        return self._loop.run(self._classifier.classify(picture, top=top))

    def classify_many(
        self, pictures: Iterable[Picture], *, top: int = 5, batch: int | None = None, concurrency: int = 4
    ) -> Iterator[Classification]:
        """Each picture's labels, in order, as they come; a single picture's failure is in its answer.

        However many pictures there are, only a few batches are in memory.

        Args:
            pictures: see ``classify``.
            batch: pictures in a request; the most that the model takes by default.
            concurrency: requests in flight.

        Raises:
            ContractError: the model does not classify pictures, or takes no such batch.
            ServerError: the server does not answer at all.
        """
        answers = self._classifier.classify_many(pictures, top=top, batch=batch, concurrency=concurrency)
        try:
            while (found := self._loop.run(_next(answers))) is not None:
                yield found
        finally:
            self._loop.run(answers.aclose())

    def close(self) -> None:
        """Give shared memory back and close the connections."""
        self._loop.run(self._classifier.close())
        self._loop.close()

    def __enter__(self) -> Classifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


async def _next(answers: AsyncGenerator[Classification, None]) -> Classification | None:
    async for found in answers:
        return found
    return None


class _LoopThread:
    """An event loop in a thread of its own: blocking calls work in a notebook too, inside its own loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="triton-classifier", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Wait for the result of a coroutine; interrupted, the coroutine is cancelled."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """End the thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
