"""The smoke test: does the server serve what was released, and nothing else?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

from triton_stack_client.errors import ClientError, ServerError
from triton_stack_client.transport.protocol import Connection
from triton_stack_client.verify import metrics
from triton_stack_client.verify.golden import Golden, Tally
from triton_stack_client.verify.release import Release
from triton_stack_client.verify.report import Finding

_SETTLE = 3.0  # seconds for the counters to catch up with the answers


class Smoke:
    """Smoke tests one server.

    Args:
        host: of the server.
        http, grpc, metrics_port: its ports.
        timeout: seconds for each answer.
    """

    def __init__(self, host: str, http: int, grpc: int, metrics_port: int, timeout: float) -> None:
        self._metrics = f"{host}:{metrics_port}"
        self._timeout = timeout
        self._connections = [
            Connection("http", f"{host}:{http}", timeout),
            Connection("grpc", f"{host}:{grpc}", timeout),
        ]

    def run(self, releases: list[Release]) -> Iterator[Finding]:
        """Yield a finding for each check as it is made."""
        up = True
        for connection in self._connections:
            finding = _check(
                "server", f"{connection.protocol} {connection.address}", partial(_live, connection)
            )
            up = up and finding.ok
            yield finding
        finding = _check("server", f"metrics {self._metrics}", self._prometheus)
        yield finding
        if not (up and finding.ok):
            return
        for release in releases:
            yield from self._model(release)

    def _prometheus(self) -> str:
        text = metrics.fetch(self._metrics, self._timeout)
        families = text.count("# TYPE ")
        if not families:
            raise ServerError(f"{self._metrics} does not answer with Prometheus text")
        return f"{families} metric families"

    def _model(self, release: Release) -> Iterator[Finding]:
        name = f"{release.model} version {release.version}"
        golden = Golden(release)
        tally = Tally()
        before = metrics.parse(metrics.fetch(self._metrics, self._timeout), release.model, release.version)
        for connection in self._connections:
            p = connection.protocol
            yield _check(name, f"{p}: ready, metadata as released", partial(contract, connection, release))
            yield _check(name, f"{p}: golden samples singly", partial(golden.singly, connection, tally))
            for size in golden.batches():
                batched = partial(golden.batched, connection, size, tally)
                yield _check(name, f"{p}: golden samples, batch {size}", batched)
            for point in release.points():
                end = partial(Golden(release, point).batched, connection, release.max_batch, tally)
                yield _check(name, f"{p}: golden samples, free dimensions at {point}", end)
            for what, ask in golden.refusals():
                yield _check(name, f"{p}: refuses {what}", partial(_refused, connection, ask))
        yield _check(name, "metrics: grew by what was asked", partial(self._counted, release, before, tally))
        note = " (labels and scores mean nothing)" if release.untrained else ""
        yield Finding(name, "weights", True, release.weights + note)

    def _counted(self, release: Release, before: metrics.Counters, tally: Tally) -> str:
        deadline = time.monotonic() + _SETTLE
        while True:
            after = metrics.parse(metrics.fetch(self._metrics, self._timeout), release.model, release.version)
            requests = after.requests - before.requests
            inferences = after.inferences - before.inferences
            if (requests, inferences) == (tally.requests, tally.inferences):
                return f"{requests} requests, {inferences} inferences"
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
        figures = (
            f"requests grew by {requests}, inferences by {inferences}; "
            f"we made {tally.requests} and {tally.inferences}"
        )
        if requests > tally.requests and inferences > tally.inferences and self._others(release, after):
            return f"{figures}; other clients are at work"
        raise ServerError(figures)

    def _others(self, release: Release, seen: metrics.Counters) -> bool:
        """Whether the counters go on growing while we ask nothing, for three seconds at most."""
        for _ in range(6):
            time.sleep(0.5)
            text = metrics.fetch(self._metrics, self._timeout)
            if metrics.parse(text, release.model, release.version).requests > seen.requests:
                return True
        return False


def _check(model: str, check: str, act: Callable[[], str]) -> Finding:
    try:
        return Finding(model, check, True, act())
    except ClientError as e:
        return Finding(model, check, False, str(e))


def _live(connection: Connection) -> str:
    if not connection.live():
        raise ServerError("answers that it is not live")
    return "live"


def contract(connection: Connection, release: Release) -> str:
    """The platform that serves the release; raises ServerError when its interface is another."""
    if not connection.ready(release.model, release.version):
        raise ServerError(f"version {release.version} is not ready")
    found = connection.metadata(release.model, release.version)
    wanted = {
        "inputs": {t.name: (t.dtype, [-1, *t.dims]) for t in release.inputs},
        "outputs": {t.name: (t.dtype, [-1, *t.dims]) for t in release.outputs},
    }
    for side, tensors in wanted.items():
        served = {t["name"]: (t["datatype"], t["shape"]) for t in found.get(side, [])}
        if served != tensors:
            raise ServerError(f"serves the {side} {served}; released were {tensors}")
    if str(release.version) not in found.get("versions", []):
        raise ServerError(f"serves versions {found.get('versions')}")
    return str(found.get("platform", ""))


def _refused(connection: Connection, ask: Callable[[Connection], object]) -> str:
    try:
        ask(connection)
    except ServerError as e:
        reason = e.found.split(": ", 1)[-1].replace("[request id: <id_unknown>]", "").strip()
        if not e.refused or not reason:
            raise
        return reason if len(reason) <= 70 else f"{reason[:67]}..."
    raise ServerError("the server answered it")
