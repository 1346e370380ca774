"""The gate's comparison of a request with a contract, in HAProxy's own Lua."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import lua

from gateway import contract
from models_volume.manifest import Manifest

CHECK = """
    local gate = require('gate')
    local status, why = gate.check(case, gate.contracts(%s), %s)
    answer(status == nil and true or status .. ' ' .. why)
"""


def manifest(**changes: Any) -> Manifest:
    """Two inputs: ``image`` UINT8 [4, 2] and ``ids`` INT32 with one free dimension, 2 to 9."""
    inputs = [
        {"name": "image", "dtype": "UINT8", "dims": [4, 2]},
        {"name": "ids", "dtype": "INT32", "dims": [-1], "ranges": [{"min": 2, "opt": 4, "max": 9}]},
    ]
    data = {
        "model": "m",
        "version": 1,
        "contract": {
            "inputs": inputs,
            "outputs": [{"name": "y", "dtype": "FP32", "dims": [3]}],
            "min_batch_size": 1,
            "max_batch_size": 4,
            "tolerance": {"max_abs": 1, "top1": 1},
            **changes,
        },
        "weights": {"untrained": False, "description": ""},
        "engine": {},
        "spec": {},
    }
    return Manifest.of(data)


def request(**changes: Any) -> dict[str, Any]:
    image = {
        "name": "image",
        "datatype": "UINT8",
        "shape": [1, 4, 2],
        "data": [0, 1, 2, 3, 252, 253, 254, 255],
    }
    ids = {"name": "ids", "datatype": "INT32", "shape": [1, 2], "data": [-5, 7]}
    return {"inputs": [{**image, **changes.pop("image", {})}, {**ids, **changes.pop("ids", {})}], **changes}


def check(folder: Path, cases: list[Any], binary: str = "nil", contracts: Any = None) -> list[Any]:
    text = contract.gate_text(contracts or [contract.of(manifest())])
    encoded = [case if isinstance(case, bytes) else json.dumps(case).encode() for case in cases]
    return lua.run(folder, CHECK % (json.dumps(text), binary), encoded)


def test_what_a_client_may_send_passes(tmp_path: Path) -> None:
    good = [
        request(),
        request(id="7", parameters={"timeout": 100, "binary_data_output": True}),
        request(outputs=[{"name": "y", "parameters": {"classification": 2, "binary_data": False}}]),
        request(outputs=[]),
        request(image={"data": [[[0, 1], [2, 3], [4, 5], [6, 7]]]}),
        request(image={"shape": [4, 4, 2], "data": [1] * 32}, ids={"shape": [4, 9], "data": [1] * 36}),
    ]
    assert check(tmp_path, good) == [True] * len(good)
    turned = {**request(), "inputs": request()["inputs"][::-1]}
    assert check(tmp_path, [turned]) == [True]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"image": {"shape": [1, 2**62, 2]}}, "dimension 1 of input"),
        ({"image": {"shape": [2**62, 4, 2]}}, "batch of input"),
        ({"image": {"shape": [0, 4, 2], "data": []}}, "whole number from 1 to 4"),
        ({"image": {"shape": [5, 4, 2], "data": [1] * 40}}, "whole number from 1 to 4"),
        ({"image": {"shape": [-1, 4, 2]}}, "whole number from 1 to 4"),
        ({"image": {"shape": [1.0, 4, 2]}}, "whole number from 1 to 4"),
        ({"image": {"shape": ["1", 4, 2]}}, "whole number from 1 to 4"),
        ({"image": {"shape": [1, 8]}}, "has 2 dimensions; the model takes 3"),
        ({"image": {"shape": [1, 2, 4]}}, "dimension 1"),
        ({"image": {"shape": "1,4,2"}}, "must be an array"),
        ({"ids": {"shape": [1, 1], "data": [1]}}, "from 2 to 9"),
        ({"ids": {"shape": [1, 10], "data": [1] * 10}}, "from 2 to 9"),
        ({"ids": {"shape": [2, 2], "data": [1] * 4}}, "differ in their batch"),
        ({"image": {"datatype": "FP32"}}, "is UINT8, not"),
        ({"image": {"datatype": 1}}, "is UINT8, not"),
        ({"image": {"name": "other"}}, "has no input"),
        ({"image": {"name": "ids"}}, "is INT32, not"),
        ({"image": {"data": [1] * 7}}, "has 7 elements; its shape has 8"),
        ({"image": {"data": [1] * 7 + [256]}}, "beyond UINT8"),
        ({"image": {"data": [1] * 7 + [-1]}}, "beyond UINT8"),
        ({"image": {"data": [1] * 7 + [0.5]}}, "must be whole numbers"),
        ({"image": {"data": [1] * 7 + ["1"]}}, "must be numbers"),
        ({"image": {"data": [1] * 7 + [None]}}, "must be numbers"),
        ({"image": {"data": "AAAA"}}, "must be an array"),
        ({"ids": {"data": [1, 2**31]}}, "beyond INT32"),
        ({"image": {"more": 1}}, 'unknown key "more"'),
        ({"image": {"parameters": {"binary_data_size": 8}}}, "both data and binary_data_size"),
        ({"image": {"parameters": {"shared_memory_region": "r"}}}, "shared memory"),
        ({"outputs": [{"name": "y", "parameters": {"shared_memory_offset": 1}}]}, "shared memory"),
        ({"outputs": [{"name": "z"}]}, "has no output"),
        ({"outputs": [{"name": "y"}, {"name": "y"}]}, "comes twice"),
        ({"outputs": [{"name": "y", "parameters": {"classification": 2**40}}]}, "classification must be"),
        ({"outputs": {"name": "y"}}, "outputs must be an array"),
        ({"outputs": [{"name": "y", "parameters": {"a": {}}}]}, "must be a string, a number or a boolean"),
        ({"id": 7}, "id must be a string"),
        ({"parameters": [1]}, "must be an object"),
        ({"more": 1}, 'unknown key "more"'),
    ],
)
def test_what_the_contract_does_not_allow_is_refused(
    changes: dict[str, Any], why: str, tmp_path: Path
) -> None:
    [found] = check(tmp_path, [request(**changes)])
    assert found is not True, "it passed"
    assert why in found
    assert found.startswith("403" if "shared" in why else "400")


def test_inputs_are_all_there_and_once(tmp_path: Path) -> None:
    one, other = request()["inputs"]
    cases = [
        {"inputs": [one]},
        {"inputs": [one, other, one]},
        {"inputs": []},
        {},
        {"inputs": {}},
        [],
        7,
        None,
    ]
    found = check(tmp_path, cases)
    assert ["is missing" in found[0], "comes twice" in found[1], "is missing" in found[2]] == [True] * 3
    assert all(isinstance(f, str) for f in found)


def test_binary_sizes_agree_with_shapes_and_with_the_body(tmp_path: Path) -> None:
    def sized(image: Any, ids: Any) -> dict[str, Any]:
        inputs = request()["inputs"]
        for entry, size in zip(inputs, (image, ids)):
            del entry["data"]
            entry["parameters"] = {"binary_data_size": size}
        return {"inputs": inputs}

    assert check(tmp_path, [sized(8, 8)], "16") == [True]
    bad = [sized(8, 4), sized(9, 7), sized(-8, 8), sized(8.0, 8), sized("8", 8), sized(2**62, 8), request()]
    found = check(tmp_path, bad, "16")
    assert all("binary_data_size" in f for f in found[:-1]), found
    assert "0 bytes" not in found[-1]
    assert "16 bytes are behind the JSON part; the inputs take 0" in found[-1]
    for binary, why in (("15", "15 bytes are behind"), ("17", "17 bytes are"), ("nil", "needs the header")):
        assert why in check(tmp_path, [sized(8, 8)], binary)[0]
    mixed = request()
    mixed["inputs"][0] = sized(8, 8)["inputs"][0]
    assert check(tmp_path, [mixed], "8") == [True], "one input as JSON, the other as binary"


def test_while_a_release_goes_live_either_contract_holds(tmp_path: Path) -> None:
    both = [contract.of(manifest()), contract.of(manifest(max_batch_size=8))]
    long = request(image={"shape": [8, 4, 2], "data": [1] * 64}, ids={"shape": [8, 2], "data": [1] * 16})
    assert check(tmp_path, [long, request()], contracts=both) == [True, True]
    [found] = check(tmp_path, [long], contracts=both[:1])
    assert "from 1 to 4" in found


def test_fp16_comes_as_binary_only(tmp_path: Path) -> None:
    half = contract.of(manifest(inputs=[{"name": "x", "dtype": "FP16", "dims": [2]}]))
    given = {"name": "x", "datatype": "FP16", "shape": [1, 2], "data": [1, 2]}
    [found] = check(tmp_path, [{"inputs": [given]}], contracts=[half])
    assert "send it as binary" in found


SPLIT = """
    local part, length = case:match('^(.-)|(.*)$')
    if part == '' then part = nil end
    local a, b, c = require('gate').split('{}' .. ('x'):rep(8), tonumber(length), part, 100)
    answer(a and a .. ' ' .. tostring(b) or b .. ' ' .. c)
"""


@pytest.mark.parametrize(
    ("part", "length", "answer"),
    [
        ("2", "10", "{} 8"),
        ("2", "", "{} 8"),
        ("", "10", "{}xxxxxxxx nil"),
        ("10", "10", "{}xxxxxxxx 0"),
        ("11", "10", "400 Inference"),
        ("0", "10", "400 Inference"),
        ("02", "10", "400 Inference"),
        ("+2", "10", "400 Inference"),
        ("2 ", "10", "400 Inference"),
        ("2,2", "10", "400 Inference"),
        ("0x2", "10", "400 Inference"),
        ("18446744073709551618", "10", "400 Inference"),
        ("20", "30", "413 the JSON part is too long"),
        ("", "30", "413 the JSON part is too long"),
    ],
)
def test_the_json_part_is_found(part: str, length: str, answer: str, tmp_path: Path) -> None:
    [found] = lua.run(tmp_path, SPLIT, [f"{part}|{length}".encode()])
    assert found.startswith(answer)
