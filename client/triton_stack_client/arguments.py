"""The options of every command of the client.

This file imports the standard library only: ./scripts/* load it by its path, so that help and usage errors
need no environment. It runs on Python 3.8 like the scripts.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

WAYS = ("grpc", "http", "grpc+shm", "http+shm", "grpc+cuda", "http+cuda")
MODEL = "the model's name (default: the only live one)"
JSON = "print the answer, or the error, as JSON"


def classify(parser: argparse.ArgumentParser, *, model: str = MODEL, as_json: str = JSON) -> None:
    """Name what is on pictures. ``model`` and ``as_json`` are help texts."""
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="files, folders, quoted patterns, - for standard input"
    )
    parser.add_argument("--model", metavar="NAME", help=model)
    parser.add_argument(
        "--url", help="http://host:port, grpc://host:port or host:port (default: this stack's server)"
    )
    parser.add_argument("--protocol", choices=("http", "grpc"), help="(default: grpc)")
    parser.add_argument("--top", type=positive, metavar="N", help="classes to show of each picture (5)")
    parser.add_argument(
        "--batch", type=positive, metavar="N", help="pictures in a request (default: as many as it takes)"
    )
    parser.add_argument("--concurrency", type=positive, default=4, metavar="N", help="requests in flight (4)")
    parser.add_argument(
        "--timeout", type=float, default=60.0, metavar="S", help="seconds a request, retries included (60)"
    )
    parser.add_argument(
        "--shared-memory",
        choices=("auto", "cuda", "system", "off"),
        default="auto",
        help="hand pictures over in memory shared with a server on this machine: the GPU's or its own (auto)",
    )
    parser.add_argument(
        "--models-dir", type=Path, metavar="DIR", help="the server's (default: $MODELS_DIR, without --url)"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help=as_json)
    form.add_argument("--csv", action="store_true", help="print a row for each picture and rank")


def pictures(parser: argparse.ArgumentParser) -> None:
    """Answer pictures sent over HTTP; the environment's settings are the defaults."""
    setting = os.environ.get
    parser.add_argument("--host", default="127.0.0.1", help="what to listen on (127.0.0.1)")
    parser.add_argument(
        "--port", type=int, default=setting("PICTURES_PORT") or "8010", help="and where (8010)"
    )
    parser.add_argument("--url", help="Triton's gRPC, host:port (default: this stack's server)")
    parser.add_argument(
        "--models-dir",
        type=Path,
        default=setting("MODELS_DIR") or None,
        metavar="DIR",
        help="the server's volume (default: $MODELS_DIR)",
    )
    parser.add_argument(
        "--max-mb", type=above_zero, default=setting("PICTURES_MAX_MB") or "10", metavar="MB",
        help="of a picture's file (10)",
    )  # fmt: skip
    parser.add_argument(
        "--max-megapixels", type=above_zero, default=setting("PICTURES_MAX_MEGAPIXELS") or "50", metavar="N",
        help="million pixels of a picture (50)",
    )  # fmt: skip
    parser.add_argument(
        "--queue", type=positive, default=setting("PICTURES_QUEUE") or "64", metavar="N",
        help="pictures in memory at once; further ones get 503 (64)",
    )  # fmt: skip
    parser.add_argument("--threads", type=positive, metavar="N", help="that decode (as many as cores)")
    parser.add_argument(
        "--body-timeout", type=above_zero, default=10.0, metavar="S", help="for a picture to arrive (10)"
    )
    parser.add_argument(
        "--timeout", type=above_zero, default=30.0, metavar="S", help="for the answer, after that (30)"
    )
    parser.add_argument(
        "--drain", type=above_zero, default=setting("EXIT_TIMEOUT_SECS") or "30", metavar="S",
        help="that requests in flight get when told to stop (30)",
    )  # fmt: skip
    parser.set_defaults(json=False)


def shadow(parser: argparse.ArgumentParser) -> None:
    """Compare answers to copies of requests; the environment's settings are the defaults."""
    setting = os.environ.get
    parser.add_argument("--host", default="127.0.0.1", help="what to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=setting("SHADOW_PORT") or "8011", help="and where (8011)")
    parser.add_argument(
        "--models-dir", type=Path, default=Path(setting("MODELS_DIR") or "models"), metavar="DIR",
        help="whose live releases say how far answers may differ (default: $MODELS_DIR)",
    )  # fmt: skip
    parser.add_argument("--queue", type=positive, default=256, metavar="N", help="copies that may wait (256)")
    parser.add_argument(
        "--max-mb", type=above_zero, default=128.0, metavar="MB", help="of all copies in memory (128)"
    )
    parser.add_argument(
        "--timeout", type=above_zero, default=30.0, metavar="S", help="for a server's answer (30)"
    )
    parser.set_defaults(json=False)


def latency(parser: argparse.ArgumentParser, *, model: str = MODEL, as_json: str = JSON) -> None:
    """One request at a time, served against local."""
    parser.add_argument("--model", metavar="NAME", help=model)
    parser.add_argument("--json", action="store_true", help=as_json)
    parser.add_argument("--requests", type=positive, default=200, metavar="N", help="of each way (200)")
    parser.add_argument("--batch", type=positive, default=1, metavar="N", help="samples in a request (1)")
    parser.add_argument(
        "--shared-memory",
        choices=("auto", "cuda", "system", "off"),
        default="off",
        help="also measure requests whose arrays travel in shared memory (off)",
    )
    for hidden in ("--local", "--trtexec"):
        parser.add_argument(hidden, default="", metavar="COMMAND", help=argparse.SUPPRESS)
    server(parser)


def bench(parser: argparse.ArgumentParser, *, model: str = MODEL, as_json: str = JSON) -> None:
    """The whole matrix, and a report."""
    parser.add_argument("--model", metavar="NAME", help=model)
    parser.add_argument("--json", action="store_true", help=as_json)
    parser.add_argument(
        "--quick", action="store_true", help="fewer points, shorter windows: about two minutes"
    )
    parser.add_argument(
        "--way",
        nargs="+",
        choices=WAYS,
        help="protocols (grpc http, on a GPU grpc+cuda too; +shm: system shared memory, +cuda: CUDA's)",
    )
    parser.add_argument(
        "--batch", nargs="+", type=positive, metavar="N", help="batch sizes (the profile's min and opt)"
    )
    parser.add_argument(
        "--concurrency",
        nargs="+",
        type=positive,
        metavar="N",
        help="clients (1 2 4 8 16; on a GPU 1 8 64 256)",
    )
    parser.add_argument(
        "--latency-budget-ms", type=float, metavar="MS", help="name the best point with a p99 within"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="a new folder (default: MODELS_DIR/bench/TIME-MODEL)"
    )
    parser.add_argument(
        "--compare",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="print what changed: against this run, or between two",
    )
    for hidden in ("--local", "--trtexec", "--perf-analyzer", "--libraries", "--reports"):
        parser.add_argument(hidden, default="", help=argparse.SUPPRESS)
    server(parser)


def smoke(parser: argparse.ArgumentParser) -> None:
    """Prove that every live model is served as released."""
    parser.add_argument("--model", action="append", metavar="NAME", help="only this one (may be repeated)")
    parser.add_argument("--summary", action="store_true", help="one line a model, and what failed")
    parser.add_argument("--json", action="store_true", help=JSON)
    server(parser)


def prove(parser: argparse.ArgumentParser) -> None:
    """Wait until one version answers, and answers as released."""
    parser.add_argument("model", help="the model's name")
    parser.add_argument("version", type=int, help="the release's number")
    parser.add_argument(
        "--deadline", type=float, default=60.0, metavar="S", help="seconds to become ready (60)"
    )
    parser.add_argument(
        "--stale", default="", metavar="REASON", help="Triton's reason from an earlier attempt"
    )
    parser.add_argument("--json", action="store_true", help=JSON)
    server(parser)


def server(parser: argparse.ArgumentParser) -> None:
    """Where the server and the models volume are; the environment gives the defaults."""

    def port(name: str, default: int) -> str:
        return os.environ.get(name) or str(default)  # argparse reads it, and refuses it in its own words

    where = parser.add_argument_group("where the server is (default: this stack's)")
    where.add_argument("--host", default=os.environ.get("TRITON_HOST") or "127.0.0.1")
    where.add_argument("--http-port", type=int, metavar="PORT", default=port("HTTP_PORT", 8000))
    where.add_argument("--grpc-port", type=int, metavar="PORT", default=port("GRPC_PORT", 8001))
    where.add_argument("--metrics-port", type=int, metavar="PORT", default=port("METRICS_PORT", 8002))
    where.add_argument(
        "--timeout", type=float, default=60.0, metavar="S", help="seconds for each answer (60)"
    )
    where.add_argument(
        "--models-dir", type=Path, default=Path(os.environ.get("MODELS_DIR") or "models"), metavar="DIR"
    )


def above_zero(text: str) -> float:
    """A number above zero, for argparse."""
    value = float(text)
    if not 0 < value < 1e9:
        raise ValueError(text)
    return value


def positive(text: str) -> int:
    """A whole number from 1 on, for argparse."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value
