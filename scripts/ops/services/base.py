"""A native process beside Triton: what to start, on which ports, and how to tell that it is ready."""

from __future__ import annotations

import http.client
from dataclasses import dataclass
from typing import Callable, Dict, List, Tuple

from gateway import keys
from gateway.errors import GatewayError
from ops.errors import OpsError
from ops.settings import Settings


@dataclass(frozen=True)
class Command:
    """How a service is started: its arguments, and what its environment has besides the settings."""

    argv: List[str]
    env: Dict[str, str]


class Service:
    """One service of a profile. A class attribute each, and three methods to write.

    Args:
        settings: the running server's, where one runs.
        python: the interpreter of an environment, by the environment's name.

    Attributes:
        name: of the process in messages, and of its state and log files in MODELS_DIR/run.
        profile: the word after ``up --profile``.
        parts: the environments it needs (ops.runtimes.environments).
        seconds: how long it may take to be ready.
    """

    name = ""
    profile = ""
    parts: Tuple[str, ...] = ()
    seconds = 30.0

    def __init__(self, settings: Settings, python: Callable[[str], str]) -> None:
        self.settings = settings
        self.python = python

    def command(self) -> Command:
        """What to run."""
        raise NotImplementedError

    def ending(self) -> float:
        """Seconds that it gets to end before it is killed."""
        return self.settings.exit_timeout_secs + 15

    def ports(self) -> Dict[str, int]:
        """The ports that it listens on, by the variable that sets each."""
        raise NotImplementedError

    def ready(self) -> bool:
        """Whether it does its work."""
        raise NotImplementedError

    def shows(self) -> Dict[str, str]:
        """Where people find it: a label and an address each, for `up` and `status`."""
        return {}

    def missing(self) -> str:
        """Why it cannot run here and what to do about it, where the rest can do without it; else empty."""
        return ""

    def prepare(self) -> None:
        """What has to be there before it starts; raises OpsError."""


def keys_file(settings: Settings) -> None:
    """Make the file of API keys where it is missing, to be watched or mounted; raises OpsError."""
    try:
        keys.touch(settings.keys_file)
    except GatewayError as e:
        raise OpsError(e.found, remedy=e.remedy or "set KEYS_FILE in the environment or in .env") from e


def answers(port: int, path: str, host: str = "127.0.0.1") -> bool:
    """Whether GET answers 200 there, in plain HTTP and without a proxy."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
