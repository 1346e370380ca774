"""``./scripts/stack VERB`` and its short names ``./scripts/VERB``: parse, run, print errors, exit.

A verb is a module of ops.commands. Its docstring begins with its help line; ``arguments(parser)`` adds what
it alone takes; ``run(args)`` returns the exit code, or raises OpsError.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Callable, List, Tuple

from ops import arguments, console
from ops.errors import OpsError

VERBS = (
    "up", "down", "redeploy", "rollback", "retire", "releases", "prune", "status", "doctor", "keys",
    "classify", "latency", "bench", "tune", "test", "push", "promote", "pull", "rollout", "swarm",
)  # fmt: skip


def main() -> None:
    """Run what was typed, and exit."""
    prog, verb, argv = _typed(sys.argv)
    module = _module(verb)
    if hasattr(module, "run_with"):  # every argument is another program's
        sys.exit(_guarded(lambda: int(module.run_with(prog, argv) or 0), as_json=False))
    args = parser(prog, verb).parse_args(argv)
    args.argv = argv
    sys.exit(_guarded(lambda: int(module.run(args)), as_json=args.json))


def parser(prog: str, verb: str) -> argparse.ArgumentParser:
    """A verb's parser, whose help calls it ``prog``."""
    module = _module(verb)
    made = argparse.ArgumentParser(
        prog=prog,
        description=_description(verb),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[arguments.common()],
        conflict_handler="resolve",  # classify's --json excludes its --csv
        allow_abbrev=False,
    )
    module.arguments(made)
    return made


def overview(prog: str) -> str:
    """The help of all verbs, a line each."""
    lines = [f"usage: {prog} VERB [OPTION ...]", "", "Build, serve and prove models with Triton.", ""]
    lines += [f"  {verb:9} {_line(verb)}" for verb in VERBS]
    lines += [
        "",
        f"`{prog} VERB --help` lists its options. --json, --runtime and --model mean the same everywhere.",
        "Every setting is described in .env, and the environment overrides it. NO_COLOR=1 turns colour off.",
    ]
    return "\n".join(lines)


def _typed(argv: List[str]) -> Tuple[str, str, List[str]]:
    """The name for help, the verb and its arguments."""
    name = Path(argv[0]).name
    if name in VERBS:
        return argv[0], name, argv[1:]
    if argv[1:2] in (["-h"], ["--help"]):
        print(overview(argv[0]))
        sys.exit(0)
    if argv[1:2] and argv[1] in VERBS:
        return f"{argv[0]} {argv[1]}", argv[1], argv[2:]
    found = f'"{argv[1]}" is no verb' if argv[1:] else "a verb is missing"
    print(f"{overview(argv[0])}\n\nerror: {found}", file=sys.stderr)
    sys.exit(2)


def _module(verb: str) -> ModuleType:
    return importlib.import_module(f"ops.commands.{verb}")


def _description(verb: str) -> str:
    text = (_module(verb).__doc__ or "").partition("``: ")[2].strip()
    return text[:1].upper() + text[1:]


def _line(verb: str) -> str:
    return (_module(verb).__doc__ or "").splitlines()[0].partition("``: ")[2].rstrip(".")


def _guarded(run: Callable[[], int], *, as_json: bool) -> int:
    """The one place that prints errors: as text on standard error, or as JSON on standard output."""
    try:
        return run()
    except OpsError as e:
        return _fail(e, 1, as_json=as_json)
    except BrokenPipeError:  # `status | head`
        sys.stderr.close()
        return 141
    except OSError as e:  # a full disk, a folder that may not be written
        where = f"{e.filename}: " if e.filename else ""
        return _fail(OpsError(f"{where}{e.strerror or e}"), 1, as_json=as_json)
    except KeyboardInterrupt:
        if as_json:
            return _fail(OpsError("interrupted; what was served is still served"), 130, as_json=True)
        print("interrupted; what was served is still served", file=sys.stderr)
        return 130


def _fail(error: OpsError, code: int, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"error": error.facts()}, indent=2))
    else:
        print(f"{console.colour('error', 'fail', sys.stderr)}: {error}", file=sys.stderr)
    return code
