"""``rollout``: bring a release to every node of the cluster, canaries first, or show the nodes.

    ./scripts/rollout resnet50                       the nodes, and how far a rollout is
    ./scripts/rollout resnet50 --to 4 --canary 1     release 4 of the registry: a canary, then node by node
    ./scripts/rollout resnet50 --pause               also --resume and --back

A node that fails goes back by itself; more than --max-failed of them, and all go back. See docs/cluster.md.
"""

from __future__ import annotations

import argparse

from ops import console, rollout
from ops.cluster import nodes
from ops.runtimes.selection import current
from ops.settings import load

_FLAGS = ("pause", "resume", "back", "hold", "no_follow")
_VALUES = ("to", "canary", "at_once", "max_failed", "observe", "share", "shadow", "node_secs")


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes; the values are checked by `python -m cluster rollout`."""
    parser.add_argument("name", metavar="MODEL", help="the model")
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--to", metavar="N|DIGEST", help="the release, by its number or digest in the registry"
    )
    action.add_argument("--pause", action="store_true", help="let it go no further")
    action.add_argument("--resume", action="store_true", help="go on, also where a driver was killed")
    action.add_argument("--back", action="store_true", help="send every node back to what was live before")
    parser.add_argument("--canary", type=int, metavar="N", help="how many nodes go first (1)")
    parser.add_argument("--first", action="append", default=[], metavar="NODE", help="a node to begin with")
    parser.add_argument("--at-once", type=int, metavar="N", help="nodes at the same time after them (1)")
    parser.add_argument("--max-failed", type=int, metavar="N", help="nodes that may fail (0)")
    parser.add_argument(
        "--observe",
        type=float,
        metavar="SECONDS",
        help="how long the canaries serve before the others follow (60)",
    )
    parser.add_argument("--hold", action="store_true", help="pause then, until --resume")
    parser.add_argument(
        "--share", type=float, metavar="PART", help="of the requests, to the canaries (0 to 1)"
    )
    parser.add_argument(
        "--shadow", type=float, metavar="PART", help="of the requests, copied to them to compare the answers"
    )
    parser.add_argument("--node-secs", type=float, metavar="SECONDS", help="for one node (1800)")
    parser.add_argument("--no-follow", action="store_true", help="write it down, and let --resume drive it")


def run(args: argparse.Namespace) -> int:
    """0 when it is done, paused or shown."""
    words = ["rollout", args.name, *(f"--first={node}" for node in args.first)]
    words += [f"--{name.replace('_', '-')}" for name in _FLAGS if getattr(args, name)]
    given = [(name, getattr(args, name)) for name in _VALUES]
    words += [f"--{name.replace('_', '-')}={value}" for name, value in given if value is not None]
    row = rollout.ask(current(load(), args.runtime), "cluster", words)
    if "nodes" in row:
        console.answer(row, "", as_json=args.json)
        if not args.json:
            nodes.show(args.name, row)
        return 0
    text = f"{args.name}: the rollout of {nodes.short(row['target'])} is {row['state']}"
    console.answer(row, text, as_json=args.json)
    return 0
