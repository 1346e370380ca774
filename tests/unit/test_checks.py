"""What stops ``up`` is found before it starts, each with its remedy."""

from __future__ import annotations

import shutil
import socket
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest
from ops.checks import machine
from ops.checks.findings import Finding
from ops.errors import OpsError
from ops.runtimes import environments
from ops.runtimes.native import Native
from ops.settings import ROOT, Settings, load
from support.stack import free_ports

Usage = namedtuple("Usage", "total used free")
Make = Callable[..., Settings]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make(**environ: str) -> Settings:
        http, grpc, metrics = free_ports(3)
        ports = {"HTTP_PORT": str(http), "GRPC_PORT": str(grpc), "METRICS_PORT": str(metrics)}
        return load({"MODELS_DIR": str(tmp_path / "models"), **ports, **environ}, ROOT / ".env")

    return make


def local(settings: Settings, device: str = "cpu", parts: tuple[str, ...] = ()) -> dict[str, Finding]:
    return {f.name: f for f in machine.local(settings, device, list(parts))}


def test_what_is_not_ok_comes_with_a_remedy(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(1, 1, 0))
    findings = local(make()).values()
    assert {f.level for f in findings} <= {"ok", "warn", "fail"}
    assert all(f.remedy for f in findings if f.level != "ok")


def test_a_full_disk_fails_with_the_figures(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(1, 1, 10 << 20))
    found = local(make())["disk for models"]
    assert found.level == "fail"
    assert "10 MiB free" in found.detail
    assert "MODELS_DIR" in found.remedy


def test_the_disk_for_environments_is_asked_only_when_some_are_missing(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "FOLDER", tmp_path / "venvs")
    assert "disk for environments" in local(make(), parts=("client",))
    assert "disk for environments" not in local(make(), parts=())


def test_a_models_folder_that_is_a_file_fails(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = local(make(MODELS_DIR=str(tmp_path / "file" / "models")))["models volume"]
    assert found.level == "fail"
    assert "cannot be written" in found.detail


@pytest.mark.parametrize("sign", [":", ";", "\n"])
def test_a_sign_that_ends_a_path_in_a_list_of_paths_is_refused_at_once(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sign: str
) -> None:
    assert local(make())["folders"].level == "ok"
    monkeypatch.setattr(machine, "ROOT", tmp_path / f"my{sign}checkout")
    found = local(make())["folders"]
    assert found.level == "fail"
    assert "the checkout" in found.detail


def test_a_models_folder_that_is_not_there_yet_is_fine(make: Make) -> None:
    assert local(make())["models volume"].level == "ok"


def test_too_little_shared_memory_fails(make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "_SHM", tmp_path / "absent")
    found = local(make())[str(tmp_path / "absent")]
    assert (found.level, found.detail) == ("fail", "0 MiB free")
    assert "--shm-size" in found.remedy


def test_shared_memory_and_glibc_do_not_matter_with_a_gpu(make: Make) -> None:
    assert not {"platform", str(machine._SHM)} & set(local(make(), device="gpu"))


@pytest.mark.parametrize(
    ("machine", "libc", "level"),
    [
        ("x86_64", "glibc 2.35", "ok"),
        ("x86_64", "glibc 2.31", "fail"),
        ("aarch64", "glibc 2.39", "fail"),
        ("x86_64", None, "fail"),
    ],
)
def test_a_platform_that_triton_s_wheel_is_not_for_fails(
    make: Make, monkeypatch: pytest.MonkeyPatch, machine: str, libc: str | None, level: str
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("os.confstr", lambda _name: libc)
    assert local(make())["platform"].level == level


def test_a_python_that_cannot_make_the_environments_fails(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "FOLDER", tmp_path / "venvs")
    monkeypatch.setattr("sys.version_info", (3, 14, 0))
    found = local(make(), parts=("client",))["Python"]
    assert found.level == "fail"
    assert "3.10 to 3.13" in found.detail


def test_a_taken_port_stops_up_and_names_the_port_and_another(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = make(GRPC_PORT=str(port))
        with pytest.raises(OpsError) as error:
            machine.before_up(Native(settings, "cpu", setup=False), settings, setup=False)
    assert f"port {port} (GRPC_PORT) cannot be used: Address already in use" in str(error.value)
    assert "GRPC_PORT=" in error.value.remedy


def test_a_finding_that_fails_stops_up_with_its_remedy(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = make(MODELS_DIR=str(tmp_path / "file" / "models"))
    with pytest.raises(OpsError, match="models volume") as error:
        machine.before_up(Native(settings, "gpu", setup=False), settings, setup=False)
    assert "MODELS_DIR" in error.value.remedy


def test_what_is_not_needed_only_warns() -> None:
    (found,) = machine.unused([Finding("Docker", "fail", "no engine", "start it")], "only for docker")
    assert (found.level, found.remedy) == ("warn", "start it (only for docker)")
