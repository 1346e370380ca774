"""What the gateway costs: perf_analyzer, unchanged but for the address, the certificate and the key.

Direct and through the gateway in turns, since other work on the machine comes and goes; the best of each
counts. On a machine that is busy with something else the figures are printed, and prove nothing.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ops.commands.bench import perf_analyzer
from ops.runtimes import environments
from support.gateway import Gateway
from support.models import write_noop, write_slow
from support.stack import Stack

ROUNDS = 2
RESNET50_MS = 30  # of one core for one picture: 27 and 33 on the two processors that were measured


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Gateway]]:
    """``noop`` takes a picture's 150 kB and does nothing with it; ``slow`` computes for some milliseconds."""
    folder = tmp_path_factory.mktemp("speed")
    stack = Stack(folder / "models")
    stack.up(write_noop(folder / "spec"), write_slow(folder / "spec"))
    with Gateway(stack, folder / "gateway") as gateway:
        yield stack, gateway
    stack.kill()


@pytest.fixture
def others() -> float:
    """The share of this machine's processors that something else takes, before the test."""
    return taken()


def taken() -> float:
    """The share of this machine's processors that is taken just now."""
    began, before = time.monotonic(), busy()
    time.sleep(1)
    return (busy() - before) / (time.monotonic() - began) / (os.cpu_count() or 1)


def judge(holds: bool, figures: object, others: float) -> None:
    """Fail where it does not hold; skip instead where the machine was busy with something else.

    Args:
        others: the share of the processors that something else took before; it is looked at once more.
    """
    if not holds:
        others = max(others, taken())
    if not holds and others > 0.2:
        pytest.skip(f"something else takes {others:.0%} of this machine's processors: {figures}")
    assert holds, figures


def busy() -> float:
    """Seconds of processor time that anything has taken since the boot."""
    user, nice, system, *_ = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def analyzer(*args: str) -> tuple[float, float]:
    """Inferences a second, and the median latency in ms."""
    if not (environments.FOLDER / "perf").exists():
        environments.ensure(["perf"])
    program, libraries = perf_analyzer(setup=True)
    env = {**os.environ, "LD_LIBRARY_PATH": libraries}
    argv = [program, *args, "--stability-percentage", "999", "--max-trials", "3", "--percentile", "50"]
    argv += ["--measurement-mode", "count_windows"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120, check=False)
    found = re.search(r"throughput: ([\d.]+) infer/sec, latency (\d+) usec", done.stdout)
    assert found, done.stdout + done.stderr
    return float(found[1]), float(found[2]) / 1000


def through(gateway: Gateway, protocol: str) -> list[str]:
    """The options that a client of the gateway adds."""
    ca = str(gateway.ca)
    tls = {
        "grpc": ["--ssl-grpc-use-ssl", "--ssl-grpc-root-certifications-file", ca],
        "http": ["--ssl-https-ca-certificates-file", ca],
    }[protocol]
    scheme = "https://" if protocol == "http" else ""
    return [
        "-u", f"{scheme}localhost:{gateway.port}", *tls, "-H", f"authorization: Bearer {gateway.key}"
    ]  # fmt: skip


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_one_client_waits_a_millisecond_longer_at_most(
    behind: tuple[Stack, Gateway], protocol: str, others: float
) -> None:
    stack, gateway = behind
    plain = ["-u", f"localhost:{stack.http if protocol == 'http' else stack.grpc}"]
    common = ["-m", "noop", "-i", protocol, "--concurrency-range", "1", "--measurement-request-count", "300"]
    direct, gated = list[float](), list[float]()

    def holds() -> bool:
        """A millisecond, or a fifth more than the request itself takes where that is longer: on a virtual
        machine whose processors wake up slowly one hop is 0.9 ms, and the request to a no-op model 1.05."""
        return min(gated) - min(direct) <= max(1.0, 1.2 * min(direct))

    while len(gated) < ROUNDS or (not holds() and len(gated) < 4 * ROUNDS):
        direct.append(analyzer(*common, *plain)[1])
        gated.append(analyzer(*common, *through(gateway, protocol))[1])
    print(
        f"{protocol}, 150 kB, one client: p50 {min(direct):.2f} ms, through the gateway {min(gated):.2f} ms"
    )
    judge(holds(), (direct, gated), others)


def test_a_server_that_computes_gives_nine_tenths_at_least(
    behind: tuple[Stack, Gateway], tmp_path: Path, others: float
) -> None:
    stack, gateway = behind
    data = tmp_path / "data.json"
    common = ["-m", "slow", "-i", "grpc", "--concurrency-range", "4", "--input-data", str(data)]
    common += ["--measurement-request-count", "100"]
    plain = ["-u", f"localhost:{stack.grpc}"]
    # The work of one request, made so much that it takes as long as ResNet50 does here.
    work = 20.0
    for _ in range(2):
        data.write_text(json.dumps({"data": [{"x": [work]}]}))
        work *= RESNET50_MS * analyzer(*common, *plain)[0] / (1000 * (os.cpu_count() or 1))
    data.write_text(json.dumps({"data": [{"x": [work]}]}))
    direct, gated, ratios = [analyzer(*common, *plain)[0]], list[float](), list[float]()
    while len(ratios) < ROUNDS or (max(ratios) < 0.9 and len(ratios) < 3 * ROUNDS):
        gated.append(analyzer(*common, *through(gateway, "grpc"))[0])
        direct.append(analyzer(*common, *plain)[0])
        ratios.append(2 * gated[-1] / sum(direct[-2:]))  # of what was seen just before and after
        print(f"saturated: {direct[-1]:.0f}/s direct, {gated[-1]:.0f}/s gated ({ratios[-1]:.3f})")
    judge(max(ratios) >= 0.9, (direct, gated), others)
