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


@contextmanager
def running(folder: Path, *, delete: bool = True) -> Iterator[str]:
    """A registry that keeps its blobs in ``folder``/blobs and its log in ``folder``/log: host:port."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("this machine has no docker-registry (apt-get install docker-registry)")
    (port,) = free_ports(1)
    config = folder / "config.yml"
    config.write_text(_CONFIG.format(folder=folder, port=port, delete=str(delete).lower()))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", str(config)], stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait(f"http://127.0.0.1:{port}/v2/", process, folder / "log")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


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
