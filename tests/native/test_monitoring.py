"""A real Prometheus watches a real Triton, gateway and exporter: queries have data, alerts their faults."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import ssl
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from ops.runtimes import environments
from support.models import write_lookup, write_scale, write_slow
from support.monitoring import metrics, queries, rules
from support.prometheus import Prometheus, Replay, missing, until
from support.stack import ROOT, Stack, free_ports

from builder.release.lifecycle import ModelReleases
from builder.release.store import Store
from gateway import keys
from models_volume.layout import Volume
from monitoring import dashboard

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="no Prometheus here: apt-get install prometheus"
)
PROFILES = ("--profile", "gateway", "--profile", "monitoring")
SAMPLE = ROOT / "tests" / "samples" / "metrics.txt"
GPU_UUID = re.search(r'gpu_uuid="([^"]+)"', SAMPLE.read_text())


class Watched(Stack):
    """A native stack with both profiles, behind a certificate that ends soon.

    Attributes:
        specs: the models lookup, scale and slow.
        key: an API key; its name is alice.
    """

    PORTS = ("EXPORTER_PORT", "ACCESS_LOG_PORT", "PROMETHEUS_PORT", "GATEWAY_PORT", "GATEWAY_METRICS_PORT",
             "PICTURES_PORT", "SHADOW_PORT")  # fmt: skip

    def __init__(self, folder: Path) -> None:
        self.port = dict(zip(self.PORTS, free_ports(len(self.PORTS))))
        certificate(folder / "soon", days=5)
        certificate(folder / "later", days=300)
        self.folder = folder
        super().__init__(
            folder / "models",
            GATEWAY_ADDRESS="127.0.0.1", KEYS_FILE=str(folder / "keys"), GATEWAY_CERT=str(folder / "soon"),
            GATEWAY_WAIT_SECS="0", **{name: str(port) for name, port in self.port.items()},
        )  # fmt: skip
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self.key = keys.add(folder / "keys", "alice")
        self.specs = [write_lookup(folder), write_scale(folder), write_slow(folder, max_batch=1)]
        # Nobody here waits for a batch to fill.
        self.specs[0].write_text(self.specs[0].read_text().replace("300000", "1000"))

    def ask(self, model: str, value: float, dtype: str = "FP32", key: str | None = None) -> int:
        """One inference through the gateway; its status."""
        shape = [1, 6] if model == "scale" else [1, 1]
        body = {"inputs": [{"name": "index" if model == "lookup" else "x", "datatype": dtype, "shape": shape,
                            "data": [value] * shape[1]}]}  # fmt: skip
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port["GATEWAY_PORT"], context=self._context, timeout=60
        )
        try:
            connection.request(
                "POST", f"/v2/models/{model}/infer", json.dumps(body),
                {"Authorization": f"Bearer {key or self.key}"},
            )  # fmt: skip
            answer = connection.getresponse()
            answer.read()
        except OSError:
            return 0
        finally:
            connection.close()
        return answer.status


class Load:
    """``clients`` threads that go on asking; a context manager."""

    def __init__(self, stack: Watched, model: str, clients: int, pause: float = 0, value: float = 1) -> None:
        self._stop = threading.Event()
        dtype = "INT32" if model == "lookup" else "FP32"

        def go() -> None:
            while not self._stop.wait(pause):
                stack.ask(model, value, dtype)

        self._threads = [threading.Thread(target=go) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def certificate(folder: Path, days: int) -> None:
    """tls.crt and tls.key, ending in ``days``."""
    folder.mkdir()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
         str(days), "-subj", "/CN=localhost", "-keyout", "tls.key", "-out", "tls.crt"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    environments.ensure(["gateway"])
    stack = Watched(tmp_path_factory.mktemp("watched"))
    stack.up(*stack.specs, options=PROFILES)
    yield stack
    stack.run("down")
    stack.kill()


@pytest.fixture(scope="module")
def replay() -> Iterator[Replay]:
    """The metrics page of a real Triton 2.28 on a real GPU, replayed."""
    replay = Replay(SAMPLE.read_text())
    replay.start()
    yield replay
    replay.stop()


@pytest.fixture(scope="module")
def prometheus(
    stack: Watched, replay: Replay, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """Sixty times as fast as the one that `up` started, with the replayed GPU server as a second Triton."""
    targets = {
        "triton": [f"127.0.0.1:{stack.metrics}", f"127.0.0.1:{replay.port}"],
        "exporter": [f"127.0.0.1:{stack.port['EXPORTER_PORT']}"],
        "gateway": [f"127.0.0.1:{stack.port['GATEWAY_METRICS_PORT']}"],
        "pictures": [f"127.0.0.1:{stack.port['PICTURES_PORT']}"],
        "shadow": [f"127.0.0.1:{stack.port['SHADOW_PORT']}"],
    }
    with Prometheus(tmp_path_factory.mktemp("prometheus"), targets) as prometheus:
        yield prometheus


def test_up_starts_the_exporter_and_prometheus(stack: Watched, prometheus: Prometheus) -> None:
    del prometheus  # started at the same time, for the tests below: both wait for their first targets
    states = {row["name"]: row["state"] for row in stack.status()["services"]}
    assert states["exporter"] == states["prometheus"] == states["gateway"] == "running"
    base = f"http://127.0.0.1:{stack.port['PROMETHEUS_PORT']}"

    def targets() -> dict[str, str]:
        with urllib.request.urlopen(f"{base}/api/v1/targets", timeout=5) as answer:
            return {t["labels"]["job"]: t["scrapeUrl"] for t in json.load(answer)["data"]["activeTargets"]}

    until(targets, 15, "Prometheus to have looked for its targets")
    assert targets() == {
        "triton": f"http://127.0.0.1:{stack.metrics}/metrics",
        "exporter": f"http://127.0.0.1:{stack.port['EXPORTER_PORT']}/metrics",
        "gateway": f"http://127.0.0.1:{stack.port['GATEWAY_METRICS_PORT']}/metrics",
        "pictures": f"http://127.0.0.1:{stack.port['PICTURES_PORT']}/metrics",
        "shadow": f"http://127.0.0.1:{stack.port['SHADOW_PORT']}/metrics",
    }
    with urllib.request.urlopen(f"{base}/api/v1/rules", timeout=5) as answer:
        groups = json.load(answer)["data"]["groups"]
    assert sum(len(group["rules"]) for group in groups) == len(rules())
    for path in ("/consoles/triton-stack.html", "/user/triton-stack.json"):
        with urllib.request.urlopen(base + path, timeout=5) as answer:
            assert b"Triton stack" in answer.read()


def test_every_query_has_data_and_names_only_what_is_emitted(
    stack: Watched, prometheus: Prometheus, tmp_path: Path
) -> None:
    """All panels and recording rules at once, under a little load; alerts have their turn below."""
    alerts = [f"rule {rule['alert']}" for rule in rules() if "alert" in rule]
    with Load(stack, "scale", 2, pause=0.02):
        assert stack.ask("scale", 1, key="wrong") == 401
        until(
            lambda: not missing(prometheus, queries(), alerts),
            20,
            "data for every panel and rule",
            lambda: missing(prometheus, queries(), alerts),
        )
        picture(prometheus, tmp_path / "dashboard.png")
    named = {name for expr in queries().values() for name in metrics(expr)}
    assert named - prometheus.names() - {"ALERTS"} == set()
    # The replayed server must not hide what the CPU server lacks; a GPU is all that it may.
    here = f'{{instance="127.0.0.1:{stack.metrics}"}}'
    of_triton = {name for name in named if name.startswith("nv_") and not name.startswith("nv_gpu_")}
    assert {name for name in of_triton if not prometheus.query(name + here)} == set()
    [p50] = prometheus.query('triton_stack:request_seconds:p50_5m{model="scale"}')
    assert 0 < float(p50["value"][1]) < 1
    statuses = {s["metric"]["status"] for s in prometheus.query("triton_stack:requests:rate5m")}
    assert {"2xx", "4xx"} <= statuses
    refused = {
        s["metric"]["reason"]: s["value"][1] for s in prometheus.query("triton_stack_refused_requests_total")
    }
    assert refused == {"no key": "1"}
    by_key = {s["metric"]["key"] for s in prometheus.query("triton_stack_request_duration_seconds_count")}
    assert by_key == {"alice", "none"}


def picture(prometheus: Prometheus, file: Path) -> None:
    """The dashboard in a real browser: each panel is drawn, and none is empty or an error."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        return
    page = f"http://127.0.0.1:{prometheus.port}/consoles/triton-stack.html?seconds=30&window=5s"
    base = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--window-size=1280,2050", f"--user-data-dir={file.with_suffix('')}",
            "--virtual-time-budget=4000"]  # fmt: skip
    done = subprocess.run([*base, f"--screenshot={file}", page], capture_output=True, timeout=60, check=False)
    assert file.exists(), done.stderr
    shown = subprocess.run(
        [*base, "--dump-dom", page], capture_output=True, timeout=60, check=True, text=True
    )
    body = shown.stdout.partition("<main>")[2].partition("<script>")[0]
    assert 'data-drawn="yes"' in shown.stdout, shown.stdout[-2000:]
    assert "no data" not in body
    panels = json.loads(dashboard.FILE.read_text())["panels"]
    for panel in panels:
        assert f">{panel['title']}</h" in body, panel["title"]
    lines = sum(panel["type"] == "timeseries" for panel in panels)
    assert body.count("<polyline") >= lines
    assert "scale" in body


def test_each_alert_fires_by_its_fault_and_clears(
    stack: Watched, prometheus: Prometheus, replay: Replay
) -> None:
    began, seen = time.monotonic(), set[str]()
    releases = ModelReleases(Store(stack.models_dir), "scale")

    def fire(*names: str, seconds: float = 30) -> None:
        until(lambda: set(names) <= prometheus.firing(), seconds, str(names), prometheus.state)
        for name in names:
            [rule] = [rule for rule in rules() if rule.get("alert") == name]
            assert prometheus.query(rule["expr"]), f"{name}: the rule's expression has data while it fires"
        seen.update(names)
        print(f"{time.monotonic() - began:.1f} s: {', '.join(names)}")

    def clear() -> None:
        until(lambda: not prometheus.firing(), 30, "all to clear", prometheus.state)
        print(f"{time.monotonic() - began:.1f} s: all clear")

    # One fault each, at the same time: clients outrun a slow model, a model fails on a request, the GPU's
    # memory fills up, a release fails its proof. The certificate has been near its end all along.
    replay.values["nv_gpu_memory_used_bytes"] = 145e9
    version = change_source_and_build(stack, factor=3)
    releases.activate(version, pending=True)
    releases.revert("wrong answers")
    with Load(stack, "slow", 30, value=150), Load(stack, "lookup", 2, pause=0.05, value=99):
        fire(
            "TritonStackQueueGrowing", "TritonStackGatewaySlow", "TritonStackErrors",
            "TritonStackGPUMemoryNearlyFull", "TritonStackRedeployFailed", "TritonStackCertificateNearItsEnd",
        )  # fmt: skip

    # All of it is mended; and then the server dies.
    del replay.values["nv_gpu_memory_used_bytes"]
    stack.env["GATEWAY_CERT"] = str(stack.folder / "later")
    done = stack.run("redeploy", "--model", write_scale(stack.folder / "4", factor=4))
    assert done.returncode == 0, done.stderr
    stack.up(*stack.specs[::2], options=PROFILES)
    clear()

    stack.kill()
    fire("TritonStackModelNotReady", "TritonStackTargetDown")
    stack.up(*stack.specs[::2])
    clear()

    live = Volume(stack.models_dir).all_live()
    for model in live:
        ModelReleases(releases.store, model).retire()
    fire("TritonStackNoLiveRelease")
    for model, number in live.items():
        ModelReleases(releases.store, model).activate(number)
    clear()
    assert seen == {rule["alert"] for rule in rules() if "alert" in rule}


def change_source_and_build(stack: Watched, factor: float) -> int:
    """Build a release of ``scale`` that is not live; its number."""
    done = subprocess.run(
        [environments.python("tests"), "-m", "builder", "build",
         write_scale(stack.folder / str(factor), factor=factor), "--engine", "onnxruntime", "--json"],
        cwd=ROOT, env=stack.env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(json.loads(done.stdout)[0]["version"])
