"""`classify` from its arguments to its exit code."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from triton_stack_client.classify import output, pictures, sources, task
from triton_stack_client.classify.output import Progress, Writer
from triton_stack_client.classify.pipeline import Pipeline
from triton_stack_client.model import AsyncModel
from triton_stack_client.terminal import coloured
from triton_stack_client.transport import address

_TOP = 5


def run(args: argparse.Namespace) -> int:
    """0 when every picture was classified, 1 when one was not; raises ClientError before the first."""
    found = sources.find(args.images, pictures.SUFFIXES)
    # Another host's models are not described by this host's volume, unless the user says so.
    models_dir = args.models_dir or (None if args.url else Path(os.environ.get("MODELS_DIR") or "models"))
    where = address.resolve(args.url, args.protocol)
    name = args.model or task.only_live(models_dir, where, args.timeout)
    work = task.find(name, where, models_dir, args.timeout)
    if work.untrained:
        _warn(f"{name} has weights that are {work.weights}. ITS LABELS AND SCORES MEAN NOTHING.")
    if not work.labels:
        _warn(f"the names of {name}'s classes cannot be had from the server: classes are numbers here")
    classes = work.scores.dims[0]
    if args.top is not None and args.top > classes:
        _note(f"--top {args.top}: {name} has {classes} classes, and all of them are named")
    if found.skipped:
        _note(_skipped(found.skipped))
    out: Writer = output.Json() if args.json else output.Csv() if args.csv else output.Text()
    return asyncio.run(_run(args, where, work, found.sources, out))


async def _run(
    args: argparse.Namespace,
    where: address.Address,
    work: task.Task,
    found: list[sources.Source],
    out: Writer,
) -> int:
    progress = Progress(len(found))
    url = f"{where.protocol}://{where.host_port}"
    async with AsyncModel(
        work.contract.model, url=url, timeout=args.timeout, shared_memory=args.shared_memory
    ) as model:
        batch = args.batch or work.contract.max_batch
        pipeline = Pipeline(model, work, top=args.top or _TOP, batch=batch, concurrency=args.concurrency)
        out.begin(work)
        async for answer in pipeline.run(found):
            out.add(answer)
            progress.add(answer)
        out.end()
    return 1 if progress.end() else 0


def _skipped(files: list[Path]) -> str:
    names = ", ".join(str(p) for p in files[:3]) + (", ..." if len(files) > 3 else "")
    count = "1 file is" if len(files) == 1 else f"{len(files)} files are"
    return (
        f"{count} skipped ({names}): of a folder, files that end in {', '.join(pictures.SUFFIXES)} are taken"
    )


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def _warn(text: str) -> None:
    bold, plain = ("\033[1;33m", "\033[0m") if coloured(sys.stderr) else ("", "")
    print(f"{bold}WARNING: {text}{plain}", file=sys.stderr)
