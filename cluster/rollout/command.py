"""``python -m cluster rollout``: bring a release to every node, or show how far it is."""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

from cluster.errors import ClusterError


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Its parser; without an action it shows the nodes."""
    parser = commands.add_parser("rollout", help="bring a release to every node, one after another")
    parser.add_argument("model", metavar="MODEL", help="the model's name")
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--to", metavar="N|DIGEST", help="the release, by its number or digest in the registry"
    )
    action.add_argument("--pause", action="store_true", help="let it go no further")
    action.add_argument("--resume", action="store_true", help="go on, also where a driver was killed")
    action.add_argument("--back", action="store_true", help="send every node back to what was live before")
    options(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=_run)


def options(parser: argparse.ArgumentParser) -> None:
    """How a new rollout goes."""
    parser.add_argument("--canary", type=_count, default=1, metavar="N", help="how many nodes go first (1)")
    parser.add_argument("--first", action="append", default=[], metavar="NODE", help="a node to begin with")
    parser.add_argument(
        "--at-once", type=_count, default=1, metavar="N", help="nodes at a time after them (1)"
    )
    parser.add_argument("--max-failed", type=_whole, default=0, metavar="N", help="nodes that may fail (0)")
    parser.add_argument(
        "--observe", type=_secs, default=60.0, metavar="SECONDS",
        help="how long the canaries serve before the others follow (60)",
    )  # fmt: skip
    parser.add_argument("--hold", action="store_true", help="pause then, until --resume")
    parser.add_argument(
        "--share", type=_part, metavar="PART", help="of the requests, to the canaries (0 to 1)"
    )
    parser.add_argument(
        "--shadow", type=_part, metavar="PART", help="of the requests, copied to them to compare the answers"
    )
    parser.add_argument(
        "--node-secs", type=_secs, default=1800.0, metavar="SECONDS", help="for one node (1800)"
    )
    parser.add_argument("--no-follow", action="store_true", help="write it down, and let --resume drive it")


def _run(args: argparse.Namespace) -> dict[str, Any]:
    # What a registry needs is imported when it runs.
    from cluster.agent.command import seconds
    from cluster.artifact import signature
    from cluster.artifact.place import Place
    from cluster.artifact.promote import promote
    from cluster.rollout import document as documents
    from cluster.rollout import show, start
    from cluster.rollout.driver import Driver
    from cluster.rollout.lease import HeldError
    from cluster.state.registry import RegistryStore

    place = Place.of()
    repo = place.reference(args.model).repository
    store = RegistryStore(place.registry)
    report_secs = seconds(os.environ, "REPORT_SECS", 30)
    driver = Driver(
        store, repo, lambda digest: promote(place, args.model, digest),
        clock=time.monotonic, sleep=time.sleep, say=show.say,
        report_secs=report_secs, node_secs=args.node_secs,
    )  # fmt: skip
    if args.pause:
        return show.row(start.change(store, repo, driver, start.paused, time.sleep))
    found: dict[str, Any] | None
    if args.to is not None:
        reference = place.reference(args.model, args.to)
        target, _, index = place.index(reference)
        signature.verify(place, repo, target, signature.public_keys())
        driver.lease.take(show.say)
        found = start.begin(driver, store, repo, args.model, _wish(args, target), show.say)
        if found is None:
            driver.lease.release()
            return {"state": "unchanged", "target": target}
        show.engines(found["order"], driver.report, index)
    elif args.resume or args.back:
        how = start.resumed if args.resume else start.backwards
        found = start.change(store, repo, driver, how, time.sleep)
        try:
            driver.lease.take(show.say)
        except HeldError as e:
            show.say(f"it is written down; {e.found} and carries it out")
            return show.row(found)
    else:
        return show.cluster(store, repo)
    if args.no_follow:
        driver.lease.release()
        return show.row(found)
    try:
        found = driver.run(found)
    except KeyboardInterrupt:
        show.say(f"left as it is; on with it: ./scripts/rollout {args.model} --resume, or --back")
        raise
    driver.lease.release()
    if found["state"] in (documents.GONE_BACK, documents.FAILED):
        raise ClusterError(
            f"{args.model}: the rollout of {found['target'][:19]} has {found['state'].replace('_', ' ')}: "
            f"{found['reason']}",
            remedy=f"./scripts/rollout {args.model} shows the nodes; --resume tries again",
        )
    return show.row(found)


def _wish(args: argparse.Namespace, target: str) -> Any:
    from cluster.rollout.start import Wish

    traffic = {k: v for k, v in (("share", args.share), ("shadow", args.shadow)) if v is not None}
    return Wish(
        target,
        args.canary,
        args.at_once,
        args.max_failed,
        args.observe,
        args.hold,
        traffic,
        tuple(args.first),
    )


def _count(text: str) -> int:
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def _whole(text: str) -> int:
    if int(text) < 0:
        raise ValueError(text)
    return int(text)


def _part(text: str) -> float:
    if not 0 <= float(text) <= 1:
        raise ValueError(text)
    return float(text)


def _secs(text: str) -> float:
    if not 0 <= float(text) <= 7 * 86400:
        raise ValueError(text)
    return float(text)


# argparse's own words for a wrong value name the function.
_count.__name__ = "number, 1 or more"
_whole.__name__ = "number, 0 or more"
_part.__name__ = "part, from 0 to 1"
_secs.__name__ = "number of seconds, up to a week"
