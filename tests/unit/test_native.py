"""The native runtime with a tritonserver that is a few lines of shell."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from ops.errors import OpsError
from ops.runtimes.native import Native
from ops.runtimes.selection import current
from ops.settings import ROOT, Settings, load
from support.stack import free_ports

NO_GPU = 'E1125 00:02:41.852366 664 server.cc:241] "CudaDriverHelper has not been initialized."'


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Settings]:
    """Put a tritonserver with this body on PATH; the settings of a stack that would start it."""

    def make(body: str) -> Settings:
        program = tmp_path / "bin" / "tritonserver"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\n[ "$1" = --help ] && exit 0\n{body}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
        ports = dict(zip(("HTTP_PORT", "GRPC_PORT", "METRICS_PORT"), map(str, free_ports(3))))
        return load({"MODELS_DIR": str(tmp_path / "models"), **ports}, ROOT / ".env")

    return make


def test_a_start_that_fails_gives_the_server_s_own_cause_first(server: Callable[[str], Settings]) -> None:
    settings = server(f"echo '{NO_GPU}'; echo 'bash: line 1: /my: No such file or directory'; exit 1")
    native = Native(settings, "gpu", setup=False)
    with pytest.raises(OpsError) as error:
        native.start()
    assert error.value.found == (
        "the server ended before it was ready: bash: line 1: /my: No such file or directory"
    )
    assert "CudaDriverHelper" not in str(error.value)
    assert str(settings.run_dir / "triton.log") in error.value.remedy


def test_the_start_after_a_crash_says_where_the_crashed_one_s_log_is(
    server: Callable[[str], Settings], capfd: pytest.CaptureFixture[str]
) -> None:
    settings = server("echo last words; exit 1")
    native = Native(settings, "gpu", setup=False)
    for _ in range(2):
        with pytest.raises(OpsError):
            native.start()
    kept = settings.run_dir / "triton.log.1"
    assert f"the last server ended by itself; its log is kept as {kept}" in capfd.readouterr().err
    assert kept.read_text() == "last words\n"


SAYS_GPU = 'echo "$CUDA_DEVICE_ORDER $CUDA_VISIBLE_DEVICES"; exit 1'


@pytest.mark.parametrize(
    ("gpu_id", "scheduled", "seen"),
    [
        ("", "", "0"),
        ("3", "", "3"),
        ("MIG-3a1b2c3d-1111", "", "MIG-3a1b2c3d-1111"),
        ("", "2,3", "2"),
        ("1", "2,3", "1"),
    ],
)
def test_the_server_sees_the_one_gpu_that_was_chosen(
    server: Callable[[str], Settings], monkeypatch: pytest.MonkeyPatch, gpu_id: str, scheduled: str, seen: str
) -> None:
    for name, value in (("GPU_ID", gpu_id), ("CUDA_VISIBLE_DEVICES", scheduled)):
        monkeypatch.delenv(name, raising=False)
        if value:
            monkeypatch.setenv(name, value)
    settings = dataclasses.replace(server(SAYS_GPU), gpu_id=gpu_id or "0")
    native = Native(settings, "gpu", setup=False)
    with pytest.raises(OpsError):
        native.start()
    assert native.log_tail() == [f"PCI_BUS_ID {seen}"]


def test_a_server_on_another_gpu_than_the_wanted_is_not_taken_for_ours(
    server: Callable[[str], Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPU_ID", "1")
    settings = dataclasses.replace(server("sleep 60"), gpu_id="1")
    native = Native(settings, "gpu", setup=False)
    native._start(native._instances[0])
    try:
        native.check_ports()
        other = Native(dataclasses.replace(settings, gpu_id="2"), "gpu", setup=False)
        with pytest.raises(OpsError, match="is running with CUDA_VISIBLE_DEVICES 1"):
            other.check_ports()
        assert other._gpu()["CUDA_VISIBLE_DEVICES"] == "1", "a redeploy builds on the server's GPU"
    finally:
        with contextlib.suppress(OpsError):
            native.process.stop(0.2)


def test_the_running_server_is_found_where_it_is_and_waited_for_as_it_polls(
    server: Callable[[str], Settings],
) -> None:
    """Its ports came from the environment of whoever started it."""
    settings = dataclasses.replace(server("sleep 60"), poll_secs=77, native_poll_secs=77)
    native = Native(settings, "gpu", setup=False)
    native._start(native._instances[0])
    try:
        later = load({"MODELS_DIR": str(settings.models_dir)}, ROOT / ".env")
        assert later.http_port != settings.http_port
        runtime = current(later, "native")
        assert runtime.server.url == f"http://127.0.0.1:{settings.http_port}"
        told = runtime.status()["server"]
        assert told["grpc"] == f"127.0.0.1:{settings.grpc_port}"
        assert told["metrics"] == f"127.0.0.1:{settings.metrics_port}"
        assert runtime.poll_secs == 77
    finally:
        with contextlib.suppress(OpsError):
            native.process.stop(0.2)
    assert current(later, "native").server.url == f"http://127.0.0.1:{later.http_port}"
