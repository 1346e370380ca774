"""CUDA shared memory on a real GPU, against the Triton that runs there (`./scripts/up --device gpu`).

Where: TRITON_HOST with HTTP_PORT, GRPC_PORT and METRICS_PORT; CUDA_TEST_MODEL names a live model, else
the first one that is ready is taken. Without a GPU or such a server every test is skipped, with the reason.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from typing import Any

import numpy as np
import pytest
from support.stack import PACKAGES
from triton_stack_client import ClientError, Model
from triton_stack_client.transport import address, cuda_driver, cuda_memory
from triton_stack_client.transport.cuda_driver import CudaError

HOST = os.environ.get("TRITON_HOST") or "127.0.0.1"
HTTP = f"http://{HOST}:{os.environ.get('HTTP_PORT') or 8000}"
# A server older than 2.50 is left a minute by the guard, for requests that may still run.
RELEASED = 90.0


def ask(path: str, data: bytes | None = None) -> Any:
    with urllib.request.urlopen(HTTP + path, data, timeout=5) as answer:
        return json.load(answer)


def registered() -> set[str]:
    return {row["name"] for row in ask("/v2/cudasharedmemory/status")}


@pytest.fixture(scope="module")
def name() -> str:
    try:
        cuda_memory.shared_gpu(address.resolve(None, None), sure=True)
    except CudaError as e:
        pytest.skip(f"no GPU that this process and a Triton share: {e}")
    index = ask("/v2/repository/index", b"{}")
    ready = [row["name"] for row in index if row.get("state") == "READY"]
    if not ready:
        pytest.skip(f"{HTTP} serves no model")
    return os.environ.get("CUDA_TEST_MODEL") or str(ready[0])


@pytest.fixture
def inputs(name: str) -> dict[str, np.ndarray]:
    """Two samples of each input, seeded."""
    random = np.random.default_rng(0)
    with Model(name) as model:
        return {t.name: random.integers(0, 256, (2, *t.usual)).astype(t.numpy) for t in model.contract.inputs}


def free_memory() -> int:
    import ctypes

    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    with cuda_driver.context(0)._current():
        cuda_driver.driver().call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    return free.value


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize("mode", ["cuda", "auto"])
def test_answers_equal_those_of_the_wire(
    name: str, inputs: dict[str, np.ndarray], protocol: str, mode: str
) -> None:
    with Model(name, protocol=protocol) as model:
        wire = model.infer(inputs)
    with Model(name, protocol=protocol, shared_memory=mode) as model:
        for _ in range(20):
            got = model.infer(inputs)
            for output, values in wire.items():
                np.testing.assert_allclose(got[output], values, rtol=1e-2, atol=1e-2)
        assert len(registered()) == 1
    assert registered() == set()


def test_device_arrays_carry_inputs_and_outputs_without_a_copy(
    name: str, inputs: dict[str, np.ndarray]
) -> None:
    with Model(name) as model:
        wire = model.infer(inputs)
    with Model(name, shared_memory="cuda") as model:
        given = {n: model.device_array(n, len(a)) for n, a in inputs.items()}
        into = {n: model.device_array(n, len(a)) for n, a in wire.items()}
        for n, a in inputs.items():
            given[n].fill(a)
        assert model.infer(given, into=into) == {}
        for n, values in wire.items():
            np.testing.assert_allclose(into[n].numpy(), values, rtol=1e-2, atol=1e-2)
    assert registered() == set()


@pytest.mark.parametrize("library", ["torch", "cupy"])
def test_a_framework_s_array_is_taken_and_ours_is_written(
    name: str, inputs: dict[str, np.ndarray], library: str
) -> None:
    framework = pytest.importorskip(library)
    to_gpu = (lambda a: framework.from_numpy(a).cuda()) if library == "torch" else framework.asarray
    with Model(name) as model:
        wire = model.infer(inputs)
    with Model(name, shared_memory="cuda") as model:
        theirs = {n: to_gpu(a) for n, a in inputs.items()}
        ours = {n: model.device_array(n, len(a)) for n, a in inputs.items()}
        for n, array in theirs.items():
            framework.from_dlpack(ours[n])[:] = array
        for given in (theirs, ours):
            got = model.infer(given)
            for output, values in wire.items():
                np.testing.assert_allclose(got[output], values, rtol=1e-2, atol=1e-2)
        transposed = {n: a.T if library == "cupy" else a.transpose(0, -1) for n, a in theirs.items()}
        with pytest.raises(ClientError, match=r"not contiguous|takes"):
            model.infer(transposed)
    assert registered() == set()


def test_many_cycles_leak_no_gpu_memory(name: str, inputs: dict[str, np.ndarray]) -> None:
    def cycle() -> None:
        with Model(name, shared_memory="cuda") as model:
            first = next(iter(inputs))
            array = model.device_array(first, 2)
            array.fill(inputs[first])
            model.infer({**inputs, first: array})

    for _ in range(3):
        cycle()
    gc.collect()
    before = free_memory()
    for _ in range(60):
        cycle()
    gc.collect()
    assert before - free_memory() < 64 << 20
    assert registered() == set()


def test_what_a_killed_client_had_registered_is_released(name: str) -> None:
    code = (
        "import numpy as np, time\nfrom triton_stack_client import Model\n"
        f"model = Model({name!r}, shared_memory='cuda')\n"
        "model.infer({t.name: np.zeros((1, *t.usual), t.numpy) for t in model.contract.inputs})\n"
        "model.device_array(model.contract.inputs[0].name, 1)\n"
        "print('ready', flush=True)\ntime.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [PACKAGES, os.environ.get("PYTHONPATH")])),
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert registered()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + RELEASED
    while registered():
        assert time.monotonic() < deadline, registered()
        time.sleep(0.5)
    with Model(name) as model:  # the server is unharmed
        model.infer({t.name: np.zeros((1, *t.usual), t.numpy) for t in model.contract.inputs})
