"""Arrays are checked against the contract before they travel; addresses are read as they are meant."""

from __future__ import annotations

import numpy as np
import pytest
from triton_stack_client.contract import Contract
from triton_stack_client.errors import ClientError, ContractError
from triton_stack_client.transport import address


@pytest.fixture
def contract() -> Contract:
    metadata = {
        "name": "m",
        "versions": ["2", "11"],
        "inputs": [{"name": "x", "datatype": "UINT8", "shape": [-1, 4, 4, 3]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 10]}],
    }
    return Contract.of(metadata, {"max_batch_size": 8, "parameters": {"weights": {"string_value": "w"}}})


def test_it_is_read_from_the_server_s_own_answers(contract: Contract) -> None:
    assert contract.version == 11
    assert contract.weights == "w"
    given, got = contract.single()
    assert (given.dims, given.numpy, given.nbytes(2)) == ((4, 4, 3), np.dtype("uint8"), 96)
    assert str(got) == "y: FP32 [n, 10]"


def test_a_good_array_is_not_copied(contract: Contract) -> None:
    batch = np.zeros((3, 4, 4, 3), np.uint8)
    assert contract.check({"x": batch})["x"] is batch
    turned = batch.transpose(0, 2, 1, 3)[:, ::-1]
    assert contract.check({"x": turned})["x"].flags.c_contiguous


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((1, 4, 4, 3), np.float32), "takes x: UINT8 .n, 4, 4, 3.; given was float32 .1, 4, 4, 3."),
        (np.zeros((4, 4, 3), np.uint8), "given was uint8 .4, 4, 3."),
        (np.zeros((9, 4, 4, 3), np.uint8), "takes 1 to 8 samples at once; given were 9"),
        (np.zeros((0, 4, 4, 3), np.uint8), "given were 0"),
        ([[1]], "given was list"),
    ],
)
def test_what_does_not_fit_is_named(contract: Contract, array: np.ndarray, words: str) -> None:
    with pytest.raises(ContractError, match=words):
        contract.check({"x": array})
    with pytest.raises(ContractError, match="m takes x; given were z"):
        contract.check({"z": array})


def test_a_model_that_does_not_batch_is_refused() -> None:
    with pytest.raises(ContractError, match="m does not batch"):
        Contract.of({"name": "m", "inputs": [], "outputs": []}, {})


@pytest.mark.parametrize(
    ("url", "protocol", "wanted"),
    [
        (None, None, ("grpc", "127.0.0.1:8001")),
        (None, "http", ("http", "127.0.0.1:8000")),
        ("http://h:1", None, ("http", "h:1")),
        ("grpc://h:1/", None, ("grpc", "h:1")),
        ("h:5", "http", ("http", "h:5")),
        ("h", None, ("grpc", "h:8001")),
        ("[::1]:9", None, ("grpc", "[::1]:9")),
        ("[::1]", "http", ("http", "[::1]:8000")),
    ],
)
def test_addresses(monkeypatch: pytest.MonkeyPatch, url: str, protocol: str, wanted: tuple[str, str]) -> None:
    for name in ("TRITON_HOST", "HTTP_PORT", "GRPC_PORT"):
        monkeypatch.delenv(name, raising=False)
    found = address.resolve(url, protocol)
    assert (found.protocol, found.host_port) == wanted


@pytest.mark.parametrize(
    ("url", "protocol", "words"),
    [
        ("ftp://h:1", None, "begins with ftp://"),
        ("http://h:1", "grpc", "contradicts the protocol grpc"),
        ("h:port", None, "expected http://host:port"),
        ("h:99999", None, "expected http://host:port"),
        ("http://h:1/v2", None, "expected http://host:port"),
        ("h:1", "soap", "it is one of http, grpc"),
    ],
)
def test_addresses_that_cannot_be(url: str, protocol: str, words: str) -> None:
    with pytest.raises(ClientError, match=words):
        address.resolve(url, protocol)


def test_predict_on_several_tensors_says_how_to_call_infer() -> None:
    def tensors(*names: str) -> list[dict[str, object]]:
        return [{"name": n, "datatype": "FP32", "shape": [-1, 2]} for n in names]

    metadata = {"name": "m", "versions": ["1"], "inputs": tensors("a", "b"), "outputs": tensors("y", "z")}
    with pytest.raises(ContractError, match="the inputs a, b and the outputs y, z") as caught:
        Contract.of(metadata, {"max_batch_size": 8}).single()
    assert caught.value.remedy == 'answer = model.infer({"a": ..., "b": ...}), then answer["y"] and ["z"]'
