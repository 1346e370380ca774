"""What the shadow service makes of copies and answers, without a server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from triton_stack_client.shadow.answers import Answer, UnusableError, copied, parsed
from triton_stack_client.shadow.judge import Bounds, difference
from triton_stack_client.shadow.metrics import Metrics
from triton_stack_client.shadow.service import Limits, Service

from models_volume.comparator import Allowance

ALLOWED = {"y": Allowance(0.01)}


def answer(y: object, **others: object) -> Answer:
    outputs = {name: np.asarray(value) for name, value in {"y": y, **others}.items()}
    return Answer("3", outputs)


def test_a_copy_asks_for_all_outputs_as_binary_and_keeps_the_tensors() -> None:
    request = {"id": "mine", "inputs": [{"name": "x"}], "outputs": [{"name": "y"}]}
    head = json.dumps(request).encode()
    body, length = copied(head + b"\x01\x02", str(len(head)))
    assert json.loads(body[:length]) == {
        "inputs": [{"name": "x"}],
        "parameters": {"binary_data_output": True},
    }
    assert body[length:] == b"\x01\x02"
    body, length = copied(head, None)
    assert len(body) == length


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"inputs": [], "parameters": {"sequence_id": 1}}', b'"x"', b"\xff"]
)
def test_what_cannot_be_copied_is_told(body: bytes) -> None:
    with pytest.raises(UnusableError):
        copied(body, None)


def test_answers_are_read_in_both_forms() -> None:
    y = np.array([[1.5, 2.5]], np.float32)
    binary = [{"name": "y", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}]
    head = json.dumps({"model_version": "7", "outputs": binary}).encode()
    found = parsed(head + y.tobytes(), str(len(head)))
    assert found.version == "7"
    assert np.array_equal(found.outputs["y"], y)
    plain = [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1.5, 2.5]}]
    found = parsed(json.dumps({"model_version": "7", "outputs": plain}).encode(), None)
    assert np.array_equal(found.outputs["y"], y)
    with pytest.raises(UnusableError):
        parsed(head + b"short", str(len(head)))


def test_answers_agree_within_twice_what_is_allowed_and_no_further() -> None:
    assert difference(answer([[1.0, 2.0]]), answer([[1.019, 2.0]]), ALLOWED) is None
    found = difference(answer([[1.0, 2.0], [1.0, 2.0]]), answer([[1.0, 2.0], [1.0, 2.021]]), ALLOWED)
    assert found is not None
    assert (found.output, found.row, found.allowed) == ("y", 1, 0.02)
    assert found.max_abs == pytest.approx(0.021)


def test_what_is_no_number_must_be_equal() -> None:
    nan = [[float("nan"), 1.0]]
    assert difference(answer(nan), answer(nan), ALLOWED) is None
    assert difference(answer(nan), answer([[1.0, 1.0]]), ALLOWED) is not None
    one, other = np.array([[b"a"]], object), np.array([[b"b"]], object)
    assert difference(answer([[1.0]], w=one), answer([[1.0]], w=one), ALLOWED) is None
    assert difference(answer([[1.0]], w=one), answer([[1.0]], w=other), ALLOWED) is not None


def test_other_tensors_differ() -> None:
    assert difference(answer([[1.0]]), answer([[1.0]], z=[[1.0]]), ALLOWED) is not None
    assert difference(answer([[1.0]]), answer([[1.0, 1.0]]), ALLOWED) is not None
    assert difference(answer(np.zeros((1, 1), np.float16)), answer(np.zeros((1, 1), np.float32)), ALLOWED)
    assert difference(answer([[1]]), answer([[2]]), {}) is not None, "no bound: equal"


class Anything(Bounds):
    """A volume on which every model is."""

    def of(self, model: str) -> dict[str, Allowance]:
        return {}


def test_more_than_may_wait_is_refused_and_counted(tmp_path: Path) -> None:
    """The two servers never answer, so what is taken stays."""

    async def silent(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async def scenario() -> tuple[list[int], str]:
        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        place = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        metrics = Metrics()
        service = Service(Anything(tmp_path), metrics, Limits(copies=3, bytes=1000, timeout=60))
        runner = web.AppRunner(service.application())
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/shadow/m"
        headers = {"X-Shadow-Canary": place, "X-Shadow-Other": place, "X-Shadow-Dropped": "large=4,busy=2"}
        statuses = []
        async with aiohttp.ClientSession() as session:
            for body in (b"x" * 1001, *[b'{"inputs": []}'] * 5):
                async with session.post(url, data=body, headers=headers) as taken:
                    statuses.append(taken.status)
                headers.pop("X-Shadow-Dropped", None)
        await runner.cleanup()
        server.close()
        return statuses, metrics.text()

    statuses, text = asyncio.run(scenario())
    assert statuses == [429, 202, 202, 202, 429, 429]
    assert 'triton_stack_shadow_dropped_total{model="m",reason="busy"} 5' in text
    assert 'triton_stack_shadow_dropped_total{model="m",reason="large"} 4' in text
