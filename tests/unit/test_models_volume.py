"""The models volume's format: the live link, manifests of both schemas, golden samples, Triton's reasons."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models_volume import golden, manifest, readiness
from models_volume.errors import VolumeError
from models_volume.layout import Volume, link_target

OLD: dict[str, Any] = {  # as the code before schema 2 wrote it
    "schema": 1,
    "model": "m",
    "version": 3,
    "contract": {
        "max_batch_size": 8,
        "min_batch_size": 1,
        "inputs": [
            {
                "name": "x",
                "dtype": "FP16",
                "dims": [2, 2, 3],
                "preprocessing": {
                    "mode": "tf", "channel_order": "RGB", "scale": 0.5, "mean": [1, 1, 1], "std": [1, 1, 1],
                },
            }
        ],
        "outputs": [{"name": "y", "dtype": "FP32", "dims": [4], "labels": "labels.txt"}],
        "tolerance": {"top1": 0.99, "max_abs": 0.05},
    },
    "weights": {"kind": "file", "untrained": False, "description": "w"},
    "engine": {"name": "onnxruntime", "file": "model.onnx", "sha256": "aa"},
    "parity": {"max_abs": 1e-6},
    "spec": {},
}  # fmt: skip


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    (tmp_path / "repository").mkdir()
    folder = tmp_path / "releases" / "m" / "3"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(OLD))
    return Volume(tmp_path)


def test_the_link_that_is_written_is_the_link_that_is_read(volume: Volume) -> None:
    volume.link("m").symlink_to(link_target("m", 3))
    assert volume.live("m") == 3
    assert volume.links() == volume.all_live() == {"m": 3}


@pytest.mark.parametrize("target", ["elsewhere", "/", "../releases/m/x/model", "../releases/m/²/model"])
def test_a_link_to_somewhere_else_names_no_release(volume: Volume, target: str) -> None:
    volume.link("m").symlink_to(target)
    assert volume.links() == {"m": None}
    assert volume.all_live() == {}


def test_a_volume_that_is_not_there_is_empty(tmp_path: Path) -> None:
    volume = Volume(tmp_path / "nowhere")
    assert (volume.models(), volume.links(), volume.versions("m"), volume.live("m")) == ([], {}, [], None)


def test_a_manifest_of_the_code_before_is_read(volume: Volume) -> None:
    found = manifest.read(volume, "m", 3)
    (x,), (y,) = found.inputs, found.outputs
    assert (x.name, x.dtype, x.dims, y.labels) == ("x", "FP16", (2, 2, 3), "labels.txt")
    assert x.preprocessing is not None
    assert x.preprocessing.scale == 0.5
    assert (found.min_batch, found.max_batch, found.max_abs, found.top1) == (1, 8, 0.05, 0.99)
    assert manifest.files(found.data) == {"model/3/model.onnx": "aa"}


def test_a_manifest_of_today_knows_every_file(volume: Volume) -> None:
    assert manifest.files({**OLD, "files": {"a": "1", "model/b": "2"}}) == {"a": "1", "model/b": "2"}


@pytest.mark.parametrize("key", ["contract", "weights", "version", "engine"])
def test_a_manifest_without_a_part_is_refused_by_its_path(volume: Volume, key: str) -> None:
    path = volume.release("m", 3) / "manifest.json"
    path.write_text(json.dumps({k: v for k, v in OLD.items() if k != key}))
    with pytest.raises(VolumeError, match=rf"3/manifest\.json: .*{key}"):
        manifest.read(volume, "m", 3)


def test_golden_samples_come_back_as_they_went(tmp_path: Path) -> None:
    x, y = np.arange(6, dtype=np.uint8).reshape(2, 3), np.ones((2, 1), np.float16)
    golden.save(tmp_path / "g.npz", {"x": x}, {"y": y})
    inputs, outputs = golden.load(tmp_path / "g.npz")
    np.testing.assert_array_equal(inputs["x"], x)
    assert outputs["y"].dtype == np.float16


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04broken", b"text"])
def test_a_file_that_is_no_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "g.npz").write_bytes(content)
    with pytest.raises(VolumeError, match=r"g\.npz"):
        golden.load(tmp_path / "g.npz")


ROWS = [
    {"name": "other", "version": "1", "state": "UNAVAILABLE", "reason": "theirs"},
    {"name": "m", "version": "2", "state": "UNAVAILABLE", "reason": "unloaded"},
    {"name": "m", "version": "3", "state": "UNAVAILABLE", "reason": "no such file"},
    {"name": "whole", "reason": "no configuration"},
]


@pytest.mark.parametrize(
    ("model", "version", "words"),
    [("m", 2, ""), ("m", 3, "no such file"), ("m", 1, ""), ("whole", 7, "no configuration"), ("none", 1, "")],
)
def test_triton_s_reason_is_that_version_s(model: str, version: int, words: str) -> None:
    assert readiness.reason(ROWS, model, version) == words


@pytest.fixture
def server() -> Iterator[int]:
    """A server that has version 3 ready; its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.answer(200 if self.path == "/v2/models/m/versions/3/ready" else 400, b"")

        def do_POST(self) -> None:
            self.answer(200, json.dumps(ROWS).encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_a_version_is_ready_when_the_server_says_so(server: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # our own server is never asked through a proxy
    assert readiness.ready("127.0.0.1", server, "m", 3)
    assert not readiness.ready("127.0.0.1", server, "m", 2)
    assert readiness.index("127.0.0.1", server) == ROWS


def test_nobody_there_is_not_ready_and_gives_no_reason() -> None:
    assert not readiness.ready("127.0.0.1", 9, "m", 3)
    assert readiness.index("127.0.0.1", 9) == []
