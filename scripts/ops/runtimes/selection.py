"""Which runtime a command works with: the one asked for, or the one that is there."""

from __future__ import annotations

from typing import Sequence

from ops.errors import OpsError
from ops.runtimes import environments
from ops.runtimes.base import Runtime
from ops.runtimes.docker import naming
from ops.runtimes.docker.compose import Compose
from ops.runtimes.native import Native
from ops.settings import Settings


def create(
    settings: Settings, runtime: str, device: str, *, setup: bool, profiles: Sequence[str] = ()
) -> Runtime:
    """The runtime called ``runtime`` ("docker" or "native"); ``profiles``: what to run beside the server."""
    kind = Compose if runtime == "docker" else Native
    return kind(settings, device, setup=setup, profiles=profiles)


def current(settings: Settings, runtime: str = "auto") -> Runtime:
    """The runtime that serves; where neither does, the one that has something published.

    Raises:
        OpsError: ``runtime`` is "docker" and no engine answers.
    """
    # A stopped stack of a machine that has no environments of ours was made with --no-setup.
    native = Native(settings, "cpu", setup=environments.python("builder").exists())
    running = native.process.state()
    if running is not None:
        native = Native(settings, running["device"], setup=running.get("setup", True))
        native.follow()
    if runtime == "native" or (runtime == "auto" and running is not None):
        return native
    found = naming.traces(settings)
    if runtime == "docker" and found is None:
        raise OpsError("no Docker Engine answers", remedy="./scripts/doctor")
    if runtime == "docker" or (found and (found.containers or (found.volume and not native.snapshot()))):
        docker = Compose(settings, naming.default_device(settings), setup=True)
        docker.follow()
        return docker
    return native
