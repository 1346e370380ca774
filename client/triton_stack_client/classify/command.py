"""`classify` from its arguments to its exit code."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from triton_stack_client.classify import output, pictures, sources, task
from triton_stack_client.classify.classifier import Classifier
from triton_stack_client.classify.output import Progress, Results
from triton_stack_client.contract import Contract
from triton_stack_client.errors import ServerError
from triton_stack_client.model import AsyncModel
from triton_stack_client.transport import address
from triton_stack_client.transport.protocol import Wire


def run(args: argparse.Namespace) -> int:
    """0 when every picture was classified, 1 when one was not; raises ClientError before the first."""
    found = sources.find(args.images, pictures.SUFFIXES)
    # Another host's models are not described by this host's volume, unless the user says so.
    models_dir = args.models_dir or (None if args.url else Path(os.environ.get("MODELS_DIR") or "models"))
    name = task.choose(models_dir or Path(), args.model)
    where = address.resolve(args.url, args.protocol)
    work = _task(name, where, models_dir, args.timeout)
    if work.untrained:
        _warn(f"{name} has weights that are {work.weights}. ITS LABELS AND SCORES MEAN NOTHING.")
    if not work.labels:
        _warn(f"the names of {name}'s classes cannot be had from the server: classes are numbers here")
    out: Results = output.Json() if args.json else output.Csv() if args.csv else output.Text()
    return asyncio.run(_run(args, where, work, found, out))


def _task(name: str, where: address.Address, models_dir: Path | None, timeout: float) -> task.Task:
    wire = Wire(where.protocol, where.host_port, timeout)
    try:
        wire.live()  # a server that is not there at all is said at once, not after the timeout
        contract = Contract.of(wire.metadata(name), wire.config(name))
        work = task.from_volume(models_dir, contract) if models_dir else None
        return work or task.from_server(wire, contract)
    except ServerError as e:
        if not e.refused and not e.remedy:
            e.remedy = "is the server up, and is this its address? ./scripts/status"
        raise
    finally:
        wire.close()


async def _run(
    args: argparse.Namespace,
    where: address.Address,
    work: task.Task,
    found: list[sources.Source],
    out: Results,
) -> int:
    progress = Progress(len(found))
    url = f"{where.protocol}://{where.host_port}"
    async with AsyncModel(
        work.contract.model, url=url, timeout=args.timeout, shared_memory=args.shared_memory
    ) as model:
        batch = args.batch or work.contract.max_batch
        classifier = Classifier(model, work, top=args.top, batch=batch, concurrency=args.concurrency)
        out.begin(work)
        async for answer in classifier.run(found):
            out.add(answer)
            progress.add(answer)
        out.end()
    return 1 if progress.end() else 0


def _warn(text: str) -> None:
    bold, plain = ("\033[1;33m", "\033[0m") if sys.stderr.isatty() else ("", "")
    print(f"{bold}WARNING: {text}{plain}", file=sys.stderr)
