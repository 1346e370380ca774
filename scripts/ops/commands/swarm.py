"""``swarm``: print the stack file for Docker Swarm, made from the Compose files.

    ./scripts/swarm --push --output stack.yaml && docker stack deploy -c stack.yaml triton

Progress, and what Swarm does not do, go to standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

from ops import console
from ops.errors import OpsError
from ops.runtimes.docker.naming import CPU_FILE
from ops.services.containers import FILES, SERVICES
from ops.settings import ROOT, load, value

_PROFILES = ("serve", "agent", "gateway")


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("--output", metavar="FILE", help="write it here, not to standard output")
    parser.add_argument(
        "--registry", default=value("REGISTRY"), metavar="HOST[:PORT][/PATH]",
        help="where every node finds our images (default: REGISTRY in .env)",
    )  # fmt: skip
    parser.add_argument("--tag", default="", help="of our images there (default: as in the Compose files)")
    parser.add_argument("--push", action="store_true", help="push our images, built before by ./scripts/up")
    parser.add_argument(
        "--device",
        choices=("auto", "gpu", "cpu"),
        default="auto",
        help="of the nodes (auto: what COMPOSE_FILE says)",
    )
    parser.add_argument(
        "--ports", choices=("ingress", "host"), default="ingress",
        help="ingress: any node leads to a gateway; host: a gateway on every node, for that node's address",
    )  # fmt: skip
    parser.add_argument(
        "--profile", action="append", default=[], choices=sorted(set(SERVICES) - set(_PROFILES)),
        help="put this beside it too",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """0 when the file is written."""
    if not args.registry:
        raise OpsError(
            "there is no registry: the nodes of a swarm take our images from one",
            remedy="REGISTRY=host:port in .env, or --registry",
        )
    made = _made(args, _project(args))
    for note in made["notes"]:
        console.progress(f"not in Swarm: {note}")
    if args.push:
        _push(made["images"])
    if args.output:
        Path(args.output).write_text(made["stack"], "utf-8")
        console.progress(f"{args.output} is written: docker stack deploy -c {args.output} triton")
    if args.json:
        print(json.dumps(made, indent=2))
    elif not args.output:
        print(made["stack"], end="")
    return 0


def _project(args: argparse.Namespace) -> str:
    """The Compose files, resolved, as JSON."""
    files = [f for f in load().docker["COMPOSE_FILE"].split(":") if f]
    if args.device != "auto":
        files = [f for f in files if f != CPU_FILE] + ([CPU_FILE] if args.device == "cpu" else [])
    files += [f for f in FILES.values() if f not in files]
    argv = ["docker", "compose"]
    argv += [word for profile in (*_PROFILES, *args.profile) for word in ("--profile", profile)]
    env = {
        **os.environ,
        "COMPOSE_FILE": ":".join(files),
        "COMPOSE_PATH_SEPARATOR": ":",
        "COMPOSE_PROFILES": "",
        # Where the nodes' agents find releases: beside our images, unless .env says otherwise.
        "REGISTRY": value("REGISTRY") or args.registry,
    }
    try:
        done = subprocess.run(
            [*argv, "config", "--format", "json"],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as e:
        raise OpsError(f"docker cannot be run: {e.strerror}", remedy="./scripts/doctor") from e
    if done.returncode:
        raise OpsError("the Compose files are refused", details=done.stderr.strip()[-1000:])
    return done.stdout


def _made(args: argparse.Namespace, project: str) -> Dict[str, Any]:
    """What cluster.swarm answers."""
    argv = [sys.executable, "-m", "cluster.swarm", f"--registry={args.registry}", f"--tag={args.tag}"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*argv, f"--ports={args.ports}"], input=project, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True,
        check=False,
    )  # fmt: skip
    if not done.stdout:
        raise OpsError("no stack file was made (the program's own words are above)")
    answer: Dict[str, Any] = json.loads(done.stdout)
    if "error" in answer:
        raise OpsError(answer["error"]["found"], remedy=answer["error"]["remedy"])
    return answer


def _push(images: Dict[str, str]) -> None:
    for here, there in images.items():
        console.progress(f"pushing {there}")
        for argv in (["tag", here, there], ["push", "--quiet", there]):
            _docker(argv, here)


def _docker(argv: List[str], image: str) -> None:
    done = subprocess.run(["docker", *argv], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OpsError(
            f"docker {argv[0]} {image} failed",
            details=done.stderr.strip()[-1000:],
            remedy="./scripts/up builds the images; docker login is for a registry that wants a name",
        )
