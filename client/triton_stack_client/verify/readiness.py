"""Prove one version: it becomes ready, it is the released configuration, it gives the golden answers."""

from __future__ import annotations

import time
from typing import Any

from models_volume.readiness import reason
from triton_stack_client import progress
from triton_stack_client.errors import ServerError
from triton_stack_client.transport.protocol import Connection
from triton_stack_client.verify.golden import Golden, Tally
from triton_stack_client.verify.release import Release
from triton_stack_client.verify.smoke import contract

_NEWS = 5.0  # seconds after which one says again that one waits
_LOOK = 0.1  # seconds between two looks at a version that is not ready


def prove(
    release: Release, host: str, http: int, grpc: int, timeout: float, deadline: float, stale: str = ""
) -> dict[str, Any]:
    """Wait for the version and send the golden samples over HTTP and gRPC, addressed to that version.

    Args:
        timeout: seconds for each answer.
        deadline: seconds for the version to become ready.
        stale: Triton's reason from an earlier attempt with the same number, which is not this one's.

    Returns:
        {"ready_seconds", "prove_seconds"}.

    Raises:
        ServerError: it did not become ready (with Triton's reason), or answers otherwise than released.
    """
    began = time.monotonic()
    connections = [
        Connection("http", f"{host}:{http}", timeout),
        Connection("grpc", f"{host}:{grpc}", timeout),
    ]
    _wait(connections[0], release, deadline, stale)
    ready = time.monotonic()
    golden, tally = Golden(release), Tally()
    for connection in connections:
        _same_release(connection, release)
        contract(connection, release)
        golden.singly(connection, tally)
        for size in golden.batches():
            golden.batched(connection, size, tally)
        for point in release.points():
            Golden(release, point).batched(connection, release.max_batch, tally)
        connection.close()
    return {
        "ready_seconds": round(ready - began, 3),
        "prove_seconds": round(time.monotonic() - ready, 3),
        "requests": tally.requests,
    }


def _wait(connection: Connection, release: Release, deadline: float, stale: str) -> None:
    began = told = time.monotonic()
    end = began + deadline
    while True:
        try:
            if connection.ready(release.model, release.version):
                return
        except ServerError as e:
            why = e.found  # the server may be starting
        else:
            why = _failure(connection, release)
            if why and why != stale:
                raise ServerError(f"Triton did not load version {release.version}: {why}")
        if time.monotonic() > end:
            raise ServerError(
                f"version {release.version} was not ready within {deadline:.0f} s"
                + (f": {why}" if why else " and Triton gives no reason")
            )
        if time.monotonic() - told >= _NEWS:
            told = time.monotonic()
            progress.say(
                f"{release.model}: version {release.version} is not there yet after {told - began:.0f} s "
                f"of at most {deadline:.0f}"
            )
        time.sleep(_LOOK)


def _failure(connection: Connection, release: Release) -> str:
    """Triton's reason for not serving the version; empty while it has none."""
    try:
        return reason(connection.index(), release.model, release.version)
    except ServerError:
        return ""


def _same_release(connection: Connection, release: Release) -> None:
    """An engine must never run under another release's configuration."""
    parameters = connection.config(release.model, release.version).get("parameters", {})
    found = parameters.get("release", {}).get("string_value")
    if found != str(release.version):
        raise ServerError(f"version {release.version} is served with the configuration of release {found}")
