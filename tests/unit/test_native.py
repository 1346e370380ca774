"""The native runtime with a tritonserver that is a few lines of shell."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from ops.errors import OpsError
from ops.runtimes.native import Native
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
