"""The HTTP side: what is taken, how much of it at once, and how an answer looks."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from triton_stack_client.errors import ServerError
from triton_stack_client.pictures.errors import RefusalError
from triton_stack_client.pictures.metrics import CONTENT_TYPE, Metrics
from triton_stack_client.pictures.work import Answer, Workshop

_TOP = 5
_MOST = 100_000  # more labels than any model has
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Limits:
    """What one picture and all of them together may take.

    Attributes:
        bytes: of a picture's file.
        queue: pictures in memory, whether they arrive, wait, are decoded or are at the server.
        body_secs: for a picture to arrive.
        timeout: seconds for all the rest.
    """

    bytes: int
    queue: int
    body_secs: float
    timeout: float


class Service:
    """The application; see ``application``."""

    def __init__(self, workshop: Workshop, metrics: Metrics, limits: Limits) -> None:
        self._workshop = workshop
        self._metrics = metrics
        self._limits = limits
        self._draining = False

    def application(self) -> web.Application:
        """For aiohttp to run."""
        app = web.Application(client_max_size=self._limits.bytes, middlewares=[_as_json])
        app.router.add_post("/v1/models/{model:[A-Za-z0-9_.-]+}/classify", self._classify)
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/metrics", self._metrics_page)
        app.on_response_prepare.append(self._prepare)
        return app

    async def drain(self, seconds: float) -> None:
        """Wait until every picture has its answer, at most so long; connections end with their answers."""
        self._draining = True
        end = time.monotonic() + seconds
        while self._metrics.in_flight and time.monotonic() < end:
            await asyncio.sleep(0.02)

    async def _prepare(self, _: web.BaseRequest, response: web.StreamResponse) -> None:
        response.headers["Server"] = "triton-stack-pictures"  # and no word of versions
        if self._draining:
            response.force_close()

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _metrics_page(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.text().encode(), headers={"Content-Type": CONTENT_TYPE})

    async def _classify(self, request: web.Request) -> web.Response:
        model = request.match_info["model"]
        try:
            response = web.json_response(await self._answer(request, model), dumps=_dumps)
        except RefusalError as e:
            response = refusal(e)
        except ServerError as e:
            # What the server says may name its addresses, which are no concern of a client's.
            status, words = (502, "refused the request") if e.refused else (503, "does not answer")
            response = refusal(RefusalError(status, f"the server {words}", remedy="try again"))
        except (TimeoutError, asyncio.TimeoutError):
            response = refusal(RefusalError(504, "no answer in time", remedy="try again"))
        self._metrics.request(model if self._workshop.live.knows(model) else "", response.status)
        return response

    async def _answer(self, request: web.Request, model: str) -> dict[str, Any]:
        top = _top(request)
        self._check_head(request)
        # Pictures that a thread still works on, though their client has gone, take memory too.
        if max(self._metrics.in_flight, self._workshop.decoding) >= self._limits.queue:
            raise RefusalError(
                503, f"{self._limits.queue} pictures are at work, which is the most", remedy="try again"
            )
        self._metrics.in_flight += 1
        try:
            content = await self._body(request)
            answer = await asyncio.wait_for(
                self._workshop.classify(model, content, top), self._limits.timeout
            )
        finally:
            self._metrics.in_flight -= 1
        return described(answer)

    def _check_head(self, request: web.Request) -> None:
        """What can be refused before the body arrives."""
        coding = request.headers.get("Content-Encoding", "identity")
        if coding.lower() != "identity":
            raise RefusalError(415, "the body is compressed", allowed="a picture's file as it is")
        if request.content_type.startswith("multipart/"):
            raise RefusalError(
                415,
                "the body is a form",
                allowed="a picture's file as it is",
                remedy="curl --data-binary @FILE instead of --form",
            )
        if (request.content_length or 0) > self._limits.bytes:
            raise self._too_long(request.content_length)

    async def _body(self, request: web.Request) -> bytes:
        try:
            return await asyncio.wait_for(request.read(), self._limits.body_secs)
        except web.HTTPRequestEntityTooLarge:
            raise self._too_long(None) from None
        except (TimeoutError, asyncio.TimeoutError):
            raise RefusalError(
                408, f"the picture did not arrive within {self._limits.body_secs:g} s"
            ) from None

    def _too_long(self, found: int | None) -> RefusalError:
        return RefusalError(
            413,
            f"the body has {found if found is not None else 'too many'} bytes",
            allowed=f"{self._limits.bytes} bytes",
            remedy="make the picture smaller, or PICTURES_MAX_MB larger",
        )


def _top(request: web.Request) -> int:
    unknown = set(request.query) - {"top"}
    text = request.query.get("top", str(_TOP))
    good = text.isascii() and text.isdigit() and len(text) <= 6 and 1 <= int(text) <= _MOST
    if unknown or len(request.query) > 1 or not good:
        found = f"top={text}" if not unknown else ", ".join(sorted(unknown))
        raise RefusalError(400, f'the query has "{found[:64]}"', allowed=f"top=N, N from 1 to {_MOST}")
    return int(text)


def described(answer: Answer) -> dict[str, Any]:
    """The answer as JSON has it."""
    task = answer.task
    described: dict[str, Any] = {
        "model": task.contract.model,
        "version": task.contract.version,
        "predictions": [
            {
                "label": label.name,
                "class": label.number,
                "score": label.score if math.isfinite(label.score) else None,  # JSON has no other numbers
            }
            for label in answer.labels
        ],
    }
    if task.untrained:
        described["warning"] = f"the labels mean nothing: the weights are {task.weights}"
    return described


def _dumps(described: Any) -> str:
    """JSON for people: names as they are, and a line end for the terminal."""
    return json.dumps(described, ensure_ascii=False) + "\n"


def refusal(e: RefusalError) -> web.Response:
    """A refusal as JSON, the way Triton and the gateway write theirs."""
    headers = {"Retry-After": "1"} if e.status == 503 else {}
    return web.json_response({"error": str(e)}, status=e.status, headers=headers, dumps=_dumps)


@web.middleware
async def _as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """aiohttp's own refusals (no such path, another method) in the same form."""
    try:
        return await handler(request)
    except web.HTTPException as e:
        return refusal(
            RefusalError(
                e.status,
                f"{request.method} {request.path[:128]}: {e.reason}",
                allowed="POST /v1/models/MODEL/classify, GET /healthz, GET /metrics",
            )
        )
