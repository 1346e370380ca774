"""``python -m triton_stack_client shadow``: run the service until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

from aiohttp import web

from triton_stack_client.errors import ClientError
from triton_stack_client.shadow.judge import Bounds
from triton_stack_client.shadow.metrics import Metrics
from triton_stack_client.shadow.service import Limits, Service


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT. Raises ClientError."""
    asyncio.run(_serve(args))
    return 0


async def _serve(args: argparse.Namespace) -> None:
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    limits = Limits(args.queue, int(args.max_mb * 1e6), args.timeout)
    service = Service(Bounds(args.models_dir), Metrics(), limits)
    runner = web.AppRunner(service.application(), access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, args.host, args.port)
        try:
            await site.start()
        except OSError as e:
            raise ClientError(
                f"{args.host}:{args.port}: {e.strerror or e}", remedy="choose another port: --port"
            ) from e
        print(f"shadow: http://{args.host}:{args.port}", file=sys.stderr, flush=True)
        await told.wait()
    finally:
        await runner.cleanup()  # what waits is dropped: nobody waits for a copy
