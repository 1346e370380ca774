"""``python -m triton_stack_client pictures``: run the service until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from triton_stack_client.classify import pictures  # noqa: F401  (says now when Pillow is missing)
from triton_stack_client.errors import ClientError
from triton_stack_client.pictures.metrics import Metrics
from triton_stack_client.pictures.service import Limits, Service
from triton_stack_client.pictures.work import Workshop
from triton_stack_client.transport import address

_TURNS = 3  # of the loop, from an accepted connection to one that the server knows


def run(args: argparse.Namespace) -> int:
    """Serve; SIGTERM and SIGINT let requests in flight end. Raises ClientError."""
    asyncio.run(_serve(args))
    return 0


def _logger() -> logging.Logger:
    """aiohttp's own, less what it says of malformed requests: all of what the client has sent."""
    logger = logging.getLogger("triton_stack_client.pictures")
    logger.addFilter(lambda r: not (r.exc_info and isinstance(r.exc_info[1], HttpProcessingError)))
    return logger


async def _serve(args: argparse.Namespace) -> None:
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    metrics = Metrics()
    limits = Limits(int(args.max_mb * 1e6), args.queue, args.body_timeout, args.timeout)
    workshop = Workshop(
        address.resolve(args.url, "grpc"),
        args.models_dir,
        metrics,
        threads=args.threads or len(os.sched_getaffinity(0)),
        max_pixels=int(args.max_megapixels * 1e6),
        timeout=args.timeout,
    )
    service = Service(workshop, metrics, limits)
    # A form of compression would be undone before anybody can count: a body stays as it is sent.
    runner = web.AppRunner(
        service.application(),
        access_log=None,
        logger=_logger(),
        auto_decompress=False,
        handle_signals=False,
        shutdown_timeout=1.0,
    )
    await runner.setup()
    try:
        listener = _listener(args.host, args.port)
        site = web.SockSite(runner, listener)
        await site.start()
        print(f"pictures: http://{args.host}:{args.port}", file=sys.stderr, flush=True)
        await told.wait()
        # A connection accepted in the very turn of the loop that closes the server is never served (asyncio
        # before Python 3.12 loses it): so no more are accepted first, and those that were get their turn.
        asyncio.get_running_loop().remove_reader(listener.fileno())
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        # aiohttp's own end would drop the rest of pictures that are arriving.
        await site.stop()
        await service.drain(args.drain)
    finally:
        await runner.cleanup()
        await workshop.close()


def _listener(host: str, port: int) -> socket.socket:
    """A socket that is bound; raises ClientError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as e:
        raise ClientError(f"{host}:{port}: {e.strerror or e}", remedy="choose another port: --port") from e
