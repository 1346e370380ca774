"""Shared memory of requests without an answer: given back, but never while the server may write to it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fakes.libcuda import UUID_TEXT, FakeCuda
from support.models import write_slow
from support.stack import PACKAGES, Stack
from triton_stack_client import AsyncModel, ClientError, Model, ServerError
from triton_stack_client.transport import cuda_driver, cuda_memory, protocol, shared_memory

SHM = Path("/dev/shm")  # noqa: S108  (where the server looks)
QUICK = np.ones((1, 1), np.float32)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("served")
    stack = Stack(folder / "models")
    stack.up(write_slow(folder / "slow"))
    yield stack
    stack.stop()


@pytest.fixture(scope="module")
def long(served: Stack) -> np.ndarray:
    """An input that keeps the model busy for about three seconds."""
    with Model("slow", url=f"grpc://127.0.0.1:{served.grpc}") as model:
        model.predict(QUICK)
        began = time.monotonic()
        model.predict(np.full((1, 1), 200, np.float32))
        return np.full((1, 1), 200 * 3 / (time.monotonic() - began), np.float32)


def url(stack: Stack, protocol: str) -> str:
    return f"{protocol}://127.0.0.1:{stack.grpc if protocol == 'grpc' else stack.http}"


def registered(stack: Stack) -> set[str]:
    address = f"http://127.0.0.1:{stack.http}/v2/systemsharedmemory/status"
    with urllib.request.urlopen(address, timeout=5) as answer:
        return {row["name"] for row in json.load(answer)}


def files() -> set[str]:
    return {p.name for p in SHM.glob(f"triton-client-{os.getpid()}-*")}


@pytest.mark.parametrize("old", [False, True], ids=["as it is", "as if older than 2.50"])
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_timeout_leaks_no_memory(
    served: Stack, long: np.ndarray, protocol: str, old: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = served.status()["server"]["pid"]
    if old:
        monkeypatch.setattr(shared_memory, "_PROTECTS", (99,))
    with Model("slow", url=url(served, protocol), timeout=0.5, shared_memory="system") as model:
        model.predict(QUICK)
        first = registered(served)
        assert len(first) == 1
        with pytest.raises(ServerError):
            model.predict(long)
        assert files() == set(), "its name is gone at once"
        assert registered(served) == first, "nothing is unmapped under the server's hands"
        deadline = time.monotonic() + 20
        while first & registered(served) or len(registered(served)) != 1 or len(files()) != 1:
            assert time.monotonic() < deadline, (first, registered(served), files())
            with contextlib.suppress(ServerError):  # the long one is still running
                np.testing.assert_equal(model.predict(QUICK), QUICK)
            time.sleep(0.1)
    assert registered(served) == set()
    assert files() == set()
    assert served.status()["server"]["pid"] == pid


def test_a_cancelled_task_leaks_no_memory(served: Stack, long: np.ndarray) -> None:
    async def cancelled() -> None:
        async with AsyncModel("slow", url=url(served, "grpc"), shared_memory="system") as model:
            await model.predict(QUICK)
            first = registered(served)
            task = asyncio.create_task(model.predict(long))
            await asyncio.sleep(0.3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            deadline = time.monotonic() + 20
            while first & registered(served):
                assert time.monotonic() < deadline
                np.testing.assert_equal(await model.predict(QUICK), QUICK)
                await asyncio.sleep(0.1)

    asyncio.run(cancelled())
    assert registered(served) == set()


def test_a_client_killed_in_mid_request_leaks_no_memory(served: Stack, long: np.ndarray) -> None:
    pid = served.status()["server"]["pid"]
    code = (
        "import numpy as np\nfrom triton_stack_client import Model\n"
        f"model = Model('slow', url={url(served, 'grpc')!r}, shared_memory='system')\n"
        "model.predict(np.ones((1, 1), np.float32))\nprint('asks', flush=True)\n"
        f"model.predict(np.full((1, 1), {float(long[0, 0])}, np.float32))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**served.env, "PYTHONPATH": PACKAGES},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "asks\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 30
    while registered(served) or list(SHM.glob(f"triton-client-{process.pid}-*")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert served.status()["server"]["pid"] == pid


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    """A FAKE GPU, whose memory the real server opens as the system memory that it is."""
    fake = FakeCuda()
    registration = protocol._registration

    def as_system(region: protocol.Region) -> tuple[object, ...]:
        function, *args = registration(region)
        if function != "register_cuda_shared_memory":
            return (function, *args)
        file = region.memory.handle.rstrip(b"\0").decode()
        return "register_system_shared_memory", region.region, f"/{file}", region.size

    monkeypatch.setattr(protocol, "_registration", as_system)
    for kind in (protocol.Connection, protocol.AsyncConnection):
        real = kind.unregister
        monkeypatch.setattr(kind, "unregister", lambda self, name, _, real=real: real(self, name, "system"))
    # The guard is a process of its own, and unregisters what it is told.
    line = shared_memory._line
    monkeypatch.setattr(shared_memory, "_line", lambda *args: line(*args).replace(b"cuda ", b"system "))
    monkeypatch.setattr(cuda_driver, "_library", lambda: fake)
    monkeypatch.setattr(cuda_memory, "_server_gpus", lambda _: [UUID_TEXT])
    cuda_driver._driver.cache_clear()
    cuda_driver._context.cache_clear()
    yield fake
    cuda_driver._driver.cache_clear()
    cuda_driver._context.cache_clear()


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_gpu_memory_carries_inputs_and_outputs(served: Stack, cuda: FakeCuda, protocol: str) -> None:
    before = registered(served)
    with Model("slow", url=url(served, protocol), shared_memory="auto") as model:
        name, out = model.contract.inputs[0].name, model.contract.outputs[0].name
        for value in (1, 2, 3):
            np.testing.assert_equal(model.predict(QUICK * value), QUICK * value)
        assert len(registered(served) - before) == 1
        x, y = model.device_array(name, 1), model.device_array(out, 1)
        for value in (4, 5):
            x.fill(QUICK * value)
            assert model.infer({name: x}, into={out: y}) == {}
            np.testing.assert_equal(y.numpy(), QUICK * value)
        assert len(registered(served) - before) == 3
    assert registered(served) == before
    del model, x, y
    gc.collect()
    assert cuda.blocks == {}


def test_gpu_memory_for_asyncio_is_given_back(served: Stack, cuda: FakeCuda) -> None:
    async def ask() -> None:
        async with AsyncModel("slow", url=url(served, "grpc"), shared_memory="cuda") as model:
            answers = await asyncio.gather(*(model.predict(QUICK * n) for n in range(4)))
            np.testing.assert_equal(np.concatenate(answers), np.arange(4, dtype=np.float32).reshape(4, 1))

    before = registered(served)
    asyncio.run(ask())
    assert registered(served) == before
    gc.collect()
    assert cuda.blocks == {}


def test_what_the_server_still_uses_when_a_client_closes_is_unregistered_by_its_guard(
    served: Stack, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton 2.50 and 2.51 refuse that while a request uses it, and for a moment after its answer."""

    def refuse(self: protocol.Connection, region: str, kind: str) -> None:
        raise ServerError(f"Cannot unregister {kind} region {region}, it is currently in use", refused=True)

    before = registered(served)
    with Model("slow", url=url(served, "grpc"), shared_memory="cuda") as model:
        model.predict(QUICK)
        assert len(registered(served) - before) == 1
        monkeypatch.setattr(protocol.Connection, "unregister", refuse)
    assert registered(served) == before


def test_a_server_without_a_gpu_refuses_the_handle_and_auto_goes_on(
    served: Stack, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the real registration of GPU memory, of a GPU that is not there
    monkeypatch.setattr(cuda_driver, "_library", lambda: cuda)
    monkeypatch.setattr(cuda_memory, "_server_gpus", lambda _: [UUID_TEXT])
    with Model("slow", url=url(served, "grpc"), shared_memory="auto") as model:
        for value in (1, 2, 3):
            np.testing.assert_equal(model.predict(QUICK * value), QUICK * value)
        assert len(registered(served)) == 1
    with Model("slow", url=url(served, "grpc"), shared_memory="cuda") as model, pytest.raises(ClientError):
        model.predict(QUICK)


def test_a_server_that_never_answers_takes_a_limited_number(served: Stack) -> None:
    slots = shared_memory.Slots("system", shared_memory.Address("grpc", f"127.0.0.1:{served.grpc}"))
    with Model("slow", url=url(served, "grpc")) as model:
        contract = model.contract
    taken = 0
    while (slot := slots.borrow(contract)) is not None:
        taken += 1
        assert taken < 20
        slots.give_back(slot, clean=False)
    assert taken == 8
    assert files() == set()
    slots.close()
