"""A residual network as served here: 2,000 pictures in one call, and what Triton adds to onnxruntime alone.

Everything is compared with something measured a moment before or after it on the same machine.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ops.commands import bench
from ops.errors import OpsError
from ops.runtimes import environments
from support.models import write_noop
from support.pictures import photograph
from support.resnet import write_resnet
from support.stack import PACKAGES, ROOT, Stack
from triton_stack_client.bench import latency, saturation
from triton_stack_client.bench.baseline_process import BaselineProcess
from triton_stack_client.bench.perf import PerfAnalyzer
from triton_stack_client.transport.protocol import Connection
from triton_stack_client.verify import release
from triton_stack_client.verify.release import Release

BATCH, CONCURRENCY = 8, 4
PICTURES = 2000


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("served") / "models")
    folder = tmp_path_factory.mktemp("models")
    stack.up(
        write_resnet(folder, name="resnet50"),
        write_resnet(folder, name="resnet26", blocks=(2, 2, 2, 2)),
        write_noop(folder),
    )
    yield stack
    stack.stop()


@pytest.fixture(scope="module")
def resnet50(served: Stack) -> Release:
    return release.live(served.models_dir, ["resnet50"])[0]


@pytest.fixture
def perf(served: Stack, tmp_path: Path) -> Callable[[str], PerfAnalyzer]:
    """perf_analyzer on a model."""
    environments.ensure([bench.PERF])
    try:
        program, libraries = bench.perf_analyzer(setup=True)
    except OpsError as e:
        pytest.skip(f"no perf_analyzer here: {e.found}")
    urls = {"grpc": f"127.0.0.1:{served.grpc}"}
    return lambda model: PerfAnalyzer(
        str(program), str(libraries), release.live(served.models_dir, [model])[0], urls, tmp_path
    )


@pytest.fixture
def local(served: Stack, resnet50: Release) -> Iterator[BaselineProcess]:
    config = Connection("http", f"127.0.0.1:{served.http}", 10).config("resnet50", resnet50.version)
    command = [str(environments.python("triton")), str(ROOT / "triton" / "cpu" / "baseline.py")]
    with BaselineProcess(command, resnet50, config) as local:
        yield local


def pictures(folder: Path) -> Path:
    """2,000 links to 20 photographs, of a size that leaves the cores to the model."""
    folder.mkdir()
    for n in range(20):
        photograph(256, 256, n).save(folder.parent / f"{n}.jpg", quality=90)
    for n in range(PICTURES):
        (folder / f"{n:05}.jpg").symlink_to(folder.parent / f"{n % 20}.jpg")
    return folder


def classify(stack: Stack, folder: Path, out: Path) -> tuple[float, list[int]]:
    """Seconds from the first picture to the last by its own account, and its memory in MB as it went."""
    command = [
        str(environments.python("client")), "-m", "triton_stack_client", "classify", str(folder),
        "--model", "resnet26", "--json", "--top", "1", "--shared-memory", "off",
        "--batch", str(BATCH), "--concurrency", str(CONCURRENCY),
    ]  # fmt: skip
    memory = []
    with out.open("wb") as file:
        process = subprocess.Popen(
            command, env={**stack.env, "PYTHONPATH": PACKAGES}, cwd=ROOT, stdout=file, stderr=subprocess.PIPE
        )
        while process.poll() is None:
            rss = [
                line.split()[1]
                for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
                if line.startswith("VmRSS")
            ]
            memory += [int(kib) // 1024 for kib in rss]
            time.sleep(0.5)
        text = process.communicate()[1].decode()
    assert process.returncode == 0, text
    return float(text.split(" pictures, ")[1].split(" s,")[0]), memory


@pytest.mark.timeout(600)
def test_2000_pictures_in_one_call(
    served: Stack, perf: Callable[[str], PerfAnalyzer], tmp_path: Path
) -> None:
    """At least 0.9 of perf_analyzer's rate at the same batch and concurrency, in memory that stays flat.

    The best of three calls, because others on the machine may matter.
    """

    analyzer = perf("resnet26")

    def generator() -> float:
        return analyzer.count("grpc", BATCH, CONCURRENCY, requests=8 * CONCURRENCY).images_per_s

    folder = pictures(tmp_path / "pictures")
    rates, ratios = [generator()], list[float]()
    while not ratios or (max(ratios) < 0.9 and len(ratios) < 3):
        seconds, memory = classify(served, folder, tmp_path / "out.json")
        rates.append(generator())
        ours, theirs = PICTURES / seconds, sum(rates[-2:]) / 2
        ratios.append(ours / theirs)
        early, late = max(memory[: len(memory) // 4]), max(memory[len(memory) // 4 :])
        print(
            f"classify {ours:.1f} images/s, perf_analyzer {rates[-2]:.1f} before and {rates[-1]:.1f} after "
            f"({ratios[-1]:.3f}); {early} MB in the first quarter, {late} MB later"
        )
        assert len(json.loads((tmp_path / "out.json").read_text())["results"]) == PICTURES
        assert late <= 1.1 * early
    assert max(ratios) >= 0.9, ratios


@pytest.mark.timeout(300)
def test_a_single_request_takes_little_longer_than_onnxruntime_alone(
    served: Stack, resnet50: Release, local: BaselineProcess, perf: Callable[[str], PerfAnalyzer]
) -> None:
    """p50 at batch 1 with the same threads: at most 1.06 times, or six requests without the model more where
    that is more; the best of ten runs, because what others do on this machine is not Triton's.

    What a request costs is a time, not a share of the model's: 0.8 to 1.9 ms on the AMD EPYC that the share
    was set on (33 ms for the model), 1.4 to 2.4 ms on an Intel Xeon that takes 27 ms for it. So this
    machine's own time for a request that computes nothing is measured here. The model turns the processor's
    caches over and lets its threads fall asleep, which makes the same request dearer: two to four times where
    that was looked at, and 4 to 5 (5 ms of 35) on a virtual machine whose processors wake up slowly.
    """
    bare = perf("noop").count("grpc", 1, 1, requests=300).p50
    allowed = max(2.5, 6 * bare)
    print(f"a request that computes nothing: p50 {bare:.2f} ms; {allowed:.2f} ms are allowed")
    urls = {"grpc": f"grpc://127.0.0.1:{served.grpc}", "http": f"http://127.0.0.1:{served.http}"}
    best = dict.fromkeys(urls, float("inf"))  # of what is allowed; 1 is the bar
    for _ in range(10):
        for row in latency.measure(resnet50, local, urls, requests=100, batch=1, shared_memory="off")[1:]:
            direct = row.p50 / row.ratio
            print(f"{row.way}: p50 {row.p50:.1f} ms, {row.ratio:.3f} times onnxruntime's")
            best[row.way] = min(best[row.way], row.p50 / max(1.06 * direct, direct + allowed))
        if max(best.values()) <= 1:
            break
    assert max(best.values()) <= 1, best


@pytest.mark.timeout(300)
def test_saturated_it_is_as_fast_as_onnxruntime_alone(
    perf: Callable[[str], PerfAnalyzer], local: BaselineProcess
) -> None:
    """Images per second at least 0.97 times, in turns; the best of three runs."""
    analyzer = perf("resnet50")
    load = analyzer.count("grpc", 1, 8, requests=40)
    ratios: list[float] = []
    while not ratios or (max(ratios) < 0.97 and len(ratios) < 3):
        found = saturation.measure(analyzer, local, load, rounds=3, seconds=2)
        print(f"served {found.served:.1f} images/s, local {found.local:.1f}: {found.ratio:.3f}")
        ratios.append(found.ratio)
    assert max(ratios) >= 0.97, ratios
