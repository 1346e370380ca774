"""A real registry (docker-registry, from Debian) for tests."""

from __future__ import annotations

import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.stack import free_ports

_CONFIG = """version: 0.1
log: {{accesslog: {{disabled: false}}, level: info}}
storage:
  filesystem: {{rootdirectory: {folder}/blobs}}
  delete: {{enabled: {delete}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


class Server:
    """A registry that keeps its blobs in ``folder``/blobs and its log in ``folder``/log; ``host``: host:port.

    It can be stopped and started again, on the same port and with the same blobs.
    """

    def __init__(self, folder: Path, *, delete: bool = True) -> None:
        program = shutil.which("docker-registry")
        if program is None:
            pytest.skip("this machine has no docker-registry (apt-get install docker-registry)")
        (port,) = free_ports(1)
        self.host = f"127.0.0.1:{port}"
        config = folder / "config.yml"
        config.write_text(_CONFIG.format(folder=folder, port=port, delete=str(delete).lower()))
        self._argv, self._log = [program, "serve", str(config)], folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._argv, stdout=log, stderr=subprocess.STDOUT)
        _wait(f"http://{self.host}/v2/", self._process, self._log)

    def stop(self) -> None:
        """Until it has ended."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None


@contextmanager
def running(folder: Path, *, delete: bool = True) -> Iterator[str]:
    """A registry for as long as it is needed: host:port."""
    server = Server(folder, delete=delete)
    try:
        server.start()
        yield server.host
    finally:
        server.stop()


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            if process.poll() is not None or time.monotonic() > end:
                pytest.fail(f"the registry does not answer:\n{log.read_text()[-2000:]}")
            time.sleep(0.05)
