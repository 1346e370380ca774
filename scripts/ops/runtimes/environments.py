"""Virtual environments, one a component, from the lock files that the containers use too."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List, Optional, TextIO

from ops import console
from ops.errors import OpsError
from ops.runtimes import uv
from ops.settings import ROOT, folder

PYTHONS = ((3, 10), (3, 13))  # what the lock files are resolved for
FOLDER = folder("VENVS_DIR", ".venvs")
# Disk of each environment in MiB, measured on CPython 3.11; the first is nearly all TensorFlow.
DISK_MIB = {
    "builder": 1700,
    "triton": 300,
    "client": 150,
    "perf": 250,
    "gateway": 30,
    "scripts": 20,
    "tests": 700,
}
_NEWS = 10.0  # seconds between two words on something that takes long
# Where a component's lock file is, when not in the folder of its name.
_LOCKS = {"perf": "client/bench"}


def parts(device: str) -> List[str]:
    """The environments that running without Docker needs."""
    return ["builder", "client"] if device == "gpu" else ["builder", "triton", "client"]


def supported() -> Optional[str]:
    """Why this interpreter will not do; None when it will."""
    version = sys.version_info[:2]
    if PYTHONS[0] <= version <= PYTHONS[1]:
        return None
    low, high = (".".join(map(str, v)) for v in PYTHONS)
    return f"this is Python {sys.version.split()[0]}; the lock files are for {low} to {high}"


def python(part: str) -> Path:
    """The interpreter of a component's environment, whether it exists yet or not."""
    return FOLDER / part / "bin" / "python3"


def stale(parts: List[str]) -> List[str]:
    """Which of the components' environments are missing or made from another lock file."""
    return [p for p in parts if not _fresh(p)]


def ensure(parts: List[str]) -> None:
    """Make the environments that are missing or stale, all at the same time.

    Raises:
        OpsError: one cannot be made, with pip's own last lines.
    """
    if not stale(parts):
        return
    reason = supported()
    if reason:
        raise OpsError(reason, remedy="run this with one of those: python3.12 ./scripts/up")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / ".lock").open("w") as lock:
        _wait_for(lock)
        _install(stale(parts))


def _wait_for(lock: TextIO) -> None:
    """Take the lock of ``FOLDER``; says so when another command's set-up has to be waited for."""
    began = told = time.monotonic()
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if told == began or time.monotonic() - told > _NEWS:
                told = time.monotonic()
                console.progress(
                    f"set-up: waiting for another command, which is installing into {FOLDER}, "
                    f"{told - began:.0f} s"
                )
            time.sleep(0.2)
        else:
            return


def _install(todo: List[str]) -> None:
    if not todo:
        return
    began = time.monotonic()
    with_uv = uv.program() is not None and uv.environment(uv.pip_settings()) is not None
    console.progress(f"set-up: installing {', '.join(todo)} into {FOLDER}{' with uv' if with_uv else ''}")
    jobs: Dict[str, subprocess.Popen[bytes]] = {}
    try:
        for part in todo:
            jobs[part] = _start(part, with_uv=with_uv)
        _await(jobs, began, with_uv=with_uv)
    finally:
        for job in jobs.values():
            if job.poll() is None:
                job.kill()
                job.wait()
    for part in todo:
        (FOLDER / part / ".lock-hash").write_text(_hash(part), "utf-8")
    console.progress(f"set-up: done in {time.monotonic() - began:.0f} s")


def _await(jobs: Dict[str, subprocess.Popen[bytes]], began: float, *, with_uv: bool) -> None:
    """Wait for all; what uv failed at is tried again with pip. Raises OpsError when a part failed."""
    told = began
    again = set(jobs) if with_uv else set()  # what pip has not tried yet
    waiting = list(jobs)
    while waiting:
        for part in list(waiting):
            code = jobs[part].poll()
            if code == 0:
                waiting.remove(part)
            elif code is not None and part in again:
                again.remove(part)
                console.progress(f"set-up: uv did not install {part} (see {_kept_log(part)}); pip does")
                jobs[part] = _start(part, with_uv=False)
            elif code is not None:
                raise _failed(part)
        if waiting and time.monotonic() - told > _NEWS:
            told = time.monotonic()
            console.progress(f"set-up: still installing {', '.join(waiting)}, {told - began:.0f} s")
        if waiting:
            time.sleep(0.1)


def _failed(part: str) -> OpsError:
    log = _log(part).read_text("utf-8", "replace")
    errors = [x for x in log.splitlines() if x.startswith("ERROR")] or log.splitlines()[-5:]
    return OpsError(
        f"set-up of {part} failed",
        details="\n".join(line[:300] for line in errors[-5:]),
        remedy=f"see {_log(part)}; is a package index reachable (pip config list)? On a machine "
        "without one: install the lock files' packages yourself and use --no-setup",
    )


def _start(part: str, *, with_uv: bool) -> subprocess.Popen[bytes]:
    """Make the environment of a part anew and begin to install its lock file."""
    folder = FOLDER / part
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    outer = with_uv or _pip_can_install_elsewhere()
    # A pip of its own is seconds and megabytes that no environment needs, and Debian's python3 cannot even
    # make one without the package python3-venv.
    made = subprocess.run(
        [sys.executable, "-m", "venv", *(["--without-pip"] if outer else []), str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise OpsError(
            f"{sys.executable} cannot make a virtual environment",
            details=(made.stdout + made.stderr).strip()[-800:],
            remedy=f"apt-get install python3-venv, or python{sys.version_info[0]}.{sys.version_info[1]}-venv",
        )
    program = uv.program() if with_uv else None
    if program is not None:
        command = uv.command(program, str(python(part)), str(_lock_file(part)))
        env = uv.environment(uv.pip_settings())
        with _log(part).open("wb") as log:
            return subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
    target = ["-m", "pip", "--python", str(python(part))] if outer else ["-m", "pip"]
    with _log(part).open("wb") as log:
        return subprocess.Popen(
            [
                sys.executable if outer else str(python(part)), *target, "install",
                # The lock files are complete: --no-deps, so that nothing unpinned can come in.
                "--no-deps", "--require-hashes", "--no-input", "--disable-pip-version-check",
                "-r", str(_lock_file(part)),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )  # fmt: skip


def _pip_can_install_elsewhere() -> bool:
    """``pip --python`` came with pip 22.3."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--version"], capture_output=True, text=True, check=False
    )
    words = done.stdout.split()
    if done.returncode or len(words) < 2:
        return False
    version = tuple(int(n) for n in words[1].split(".")[:2] if n.isdigit())
    return version >= (22, 3)


def _kept_log(part: str) -> Path:
    """The log of an attempt with uv, out of the way of pip's."""
    return _log(part).replace(FOLDER / f"{part}.uv.log")


def _log(part: str) -> Path:
    return FOLDER / f"{part}.log"


def _lock_file(part: str) -> Path:
    return ROOT / _LOCKS.get(part, part) / "requirements.txt"


def _hash(part: str) -> str:
    lock = _lock_file(part).read_bytes()
    return hashlib.sha256(lock + sys.version.encode() + sys.executable.encode()).hexdigest()


def _fresh(part: str) -> bool:
    stamp = FOLDER / part / ".lock-hash"
    return stamp.is_file() and stamp.read_text("utf-8") == _hash(part) and python(part).exists()
