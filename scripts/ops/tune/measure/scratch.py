"""A scratch server beside the live one: own ports, own repository, lower priority, gone whatever happens."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List, Optional, Set, Tuple

from ops.errors import OpsError
from ops.runtimes.native import Native
from ops.runtimes.server import Server, cause, errors
from ops.tune.judge.halving import LookFailedError

NICE = 10  # the live server has the processor before anything that tune runs
_START_SECS = 60.0
_LOAD_SECS = 120.0
_HOST = "127.0.0.1"
_KEEPER = Path(__file__).with_name("keeper.py")


class Scratch:
    """A server that has the candidates in ``repository`` and loads those it is told to.

    A context manager. Args:
        runtime: starts it as it starts the live one.
        repository: with a folder for each candidate.
        folder: for its backends and log; removed with it.
        settings: of the server, which differ from the live one's.

    Attributes:
        grpc: its address.

    Raises:
        OpsError: it does not start, in its own words.
    """

    def __init__(self, runtime: Native, repository: Path, folder: Path, settings: Dict[str, str]) -> None:
        self._folder = folder
        self._loaded: Set[str] = set()
        http_port, grpc_port, metrics_port = free_ports(3)
        self.grpc = f"{_HOST}:{grpc_port}"
        self._port = http_port
        self._server = Server(_HOST, http_port)
        self._log = folder.with_name(f"{folder.name}.log")
        argv, env = runtime.server_command(folder / "backends")
        env = {
            **env,
            **settings,
            "HTTP_PORT": str(http_port),
            "GRPC_PORT": str(grpc_port),
            "METRICS_PORT": str(metrics_port),
            "BIND_ADDRESS": _HOST,
            "MODEL_REPOSITORY": str(repository),
            "EXIT_TIMEOUT_SECS": "2",
        }
        job = {
            "argv": [*argv, "--model-control-mode=explicit"],
            "log": str(self._log),
            "nice": NICE,
            "folder": str(folder),
            "backends": str(folder / "backends") if runtime.device == "cpu" else None,
        }
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", str(_KEEPER)],
            stdin=subprocess.PIPE,
            env=env,
            text=True,
            start_new_session=True,
        )
        assert self._keeper.stdin is not None
        self._keeper.stdin.write(json.dumps(job) + "\n")
        self._keeper.stdin.flush()
        try:
            self._server.wait({}, _START_SECS, self._alive)
        except BaseException:
            self.close()
            raise

    def load(self, name: str) -> None:
        """Have it serve a candidate; raises LookFailedError with the server's reason."""
        if name in self._loaded:
            return
        status, body = self._ask(f"/v2/repository/models/{name}/load")
        if status != 200:
            raise LookFailedError(f"it does not load: {_reason(body)}")
        self._loaded.add(name)

    def unload(self, name: str) -> None:
        """Have it serve a candidate no longer; returns when its memory is free."""
        if name not in self._loaded:
            return
        self._loaded.discard(name)
        self._ask(f"/v2/repository/models/{name}/unload")
        deadline = time.monotonic() + _LOAD_SECS
        while self._server.ready(name, 1) and time.monotonic() < deadline:
            time.sleep(0.02)

    @property
    def ended(self) -> bool:
        """Whether it has ended by itself, and its keeper too."""
        return self._keeper.poll() is not None

    def answers(self) -> bool:
        """Whether it lives and hears; asks it."""
        return self._server.metadata() is not None

    @property
    def loaded(self) -> List[str]:
        """What it serves."""
        return sorted(self._loaded)

    def close(self) -> None:
        """Stop it, and wait until nothing of it is left."""
        if self._keeper.stdin is not None:
            with contextlib.suppress(OSError):
                self._keeper.stdin.close()
        self._keeper.wait()
        self._log.unlink(missing_ok=True)

    def _ask(self, path: str) -> Tuple[int, bytes]:
        connection = http.client.HTTPConnection(_HOST, self._port, timeout=_LOAD_SECS)
        try:
            connection.request("POST", path, body=b"{}")
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as e:
            why = self.last_words() if self.ended else str(e)
            raise LookFailedError(f"the scratch server does not answer: {why}") from e
        finally:
            connection.close()

    def last_words(self) -> str:
        """Why it ended, in a line."""
        return cause(self._log_lines()) or "it gave no reason"

    def _alive(self) -> None:
        if self.ended:
            raise OpsError(
                f"the scratch server ended: {self.last_words()}",
                details=errors(self._log_lines()),
                remedy="./scripts/status; the live server is not touched",
            )

    def _log_lines(self) -> List[str]:
        try:
            return self._log.read_text("utf-8", "replace").splitlines()[-200:]
        except OSError:
            return []


def free_ports(count: int) -> List[int]:
    """TCP ports of this machine that nobody listens on just now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind((_HOST, 0))
        return [int(s.getsockname()[1]) for s in sockets]
    finally:
        for s in sockets:
            s.close()


def _reason(body: bytes) -> str:
    try:
        reason: Optional[str] = json.loads(body).get("error")
    except (ValueError, AttributeError):
        reason = None
    return (reason or body.decode("utf-8", "replace"))[:300]
