"""GPU memory shared with the server, with a fake driver: what is written where, and what is refused."""

from __future__ import annotations

import gc
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fakes.libcuda import UUID_TEXT, FakeCuda
from support.stack import PACKAGES
from triton_stack_client.contract import Contract
from triton_stack_client.errors import ClientError, ContractError
from triton_stack_client.transport import cuda_driver, cuda_memory, dlpack
from triton_stack_client.transport.address import Address
from triton_stack_client.transport.shared_memory import Slots

METADATA = {
    "name": "m",
    "versions": ["1"],
    "inputs": [{"name": "x", "datatype": "UINT8", "shape": [-1, 4]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
}
CONTRACT = Contract.of(METADATA, {"max_batch_size": 8})
HERE = Address("grpc", "127.0.0.1:1")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    fake = FakeCuda()
    monkeypatch.setattr(cuda_driver, "_library", lambda: fake)
    monkeypatch.setattr(cuda_memory, "_server_gpus", lambda _: [UUID_TEXT])
    cuda_driver._driver.cache_clear()
    cuda_driver._context.cache_clear()
    yield fake
    cuda_memory._left.clear()
    cuda_driver._driver.cache_clear()
    cuda_driver._context.cache_clear()
    gc.collect()


class Tensor:
    """tritonclient's InferInput and InferRequestedOutput, as far as a slot uses them."""

    def __init__(self, name: str, *_: Any) -> None:
        self.name = name

    def set_shared_memory(self, *where: Any) -> None:
        self.where = where


MODULE = SimpleNamespace(InferInput=Tensor, InferRequestedOutput=Tensor)


class Cuda:
    """Another library's array on a GPU: a view of one of ours, with strides and devices as wanted."""

    def __init__(self, array: cuda_memory.DeviceArray, **told: Any) -> None:
        self.array = array
        self.told = told

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {**self.array.__cuda_array_interface__, **self.told}


def test_a_gpu_s_uuid_is_written_as_triton_writes_it(cuda: FakeCuda) -> None:
    assert cuda_driver.driver().gpus() == [UUID_TEXT]


def test_inputs_are_copied_to_the_gpu_before_the_server_is_asked(cuda: FakeCuda) -> None:
    slots = Slots("cuda", HERE)
    x = np.arange(12, dtype=np.uint8).reshape(3, 4)
    call = slots.call(CONTRACT, {"x": x}, None)
    assert call.slot is not None
    assert call.slot.memory.kind == "cuda"
    assert len(call.slot.memory.handle) == 64
    (given,), (wanted,) = call.slot.lend(MODULE, call.inputs, call.outputs)
    assert not cuda.unsettled
    assert given.where == (call.slot.region, 12, 0)
    assert wanted.where == (call.slot.region, 64, 64)
    assert bytes(next(iter(cuda.blocks.values()))[1][:12]) == x.tobytes()
    answer = SimpleNamespace(get_output=lambda _: {"shape": [3, 2]})
    assert not call.slot.answered()
    assert call.slot.take(answer, "y").shape == (3, 2)


def test_an_array_of_another_library_is_copied_within_the_gpu(cuda: FakeCuda) -> None:
    slots = Slots("cuda", HERE)
    theirs = slots.array(CONTRACT, "x", 2)
    theirs.fill(np.full((2, 4), 7, np.uint8))
    for array in (Cuda(theirs), SimpleDlpack(theirs)):
        cuda.calls.clear()
        call = slots.call(CONTRACT, {"x": array}, None)
        assert call.slot is not None
        call.slot.lend(MODULE, call.inputs, call.outputs)
        assert cuda.calls.count("copy") == 1
        assert "download" not in cuda.calls, "never through the host"
        np.testing.assert_equal(call.slot.memory.read(0, np.dtype(np.uint8), 8), np.full(8, 7))
        slots.give_back(call.slot)


class SimpleDlpack:
    """Another library's array that speaks DLPack alone."""

    def __init__(self, array: cuda_memory.DeviceArray) -> None:
        self.array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()

    def __dlpack__(self, *, stream: int) -> Any:
        assert stream == 0x5000, "what its stream still does is waited for on ours"
        return self.array.__dlpack__(stream=stream)


def test_a_device_array_is_not_copied_at_all(cuda: FakeCuda) -> None:
    slots = Slots("cuda", HERE)
    x, y = slots.array(CONTRACT, "x", 3), slots.array(CONTRACT, "y", 3)
    cuda.calls.clear()
    call = slots.call(CONTRACT, {"x": x}, {"y": y})
    assert call.slot is not None
    assert call.unregistered() == [call.slot, x, y]
    (given,), (wanted,) = call.slot.lend(MODULE, call.inputs, call.outputs)
    assert (given.where, wanted.where) == ((x.region, 12, 0), (y.region, 24, 0))
    assert not {"upload", "copy", "download"} & set(cuda.calls)
    assert "cuCtxSynchronize" in cuda.calls, "a framework may still be writing to it"


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"typestr": "<f4"}, "given was float32"),
        ({"shape": (2, 5)}, r"given was uint8 \[2, 5\] on a GPU"),
        ({"shape": (9, 4)}, "takes 1 to 8 samples"),
        ({"strides": (8, 1)}, "is not contiguous"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(cuda: FakeCuda, told: dict[str, Any], words: str) -> None:
    slots = Slots("cuda", HERE)
    array = Cuda(slots.array(CONTRACT, "x", 2), **told)
    with pytest.raises(ContractError, match=words):
        slots.call(CONTRACT, {"x": array}, None)


def test_an_array_on_another_gpu_is_refused(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    slots = Slots("cuda", HERE)
    array = SimpleDlpack(slots.array(CONTRACT, "x", 2))
    monkeypatch.setattr(SimpleDlpack, "__dlpack_device__", lambda _: (dlpack.CUDA, 3))
    with pytest.raises(
        ContractError, match=r"x lies on GPU 3, and the memory shared with the server on GPU 0"
    ):
        slots.call(CONTRACT, {"x": array}, None)


def test_an_array_on_a_gpu_is_never_sent_through_the_host_in_silence(cuda: FakeCuda) -> None:
    array = Slots("cuda", HERE).array(CONTRACT, "x", 2)
    with pytest.raises(ContractError, match=r'x lies on a GPU, .* shared memory "system"'):
        Slots("system", HERE).call(CONTRACT, {"x": Cuda(array)}, None)


def test_dlpack_on_the_cpu_is_told_what_to_do(cuda: FakeCuda) -> None:
    class Host:
        def __dlpack_device__(self) -> tuple[int, int]:
            return 1, 0

        def __dlpack__(self) -> Any:
            raise AssertionError("nothing is converted silently")

    with pytest.raises(ContractError, match=r"Host \(numpy.from_dlpack makes an array of it\)"):
        Slots("cuda", HERE).call(CONTRACT, {"x": Host()}, None)


@pytest.mark.parametrize(
    ("into", "words"),
    [("z", 'no output "z"'), ("y", r"y will be float32 \[3, 2\]; given for it was float32 \[2, 2\]")],
)
def test_where_an_output_cannot_go_is_said(cuda: FakeCuda, into: str, words: str) -> None:
    slots = Slots("cuda", HERE)
    with pytest.raises(ContractError, match=words):
        slots.call(CONTRACT, {"x": np.zeros((3, 4), np.uint8)}, {into: slots.array(CONTRACT, "y", 2)})


def test_what_was_handed_out_keeps_the_memory(cuda: FakeCuda) -> None:
    """A capsule that nobody took, one that somebody took and gave back, and the array itself."""
    slots = Slots("cuda", HERE)
    array = slots.array(CONTRACT, "x", 2)
    capsule = array.__dlpack__()
    foreign = dlpack.foreign("x", SimpleDlpack(array), cuda_driver.context(0))
    assert (foreign.shape, foreign.dtype) == ((2, 4), np.uint8)
    slots.close()
    del array
    gc.collect()
    assert len(cuda.blocks) == 1
    del capsule
    gc.collect()
    assert len(cuda.blocks) == 1
    del foreign
    gc.collect()
    assert cuda.blocks == {}
    assert dlpack._lent == {}


def test_many_requests_use_the_same_memory_again_and_closing_frees_it(cuda: FakeCuda) -> None:
    slots = Slots("cuda", HERE)
    for _ in range(50):
        call = slots.call(CONTRACT, {"x": np.zeros((1, 4), np.uint8)}, None)
        slots.give_back(call.slot)
    assert len(cuda.blocks) == 1
    del call
    slots.close()
    gc.collect()
    assert cuda.blocks == {}


def test_memory_that_the_server_has_open_is_not_freed(cuda: FakeCuda) -> None:
    """CUDA leaves undefined what happens when it is: it stays until the server has closed its side."""
    slots = Slots("cuda", HERE)
    call = slots.call(CONTRACT, {"x": np.zeros((1, 4), np.uint8)}, None)
    assert call.slot is not None
    call.slot.registered = True
    slots.give_back(call.slot, clean=False)
    slot, call = call.slot, None  # type: ignore[assignment]
    gc.collect()
    assert len(cuda.blocks) == 1
    slots.version({"version": "2.50.0"})
    assert slots.reclaimable() == [slot]
    slots.drop(slot)
    del slot
    gc.collect()
    assert cuda.blocks == {}


def test_auto_takes_the_gpu_only_where_both_see_the_same(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = {"x": np.zeros((1, 4), np.uint8)}

    def kind() -> str:
        slots = Slots("auto", HERE)
        call = slots.call(CONTRACT, x, None)
        slots.close()
        return call.slot.memory.kind if call.slot else "none"

    assert kind() == "cuda"
    monkeypatch.setattr(cuda_memory, "_server_gpus", lambda _: [])
    assert kind() == "system"
    monkeypatch.setattr(cuda_memory, "_server_gpus", lambda _: ["GPU-another"])
    assert kind() == "system"
    with pytest.raises(ClientError, match="the server uses GPU-another, and this process sees GPU-0001"):
        Slots("cuda", HERE).call(CONTRACT, x, None)
    assert Slots("auto", Address("grpc", "192.0.2.1:1")).call(CONTRACT, x, None).slot is None


def test_without_room_or_a_driver_cuda_is_refused_and_auto_goes_on(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = {"x": np.zeros((1, 4), np.uint8)}
    cuda.room = 100
    with pytest.raises(ClientError, match=r"cuMemAlloc_v2: out of memory \(2\)"):
        Slots("cuda", HERE).call(CONTRACT, x, None)
    slots = Slots("auto", HERE)
    call = slots.call(CONTRACT, x, None)
    assert call.slot is not None
    assert call.slot.memory.kind == "system"
    slots.close()
    cuda_driver._driver.cache_clear()
    monkeypatch.undo()
    monkeypatch.setattr(cuda_driver, "LIBRARY", "libcuda-that-is-not-there.so.1")
    with pytest.raises(ClientError, match="there is no NVIDIA driver here"):
        Slots("cuda", HERE).call(CONTRACT, x, None)


def test_the_server_s_gpus_are_read_from_its_metrics(sample: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    text = sample("metrics.txt")
    with serving(lambda _: text) as (port, asked):
        monkeypatch.setenv("METRICS_PORT", str(port))
        assert cuda_memory._server_gpus("127.0.0.1") == ["GPU-00000000-0000-0000-0000-000000000000"]
        assert asked == ["/metrics"]
    assert cuda_memory._server_gpus("127.0.0.1") == []


class serving:  # noqa: N801  (a context manager)
    """A server that answers by path and remembers what it was asked: NOT a Triton."""

    def __init__(self, answer: Any) -> None:
        asked = self._asked = []  # type: ignore[var-annotated]

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                body = answer(self.path).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.do_GET()

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self) -> tuple[int, list[str]]:
        return self._server.server_address[1], self._asked

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_a_killed_client_s_gpu_memory_is_unregistered() -> None:
    """The driver frees the client's side; the server's has to be closed, which is what unregistering does."""
    code = (
        "import sys, time\nfrom fakes.libcuda import FakeCuda, UUID_TEXT\n"
        "from triton_stack_client.transport import cuda_driver, cuda_memory\n"
        "from triton_stack_client.transport.shared_memory import Slots\n"
        "from triton_stack_client.transport.address import Address\n"
        "from triton_stack_client.contract import Contract\n"
        "cuda_driver._library = FakeCuda\ncuda_memory._server_gpus = lambda _: [UUID_TEXT]\n"
        f"contract = Contract.of({METADATA!r}, {{'max_batch_size': 8}})\n"
        "slots = Slots('cuda', Address('http', sys.argv[1]))\n"
        "array = slots.array(contract, 'x', 2)\n"
        "print(slots.borrow(contract).region, array.region, flush=True)\n"
        "time.sleep(60)\n"
    )
    with serving(lambda _: json.dumps({"name": "triton", "version": "2.51.0"})) as (port, asked):
        process = subprocess.Popen(
            [sys.executable, "-c", code, f"127.0.0.1:{port}"],
            env={**os.environ, "PYTHONPATH": f"{PACKAGES}{os.pathsep}{PACKAGES.split(os.pathsep)[0]}/tests"},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        regions = process.stdout.readline().split()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        wanted = {f"/v2/cudasharedmemory/region/{name}/unregister" for name in regions}
        deadline = time.monotonic() + 20
        while not wanted <= set(asked):
            assert time.monotonic() < deadline, asked
            time.sleep(0.05)
    assert len(wanted) == 2
    for file in Path("/dev/shm").glob(f"fake-cuda-{process.pid}-*"):  # noqa: S108
        file.unlink()
