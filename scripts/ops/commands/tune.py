"""``tune``: find a faster way to serve a model on this machine, beside the live server.

Candidates (batch sizes, instances, batching, GPU levers or CPU threads, settings of the server) run in a
scratch server of their own and are compared with the live configuration, in turns, by perf_analyzer. What is
better beyond the noise is proposed as a patch of the spec; --apply writes it, and redeploy takes it.
"""

from __future__ import annotations

import argparse
import signal
from pathlib import Path
from typing import List, Optional

from ops.tune import program
from ops.tune.judge.objective import KINDS


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("spec", metavar="MODEL", help="a live model's name, or its spec's file")
    parser.add_argument(
        "--objective", choices=KINDS, default="balanced",
        help="throughput: images/s with the most clients; latency: p50 with the fewest; balanced: both alike "
        "(balanced)",
    )  # fmt: skip
    parser.add_argument(
        "--latency-budget-ms", type=_positive, metavar="X", help="p99 must stay within; what does not loses"
    )
    parser.add_argument(
        "--budget-minutes", type=_positive, metavar="N", help="a hard bound (GPU: 15, CPU: 4); 0.7 is fine"
    )
    parser.add_argument(
        "--clients", type=_clients, metavar="1,64,256",
        help="the loads, as requests in flight (GPU: 1,64,256; CPU: 1, and 4 and 16 for each core)",
    )  # fmt: skip
    parser.add_argument(
        "--calibration", type=Path, metavar="DATA",
        help="a folder of pictures, an .npy or .npz, like real requests: try INT8, where its gate passes",
    )  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="go on with the run that was interrupted")
    parser.add_argument("--apply", action="store_true", help="write the patch into the spec")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="a new folder (default: MODELS_DIR/tune/TIME-MODEL)"
    )


def run(args: argparse.Namespace) -> int:
    """0 when it was tuned, also when nothing better was found."""
    # A closed terminal and a polite end (systemd) go the same way as Ctrl-C.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    return program.run(args)


def _interrupt(_signal: int, _frame: Optional[object]) -> None:
    raise KeyboardInterrupt


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise ValueError(text)
    return value


def _clients(text: str) -> List[int]:
    counts = sorted({int(word) for word in text.split(",")})
    if not counts or counts[0] < 1:
        raise ValueError(text)
    return counts


_positive.__name__ = "number above 0"  # argparse's own words for a wrong value name the function
_clients.__name__ = "list of clients, such as 1,64,256"
