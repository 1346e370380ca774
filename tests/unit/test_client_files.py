"""The client's readers: Triton's counters, and the live releases on the models volume."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.models import write_scale
from triton_stack_client import cli
from triton_stack_client.errors import ReleaseError, ServerError
from triton_stack_client.verify import metrics, release
from triton_stack_client.verify.metrics import Counters

from builder.release import build
from builder.release.store import Store


def test_the_recorded_counters_are_read(sample: Callable[[str], str]) -> None:
    text = sample("metrics.txt")
    assert metrics.parse(text, "tensorrt_fp16_model", 1) == Counters(238547, 238547)


@pytest.mark.parametrize(("model", "version"), [("tensorrt_fp16_model", 2), ("other", 1), ("fp16_model", 1)])
def test_another_model_or_version_has_no_counters(
    sample: Callable[[str], str], model: str, version: int
) -> None:
    assert metrics.parse(sample("metrics.txt"), model, version) == Counters(0, 0)


def test_version_1_is_not_version_11() -> None:
    assert metrics.parse('nv_inference_count{model="m",version="11"} 5\n', "m", 1) == Counters(0, 0)


def test_a_counter_for_each_gpu_is_summed() -> None:
    text = "".join(
        f'nv_inference_count{{gpu_uuid="GPU-{n}",model="m",version="1"}} {n}\n'
        f'nv_inference_request_success{{gpu_uuid="GPU-{n}",model="m",version="1"}} 1\n'
        for n in (3, 4)
    )
    assert metrics.parse(text, "m", 1) == Counters(2, 7)


@pytest.mark.parametrize(("value", "count"), [("1e+06", 1_000_000), ("42.000000", 42)])
def test_a_count_is_read_however_it_is_written(value: str, count: int) -> None:
    assert metrics.parse(f'nv_inference_count{{version="1",model="m"}} {value}\n', "m", 1).inferences == count


@pytest.fixture
def babbler() -> Iterator[str]:
    """A server that answers one connection with something that is not HTTP; its host:port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            connection.recv(1000)
            connection.sendall(b"\x00\x00\x12\x04 not HTTP\n")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def test_a_port_that_does_not_speak_http_is_refused_with_its_address(babbler: str) -> None:
    with pytest.raises(ServerError, match=babbler):
        metrics.fetch(babbler, 5)


def test_a_port_where_nobody_listens_is_refused(babbler: str) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{s.getsockname()[1]}"
    with pytest.raises(ServerError, match="is the server up"):
        metrics.fetch(address, 5)
    socket.create_connection(("127.0.0.1", int(babbler.split(":")[1]))).close()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models volume with one live release, made by the builder."""
    folder = tmp_path_factory.mktemp("built")
    store = Store(folder / "models")
    spec = write_scale(folder, weights="untrained")
    build.deploy(spec, store, "onnxruntime", allow_untrained=False, force=False)
    return store.root


@pytest.fixture
def volume(built: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoiled."""
    return Path(shutil.copytree(built, tmp_path / "models", symlinks=True))


def manifest_of(volume: Path) -> Path:
    return volume / "releases" / "scale" / "1" / "manifest.json"


def test_a_live_release_is_read_as_the_builder_wrote_it(volume: Path) -> None:
    (found,) = release.live(volume)
    assert (found.model, found.version, found.min_batch, found.max_batch) == ("scale", 1, 1, 8)
    assert found.inputs == (release.Tensor("x", "FP32", (6,)),)
    assert found.outputs == (release.Tensor("scores", "FP32", (6,)),)
    assert found.untrained


def test_a_volume_may_be_mounted_elsewhere(volume: Path) -> None:
    moved = volume.rename(volume.with_name("moved"))
    assert release.live(moved)[0].golden()[0]["x"].shape == (5, 6)


@pytest.mark.parametrize("make", [lambda _p: None, lambda p: (p / "repository").mkdir(parents=True)])
def test_a_volume_where_nothing_is_live_is_refused_with_a_remedy(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "v")
    with pytest.raises(ReleaseError) as error:
        release.live(tmp_path / "v")
    assert "no model is live" in str(error.value)
    assert "next: " in str(error.value)


def test_a_model_that_is_not_live_is_refused_with_those_that_are(volume: Path) -> None:
    with pytest.raises(ReleaseError, match='no model "resnet50" is live; live are: scale'):
        release.live(volume, ["resnet50"])


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"contract": {}}', "\0"])
def test_a_manifest_that_cannot_be_read_is_refused_by_its_path(volume: Path, text: str) -> None:
    manifest_of(volume).write_text(text)
    with pytest.raises(ReleaseError, match=r"scale/1/manifest\.json"):
        release.live(volume)


@pytest.mark.parametrize("key", ["contract", "weights", "version"])
def test_a_manifest_without_a_part_is_refused(volume: Path, key: str) -> None:
    data: dict[str, Any] = json.loads(manifest_of(volume).read_text())
    del data[key]
    manifest_of(volume).write_text(json.dumps(data))
    with pytest.raises(ReleaseError, match=key):
        release.live(volume)


def test_a_link_to_somewhere_else_is_refused(volume: Path) -> None:
    link = volume / "repository" / "scale"
    link.unlink()
    link.symlink_to("elsewhere")
    with pytest.raises(ReleaseError, match="cannot be read"):
        release.live(volume)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04broken", b"text"])
def test_golden_samples_that_cannot_be_read_are_refused(volume: Path, content: bytes) -> None:
    (volume / "releases" / "scale" / "1" / "golden.npz").write_bytes(content)
    with pytest.raises(ReleaseError, match=r"golden\.npz"):
        release.live(volume)[0].golden()


def test_golden_samples_without_a_tensor_are_refused(volume: Path) -> None:
    np.savez(volume / "releases" / "scale" / "1" / "golden.npz", **{"input.x": np.zeros((1, 6), np.float32)})
    with pytest.raises(ReleaseError, match=r"output\.scores"):
        release.live(volume)[0].golden()


def test_nothing_live_is_exit_code_1_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["smoke", "--models-dir", str(tmp_path)]) == 1
    assert "no model is live" in capsys.readouterr().err


def test_a_port_that_is_no_number_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HTTP_PORT", "http")
    with pytest.raises(SystemExit) as stop:
        cli.main(["smoke"])
    assert stop.value.code == 2
    assert "--http-port" in capsys.readouterr().err
