"""`up --profile monitoring` without Docker: what is started, with which configuration, what is missing."""

from __future__ import annotations

import shutil
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from ops.services import prometheus
from ops.services.native import Services
from ops.services.prometheus import FILES, Prometheus
from ops.settings import Settings, load
from support.stack import free_ports

PORTS = ("HTTP_PORT", "GRPC_PORT", "METRICS_PORT", "EXPORTER_PORT", "ACCESS_LOG_PORT", "PROMETHEUS_PORT",
         "GATEWAY_METRICS_PORT", "PICTURES_PORT")  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    ports = dict(zip(PORTS, map(str, free_ports(len(PORTS)))))
    return load({**ports, "MODELS_DIR": str(tmp_path / "models folder, [new]"), "EXIT_TIMEOUT_SECS": "1"})


def test_without_prometheus_the_rest_runs_and_up_says_how_to_get_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    services = Services(settings, lambda _part: sys.executable)
    services.check(["monitoring"])
    try:
        services.start(["monitoring"])
        said = capfd.readouterr().err
        assert "starting without prometheus" in said
        assert "apt-get install prometheus" in said
        assert {row["name"]: row["state"] for row in services.status()} == {"exporter": "running"}
        url = f"http://127.0.0.1:{settings.exporter_port}/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            assert b"triton_stack_live_models 0\n" in answer.read()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(url.replace("metrics", ""), timeout=5)
    finally:
        assert len(services.stop()) == 1
    assert services.status() == []


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no Prometheus: apt-get install prometheus")
def test_prometheus_is_started_anew_when_its_configuration_is_another(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not otherwise. Folders have signs in their names that mean something in YAML and in patterns."""
    checkout = settings.models_dir.parent / "check, [out]"
    shutil.copytree(FILES, checkout)
    monkeypatch.setattr(prometheus, "FILES", checkout)
    services = Services(settings, lambda _part: sys.executable)
    try:
        pids = []
        for extra in ("", "", "# changed\n"):
            with (checkout / "rules" / "alerts.yml").open("a") as rules:
                rules.write(extra)
            services.start(["monitoring"])
            pids.append(services.process("prometheus").state()["pid"])  # type: ignore[index]
        assert pids[0] == pids[1] != pids[2]
        url = f"http://127.0.0.1:{settings.prometheus_port}/api/v1/rules"
        with urllib.request.urlopen(url, timeout=5) as answer:
            assert b"TritonStackModelNotReady" in answer.read()
    finally:
        services.stop()


def test_the_native_configuration_names_addresses_of_this_machine_alone(settings: Settings) -> None:
    text = Prometheus(settings, lambda _part: sys.executable)._configuration()
    for port in (
        settings.metrics_port, settings.exporter_port, settings.gateway_metrics_port, settings.pictures_port,
        settings.shadow_port,
    ):  # fmt: skip
        assert f'["127.0.0.1:{port}"]' in text
    assert text.count("targets:") == text.count("127.0.0.1") == 5


def test_an_exporter_that_cannot_listen_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import socket

    from monitoring.exporter.__main__ import main

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
        argv = ["--models-dir", str(tmp_path), "--triton", "127.0.0.1:1", "--port", "0", "--log-port", port]
        assert main(argv) == 1
    said = capfd.readouterr().err
    assert said.startswith(f"error: cannot listen on 127.0.0.1, TCP 0 and UDP {port}: Address already in use")
    assert "ACCESS_LOG_PORT" in said
    with pytest.raises(SystemExit) as end:
        main(["--models-dir", str(tmp_path), "--triton", "nowhere"])
    assert end.value.code == 2
