"""Takes copies from the gateway, answers at once, and compares them when it has time for it.

POST /v1/shadow/MODEL: the request as the client sent it; X-Shadow-Canary and X-Shadow-Other say which servers
are to be compared, X-Shadow-Dropped what the gateway dropped since its last copy (reason=count, with commas).
202: taken; 429: too many copies are waiting, and this one is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TextIO

import aiohttp
from aiohttp import web

from triton_stack_client.errors import ClientError
from triton_stack_client.pictures.metrics import CONTENT_TYPE
from triton_stack_client.shadow.answers import LENGTH, Answer, UnusableError, copied, parsed
from triton_stack_client.shadow.judge import Bounds, Difference, difference
from triton_stack_client.shadow.metrics import Metrics

_AT_ONCE = 4  # copies that are compared at the same time
_LOG_SECS = 1.0  # between two lines of one model
_DROPPED = re.compile(r"([a-z]{1,20})=([0-9]{1,9})")


@dataclass(frozen=True)
class Limits:
    """How many copies may wait, how many bytes they may have in all, and seconds for a server's answer."""

    copies: int
    bytes: int
    timeout: float


@dataclass(frozen=True)
class Copy:
    """One request, and the two servers (host:HTTP port) that are to answer it."""

    model: str
    canary: str
    other: str
    body: bytes
    length: str | None


class _FailedError(Exception):
    """One of the two servers gave no answer: which of them, and the status (0: none at all)."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class Service:
    """The application and its workers; used by one event loop."""

    def __init__(
        self, bounds: Bounds, metrics: Metrics, limits: Limits, say: Callable[[str], None] | None = None
    ) -> None:
        self._bounds = bounds
        self._metrics = metrics
        self._limits = limits
        self._say = say or _say
        self._queue: asyncio.Queue[Copy] = asyncio.Queue()
        self._bytes = 0
        self._said: dict[str, tuple[float, int]] = {}
        self._workers: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None

    def application(self) -> web.Application:
        """For aiohttp to run."""
        app = web.Application(client_max_size=self._limits.bytes)
        app.router.add_post("/v1/shadow/{model:[A-Za-z0-9_.-]+}", self._take)
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/metrics", self._metrics_page)
        app.on_startup.append(self._start)
        app.on_cleanup.append(self._end)
        return app

    async def _start(self, _: web.Application) -> None:
        timeout = aiohttp.ClientTimeout(total=self._limits.timeout, connect=2)
        self._session = aiohttp.ClientSession(timeout=timeout, trust_env=False)
        self._workers = [asyncio.create_task(self._work()) for _ in range(_AT_ONCE)]

    async def _end(self, _: web.Application) -> None:
        for worker in self._workers:
            worker.cancel()
        if self._session is not None:
            await self._session.close()

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _metrics_page(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.text().encode(), headers={"Content-Type": CONTENT_TYPE})

    async def _take(self, request: web.Request) -> web.Response:
        model = request.match_info["model"]
        for reason, count in _DROPPED.findall(request.headers.get("X-Shadow-Dropped", "")):
            self._metrics.dropped(model, reason, int(count))
        canary, other = (request.headers.get(f"X-Shadow-{name}", "") for name in ("Canary", "Other"))
        if not canary or not other:
            return web.Response(status=400, text="X-Shadow-Canary and X-Shadow-Other name the servers\n")
        size = request.content_length or 0
        if self._metrics.waiting >= self._limits.copies or self._bytes + size > self._limits.bytes:
            self._metrics.dropped(model, "busy")
            return web.Response(status=429, text="too many copies wait\n")
        self._metrics.waiting += 1
        self._bytes += size
        try:
            body = await request.read()
        except BaseException:
            self._done(size)
            raise
        self._queue.put_nowait(Copy(model, canary, other, body, request.headers.get(LENGTH)))
        return web.Response(status=202)

    def _done(self, size: int) -> None:
        self._metrics.waiting -= 1
        self._bytes -= size

    async def _work(self) -> None:
        while True:
            copy = await self._queue.get()
            try:
                await self._compare(copy)
            except Exception as e:  # noqa: BLE001  (one copy must not end the comparison of all others)
                self._metrics.dropped(copy.model, "error")
                _say(f"{copy.model}: {e!r}", sys.stderr)
            finally:
                self._done(len(copy.body))

    async def _compare(self, copy: Copy) -> None:
        try:
            body, length = copied(copy.body, copy.length)
            allowed = self._bounds.of(copy.model)
        except UnusableError:
            self._metrics.dropped(copy.model, "unusable")
            return
        except ClientError:
            self._metrics.dropped(copy.model, "norelease")
            return
        canary, other = await asyncio.gather(
            self._ask(copy.canary, copy.model, body, length),
            self._ask(copy.other, copy.model, body, length),
            return_exceptions=True,
        )
        for found in (canary, other):
            if isinstance(found, BaseException) and not isinstance(found, (_FailedError, UnusableError)):
                raise found
        if isinstance(other, BaseException) or (isinstance(canary, _FailedError) and not canary.status):
            # With nothing to compare with, or nobody there, no release is to blame.
            self._metrics.dropped(copy.model, "unanswered")
            return
        if isinstance(canary, BaseException):
            self._judged(copy, "", other.version, Difference("", f"the canary failed: {canary}"))
            return
        assert isinstance(canary, Answer)
        self._judged(copy, canary.version, other.version, difference(canary, other, allowed))

    def _judged(self, copy: Copy, version: str, other: str, differs: Difference | None) -> None:
        self._metrics.compared(copy.model, version, differs=differs is not None)
        if differs is None:
            return
        last, skipped = self._said.get(copy.model, (0.0, 0))
        if time.monotonic() - last < _LOG_SECS:
            self._said[copy.model] = last, skipped + 1
            return
        self._said[copy.model] = time.monotonic(), 0
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "model": copy.model, "release": version, "canary": copy.canary,
            "other_release": other, "other": copy.other,
            "output": differs.output, "why": differs.why,
            "max_abs": differs.max_abs, "allowed": differs.allowed, "row": differs.row,
            "not_logged": skipped,
        }  # fmt: skip
        self._say(json.dumps(line, allow_nan=False, default=str) if _finite(line) else _as_words(line))

    async def _ask(self, place: str, model: str, body: bytes, length: int) -> Answer:
        assert self._session is not None
        headers = {LENGTH: str(length), "Content-Type": "application/octet-stream"}
        try:
            async with self._session.post(
                f"http://{place}/v2/models/{model}/infer", data=body, headers=headers
            ) as answer:
                content = await answer.read()
                if answer.status != 200:
                    raise _FailedError(answer.status, f"{answer.status} {content[:200]!r}")
                return parsed(content, answer.headers.get(LENGTH))
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as e:
            raise _FailedError(0, f"{place}: {e!r}") from e


def _finite(line: dict[str, Any]) -> bool:
    return line["max_abs"] is None or line["max_abs"] < float("inf")


def _as_words(line: dict[str, Any]) -> str:
    """JSON has no word for what is not finite."""
    return json.dumps({**line, "max_abs": "not finite"}, default=str)


def _say(line: str, to: TextIO | None = None) -> None:
    with contextlib.suppress(OSError):  # a log on a full disk: answers are compared all the same
        print(line, file=to, flush=True)
