"""The arguments that verbs share: one name, one meaning and one help text each."""

from __future__ import annotations

import argparse
from typing import List, Sequence

RUNTIMES = ("auto", "docker", "native")
MODEL_HELP = (
    "the models to work on (default: up and redeploy take $MODELS; a verb that works on one model takes "
    "the only live one; the others take all)"
)
JSON_HELP = "print the answer, or the error, as JSON on standard output"
RUNTIME_HELP = "where the stack runs (auto: where it runs already, else Docker where that can be used)"


def common() -> argparse.ArgumentParser:
    """``--json`` and ``--runtime``, as a parent of a verb's parser."""
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("the same with every command")
    group.add_argument("--json", action="store_true", help=JSON_HELP)
    group.add_argument("--runtime", choices=RUNTIMES, default="auto", help=RUNTIME_HELP)
    return parser


def one_model(parser: argparse.ArgumentParser) -> None:
    """``--model NAME``, for a verb that works on one model."""
    parser.add_argument("--model", metavar="NAME", help=MODEL_HELP)


def models(parser: argparse.ArgumentParser) -> None:
    """``--model NAME...``, which may be repeated; ``names`` gives them as one list."""
    parser.add_argument("--model", nargs="+", action="append", default=[], metavar="NAME", help=MODEL_HELP)


def specs(parser: argparse.ArgumentParser) -> None:
    """``--model NAME|FILE...`` and ``--verbose``, for a verb that builds."""
    parser.add_argument(
        "--model", nargs="+", action="append", default=[], metavar="NAME|FILE", help=MODEL_HELP
    )
    parser.add_argument(
        "--verbose", action="store_true", help="show every step and check also where several models are built"
    )


def device(parser: argparse.ArgumentParser) -> None:
    """``--device``, for a verb that decides what to build for."""
    parser.add_argument(
        "--device", choices=("auto", "gpu", "cpu"), default="auto",
        help="gpu: TensorRT; cpu: onnxruntime (auto: gpu where one can be used)",
    )  # fmt: skip


def quiet_gpu(parser: argparse.ArgumentParser) -> None:
    """``--quiet-gpu [MINUTES]``, for a verb that builds."""
    parser.add_argument(
        "--quiet-gpu", type=_minutes, nargs="?", const=10.0, metavar="MINUTES",
        help="before an engine is built, wait at most so long (10) for a lull on the GPU, then build anyway",
    )  # fmt: skip


def _minutes(text: str) -> float:
    minutes = float(text)
    if not 0 < minutes <= 24 * 60:
        raise ValueError(text)
    return minutes


_minutes.__name__ = "number of minutes, above 0 and up to a day"  # argparse's own words name the function


def profiles(parser: argparse.ArgumentParser, choices: Sequence[str]) -> None:
    """``--profile NAME``, which may be repeated."""
    parser.add_argument(
        "--profile", action="append", default=[], choices=choices, metavar="|".join(choices),
        help="start this beside Triton too; what runs already goes on running without it",
    )  # fmt: skip


def names(args: argparse.Namespace) -> List[str]:
    """What ``--model`` named, in order, each once."""
    return list(dict.fromkeys(name for group in args.model for name in group))
