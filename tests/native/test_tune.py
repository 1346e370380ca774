"""``tune`` beside a live server under load: it repairs bad specs, and a kill leaves nothing."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ops.checks.ports import port_problem
from support.cnn import write_cnn
from support.stack import ROOT, Stack

NOISY = 0.06  # of a ratio: the noise of a confirmation on a machine that has other work
ALONE = {"cpu_threads": 1, "dynamic_batching": False}  # one thread, and no request is joined with another
LATE = {"cpu_threads": 1, "dynamic_batching": {"max_queue_delay_us": 50000}}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("tuned")
    stack = Stack(folder / "models")
    specs = [
        write_cnn(folder / "alone", name="alone", side=48, channels=24, batch={"max": 1}, serving=ALONE),
        write_cnn(folder / "late", name="late", batch={"max": 8}, serving=LATE),
    ]
    for spec in specs:
        spec.write_text("# kept as it is\n" + spec.read_text())
    stack.up(*specs)
    yield stack
    stack.stop()


class Requests:
    """A client of the live model, some fifty requests a second, every answer checked. A context manager."""

    def __init__(self, stack: Stack, model: str, spec: Path) -> None:
        self._port, self._model = stack.http, model
        with np.load(spec.with_suffix(".npz")) as npz:
            self._pixels, self._scores = npz["input.pixels"], npz["output.scores"]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sent = 0
        self.failed: list[str] = []

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            row = self.sent % len(self._pixels)
            self.sent += 1
            try:
                scores = self._ask(self._pixels[row : row + 1])
            except Exception as e:
                self.failed.append(f"{type(e).__name__}: {e}")
                continue
            if not np.allclose(scores, self._scores[row], atol=1e-3):
                self.failed.append(f"wrong answer: {scores}")

    def _ask(self, pixels: np.ndarray) -> np.ndarray:
        tensor = {"name": "pixels", "datatype": "UINT8", "shape": list(pixels.shape)}
        header = json.dumps(
            {
                "inputs": [{**tensor, "parameters": {"binary_data_size": pixels.nbytes}}],
                "outputs": [{"name": "scores"}],
            }
        ).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        with contextlib.closing(connection):
            connection.request(
                "POST",
                f"/v2/models/{self._model}/infer",
                header + pixels.tobytes(),
                {"Inference-Header-Content-Length": str(len(header))},
            )
            answer = connection.getresponse()
            body = json.loads(answer.read())
        assert answer.status == 200, body
        return np.array(body["outputs"][0]["data"])

    def __enter__(self) -> Requests:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def start(stack: Stack, *args: str | Path) -> subprocess.Popen[str]:
    """tune in a process group of its own, as a terminal starts it."""
    return subprocess.Popen(
        [str(ROOT / "scripts" / "tune"), *map(str, args)],
        env=stack.env, cwd=ROOT, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def until(process: subprocess.Popen[str], words: str) -> list[str]:
    """Read its progress until a line holds ``words``."""
    assert process.stderr is not None
    lines: list[str] = []
    for line in process.stderr:
        lines.append(line.rstrip())
        if words in line:
            return lines
    pytest.fail(f"it ended without {words!r}:\n" + "\n".join(lines))


def processes(stack: Stack) -> dict[int, str]:
    """What runs for tune on this models volume: by its arguments, working folder or environment."""
    mark = str(stack.models_dir / "tune" / "state")
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            if mark.encode() in words or os.readlink(folder / "cwd").startswith(mark):
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def holdings(stack: Stack) -> tuple[set[int], set[Path]]:
    """The ports that tune's servers were given, and the shared memory that its processes have."""
    ports, memory = set(), set()
    for number, words in processes(stack).items():
        ports |= {int(port) for port in re.findall(r"--(?:http|grpc|metrics)-port=(\d+)", words)}
        with contextlib.suppress(OSError):
            maps = Path(f"/proc/{number}/maps").read_text()
            memory |= {Path(path) for path in re.findall(r"(/dev/shm/triton\S+)", maps)}
    return ports, memory


def gone(stack: Stack, ports: set[int], memory: set[Path], seconds: float) -> None:
    """Nothing of tune is left: no process, no port, no shared memory, no server's folder."""

    def left() -> list[object]:
        return [
            *processes(stack).items(),
            *(port for port in ports if port_problem("127.0.0.1", port)),
            *(path for path in memory if path.exists()),
            *(path for path in (stack.models_dir / "tune" / "state").glob("*/server*") if path.is_dir()),
        ]

    end = time.monotonic() + seconds
    while found := left():
        assert time.monotonic() < end, found
        time.sleep(0.1)


def volume(stack: Stack) -> dict[str, int]:
    """Every file and link of the live part of the models volume, with its time."""
    folders = [stack.models_dir / name for name in ("repository", "releases")]
    return {str(p): p.lstat().st_mtime_ns for folder in folders for p in folder.rglob("*")}


def check(stack: Stack, result: dict[str, Any], spec: Path, least: float) -> None:
    """It is so many times as good at least; the report and the spec say what was found."""
    confirmed = result["confirmation"]
    if confirmed["ratio"] - 3 * confirmed["noise"] >= least:
        assert result["chosen"] == confirmed["name"], result["conclusion"]
    elif confirmed["noise"] > NOISY * confirmed["ratio"]:
        # Others have the cores: what joining requests is worth cannot be seen then, 50 ms of waiting can.
        assert result["chosen"] is None or confirmed["ratio"] > 1, result["conclusion"]
        assert result["model"] == "alone", result["conclusion"]
    else:
        assert confirmed["ratio"] >= least, result["conclusion"]
        assert result["chosen"] == confirmed["name"], result["conclusion"]
    assert len([r for r in result["candidates"] if r["loads"]]) >= 2
    [out] = (stack.models_dir / "tune").glob(f"*-{result['model']}")
    page = (out / "report.html").read_text()
    for row in result["candidates"]:
        assert f"{row['name']}: " in page
        if row["loads"]:
            assert f"<title>{row['name']} (" in page, "every candidate is a point"
    assert ('class="solid c2"' in page) == (result["chosen"] is not None), "the chosen one is marked"
    assert json.loads((out / "result.json").read_text())["chosen"] == result["chosen"]
    text = spec.read_text()
    assert text.startswith("# kept as it is\n")
    data = yaml.safe_load(text)
    for key, value in result["patch"].get("serving", {}).items():
        assert data["serving"][key] == value or {**data["serving"][key], **value} == data["serving"][key]
    if result["patch"]:
        assert yaml.safe_load((out / "patch.yaml").read_text()) == result["patch"]


@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    ("model", "objective", "budget", "number", "least"),
    [("alone", "throughput", 45, signal.SIGKILL, 1.25), ("late", "latency", 30, signal.SIGINT, 1.5)],
)
def test_a_bad_spec_is_repaired_although_tune_was_interrupted(
    served: Stack, model: str, objective: str, budget: float, number: signal.Signals, least: float
) -> None:
    spec = served.models_dir.parent / model / f"{model}.yaml"
    options = (spec, "--objective", objective, "--budget-minutes", str(budget / 60))
    before = volume(served)
    with Requests(served, model, spec) as requests:
        tune = start(served, *options)
        said = until(tune, "settings: round 1: ")
        assert any("starting a scratch server" in line for line in said)
        ports, memory = holdings(served)
        assert len(ports) == 3
        assert memory
        if number == signal.SIGKILL:
            tune.kill()
        else:
            os.killpg(tune.pid, number)  # as a terminal does
        _, rest = tune.communicate(timeout=30)
        assert tune.returncode == (-9 if number == signal.SIGKILL else 130)
        assert "Traceback" not in rest
        gone(served, ports, memory, 10 if number == signal.SIGKILL else 0)
        other = served.run("tune", *options, "--resume", "--latency-budget-ms", "7")
        assert other.returncode == 1
        assert "latency_budget_ms: None then, 7.0 now" in other.stderr
        done = served.run("tune", *options, "--resume", "--apply", "--json")
        assert done.returncode == 0, done.stderr
    print(done.stderr)
    assert re.search(r"going on after [\d.]+ s: \d+ steps are done", done.stderr)
    assert volume(served) == before
    assert requests.failed == []
    assert requests.sent > 300
    gone(served, ports, memory, 0)
    assert not (served.models_dir / "tune" / "state" / model).exists()
    result = json.loads(done.stdout)
    assert result["seconds"] <= budget + 8
    check(served, result, spec, least)


@pytest.mark.timeout(60)
def test_what_cannot_be_tuned_is_refused(served: Stack, tmp_path: Path) -> None:
    late = served.models_dir.parent / "late" / "late.yaml"
    for args, words in (
        (("nothing",), 'model "nothing": there is no such spec'),
        ((write_cnn(tmp_path / "other", name="other"),), "other is not live"),
        ((late, "--clients", "1,x"), "list of clients"),
        ((late, "--calibration", "nowhere"), "there is no such file or folder"),
        ((late, "--resume"), "is not what"),  # the patch is written, and nobody has redeployed it
    ):
        done = served.run("tune", *args)
        assert done.returncode in (1, 2)
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    redeployed = served.run("redeploy", "--model", late)
    assert redeployed.returncode == 0, redeployed.stderr
    for spec in (late, "late"):  # its name is enough: the live release knows what it was built from
        again = served.run("tune", spec, "--resume")
        assert "there is nothing to resume" in again.stderr
