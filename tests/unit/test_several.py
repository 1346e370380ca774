"""TRITON_COUNT: GPUs, ports and words, without a server."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ops.errors import OpsError
from ops.runtimes.process import ServerProcess
from ops.settings import Settings, load
from ops.several import containers, gpus, processes

SMI = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa)
  MIG 3g.20gb     Device  0: (UUID: MIG-1111)
  MIG 3g.20gb     Device  1: (UUID: MIG-2222)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bbbb)
"""


def settings(**environ: str) -> Settings:
    return load(environ)


def test_a_gpu_that_is_divided_counts_as_its_parts() -> None:
    assert gpus.listed(SMI) == ["MIG-1111", "MIG-2222", "GPU-bbbb"]
    assert gpus.listed("") == []


def test_there_is_a_gpu_for_each_or_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "ask", lambda _argv: SMI)
    assert gpus.chosen(settings(TRITON_COUNT="2")) == ["MIG-1111", "MIG-2222"]
    assert gpus.chosen(settings(TRITON_COUNT="2", TRITON_GPUS="1,0 2")) == ["1", "0"]
    with pytest.raises(OpsError, match="TRITON_COUNT is 4, and there are 3 GPUs"):
        gpus.chosen(settings(TRITON_COUNT="4"))


def test_each_has_ports_and_a_name_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_ID", "box")
    given = dataclasses.replace(settings(TRITON_COUNT="3"), models_dir=tmp_path)
    made = processes.instances(given, ServerProcess(tmp_path))
    assert [one.name for one in made] == ["box-gpu0", "box-gpu1", "box-gpu2"]
    assert [one.place.triton for one in made] == [f"127.0.0.1:{8000 + n}:{8001 + n}" for n in (0, 100, 200)]
    assert made[1].place.options == [
        "--host=127.0.0.1", "--http-port=8100", "--grpc-port=8101", "--metrics-port=8102",
    ]  # fmt: skip
    [alone] = processes.instances(settings(), ServerProcess(tmp_path))
    assert alone.place.options == []
    assert alone.environment("gpu") == {}


@pytest.mark.parametrize(
    "environ",
    [
        {"TRITON_COUNT": "0"},
        {"TRITON_COUNT": "many"},
        {"TRITON_COUNT": "2", "GRPC_PORT": "8100"},
        {"TRITON_COUNT": "2", "METRICS_PORT": "65500"},
    ],
)
def test_a_count_that_cannot_be_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(OpsError, match="TRITON_COUNT is"):
        settings(**environ)


def test_several_need_the_gateway() -> None:
    processes.need_the_gateway(settings(), [])
    processes.need_the_gateway(settings(TRITON_COUNT="2"), ["gateway"])
    with pytest.raises(OpsError, match="nothing divides requests"):
        processes.need_the_gateway(settings(TRITON_COUNT="2"), ["monitoring"])


def container(number: int, address: str) -> Any:
    """What the Docker SDK tells of a container, as far as it is read."""
    return SimpleNamespace(
        name=f"stack-triton-{number}",
        status="running" if address else "exited",
        labels={"com.docker.compose.container-number": str(number)},
        attrs={"NetworkSettings": {"Networks": {"default": {"IPAddress": address}}}},
    )


def test_containers_are_reached_by_their_addresses_and_those_that_ended_are_named() -> None:
    both = sorted([container(10, ""), container(2, "172.18.0.3")], key=containers.number)
    assert [c.name for c in both] == ["stack-triton-2", "stack-triton-10"]
    assert [place.triton for place in containers.places(both)] == ["172.18.0.3:8000:8001"]
    assert containers.missing(both, 2) == ["stack-triton-10 (exited)"]
    assert containers.missing(both[:1], 3) == ["2 that TRITON_COUNT asks for and nobody started"]
    assert containers.missing(both[:1], 1) == []
    assert containers.row(both[1])["state"] == "exited"
