"""``tune`` as a command: what it is about, the folder of its state, what is said and written in the end."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

from ops import console
from ops.commands import bench
from ops.errors import OpsError
from ops.rollout import ask, serving
from ops.runtimes import environments
from ops.runtimes.detection import trtexec
from ops.runtimes.native import Native
from ops.runtimes.selection import current
from ops.settings import Settings, folder, load
from ops.tune import outcome, subject
from ops.tune.journal import Clock, Journal
from ops.tune.judge.objective import Objective
from ops.tune.measure.lab import Lab
from ops.tune.measure.meter import Meter
from ops.tune.measure.scratch import NICE
from ops.tune.session import Run
from ops.tune.subject import Subject, cores

_MINUTES = {"gpu": 15.0, "cpu": 4.0}


def run(args: argparse.Namespace) -> int:
    """Tune, and say what was found; the exit code."""
    settings = load()
    runtime = _native(settings, args.runtime)
    console.hide_details()
    with _alone(settings.models_dir / "tune" / "lock"):
        found = subject.find(runtime, settings, args.spec, args.calibration)
        objective = _objective(args, runtime.device)
        out = _out(args, settings, found)
        result = _tune(args, settings, runtime, found, objective)
        _write(runtime, settings, out, result)
        if args.apply and result["patch"]:
            result["applied"] = _apply(runtime, found, result["patch"])
            (out / "result.json").write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    if args.json:
        console.answer(result, "", as_json=True)
    else:
        _tell(result, found, out)
    return 0


def _native(settings: Settings, name: str) -> Native:
    runtime = current(settings, name)
    if not isinstance(runtime, Native):
        raise OpsError(
            "tune needs a stack without Docker: it starts a second server beside the live one",
            remedy="on a machine with the same GPU: ./scripts/up --runtime native, ./scripts/tune, and take "
            "the patch over",
        )
    serving(runtime)
    return runtime


def _objective(args: argparse.Namespace, device: str) -> Objective:
    clients = args.clients or ([1, 64, 256] if device == "gpu" else [1, 4 * cores(), 16 * cores()])
    return Objective(args.objective, tuple(clients), args.latency_budget_ms)


def _out(args: argparse.Namespace, settings: Settings, found: Subject) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    out: Path = args.out or settings.models_dir / "tune" / f"{stamp}-{found.model}"
    if out.exists():
        raise OpsError(f"{out} is there already", remedy="--out names a new folder")
    return out


def _tune(
    args: argparse.Namespace, settings: Settings, runtime: Native, found: Subject, objective: Objective
) -> Dict[str, Any]:
    """The run, with its state in a folder that is kept only while there is something to resume."""
    minutes = args.budget_minutes or _MINUTES[runtime.device]
    state = settings.models_dir / "tune" / "state" / found.model
    journal = _journal(state, found, objective, resume=args.resume)
    if journal.resumed:
        console.progress(f"going on after {journal.used():.0f} s: {journal.resumed} steps are done")
    try:
        meter = Meter(*_meter(settings, runtime, state), state / "meter.log")
        with Lab(found, runtime, objective, state, meter) as lab:
            clock = Clock(journal, 60 * minutes)
            gpu = runtime.server_command(state)[1].get("CUDA_VISIBLE_DEVICES") or settings.gpu_id
            run = Run(found, objective, runtime.device, gpu, lab, journal, clock)
            result = run.go()
    except BaseException:
        if journal.steps:
            console.progress(f"what was measured is kept: ./scripts/tune {args.spec} --resume goes on")
        else:
            shutil.rmtree(state, ignore_errors=True)
        raise
    shutil.rmtree(state)
    return result


def _journal(state: Path, found: Subject, objective: Objective, *, resume: bool) -> Journal:
    identity = {
        **found.identity(),
        "objective": objective.kind,
        "clients": list(objective.clients),
        "latency_budget_ms": objective.budget_ms,
    }
    if not resume and state.exists():
        console.progress("the last run was interrupted; without --resume it is forgotten")
        shutil.rmtree(state)
    return Journal(state / "journal.jsonl", identity, resume=resume)


def _meter(settings: Settings, runtime: Native, state: Path) -> Tuple[List[str], Dict[str, str]]:
    """What starts the meter, and its environment."""
    if runtime.setup:
        environments.ensure([bench.PERF])
    program, libraries = bench.perf_analyzer(setup=runtime.setup)
    argv = [runtime.python("client"), "-m", "triton_stack_client.tune", "meter"]
    argv += ["--perf-analyzer", program, "--libraries", libraries]
    argv += ["--volume", str(state / "volume"), "--nice", str(NICE)]
    env = {**runtime.server_command(state)[1], **settings.python_environment()}
    tool = trtexec() if runtime.device == "gpu" else None
    return argv, {**env, **({"TRTEXEC": tool} if tool else {})}


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """One tuning run at a time: two would measure each other."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OpsError("tune runs already: two would measure each other", remedy="wait for it") from None
        yield


def _write(runtime: Native, settings: Settings, out: Path, result: Dict[str, Any]) -> None:
    """result.json, report.html and, where something better was found, patch.yaml."""
    out.mkdir(parents=True)
    path = out / "result.json"
    path.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    if result["patch"]:
        (out / "patch.yaml").write_text(result["patch_text"] + "\n", "utf-8")
    done = subprocess.run(
        [runtime.python("client"), "-m", "triton_stack_client.tune", "report", str(path)],
        env=settings.python_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        console.progress(f"the page was not written: {done.stderr.strip().splitlines()[-1:]}")


def _apply(runtime: Native, found: Subject, changes: Dict[str, Any]) -> str:
    """Write the patch into the spec, or into a copy of one of ours; the file's path."""
    into = ["--into", str(folder("SPECS_DIR", "specs"))] if found.shipped else []
    answer = ask(runtime, "builder", ["patch", found.file, "--changes", json.dumps(changes), *into])
    return str(answer["file"])


def _tell(result: Dict[str, Any], found: Subject, out: Path) -> None:
    console.table(outcome.table(result["candidates"]))
    print(f"\n{result['conclusion']}")
    if result["patch"]:
        print(f"\nfor {found.file}:\n{outcome.yaml_text(result['patch'], '  ')}")
    for name, value in result["settings"].items():
        print(f"\nfor .env, and then ./scripts/down and ./scripts/up:\n  {name}={value}")
    print(f"\n{out}/report.html")
    if "applied" in result:
        print(f"written into {result['applied']}\nnext: ./scripts/redeploy --model {result['applied']}")
    elif result["patch"]:
        print(f"next: ./scripts/tune writes it with --apply, or change {found.file}; then ./scripts/redeploy")
