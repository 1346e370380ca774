"""The gate's JSON parser, in HAProxy's own Lua."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import lua

PARSE = """
    local value, why = require('json').parse(case)
    answer(value == nil and why or true)
"""
SUM = """
    local value, why = require('json').parse(case)
    if value == nil then answer(why) return end
    local s = value.members.data
    answer(string.format("%d %d %d %s %s", s.integers, s.floats, s.others, s.low, s.high))
"""

GOOD = [
    "{}", "[]", "1", '"x"', "null", "true", ' \t\r\n{"a" : [ 1 , 2.5e-3 , -0 , "x" ] } \n',
    '{"a":{"a":{"a":1}}}', '"\\u00e4\\ud83d\\ude00\\n\\/"', '"\u00e4\u20ac\U0001f600"', "9007199254740993",
    "1e308", '{"data":[[1,2],[3,4]]}', '{"data":[]}', '{"data":[ 1 , 2 ] , "x":1}', '{"data":7}',
    '{"data":[1.5,-2,3e2]}',
    '{"inputs":[{"name":"x","shape":[2,6],"datatype":"FP32","data":[0.0,1.0]}],"outputs":[{"name":"y"}]}',
    '"\\u007f\x7f"', "[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]",
]  # fmt: skip
BAD = [
    "", " ", "{", "}", "[", "[1", "[1,", "[1,]", "[,1]", "{,}", '{"a"}', '{"a":}', '{"a":1,}', '{a:1}',
    "{'a':1}", '{"a":1 "b":2}', "[1 2]", "nul", "True", "NaN", "Infinity", "-Infinity", "-", "+1", ".5",
    "5.", "1e", "1e+", "01", "-01", "0x10", "1_000", "1 2", "{} {}", "{}x", '"', '"\\"', '"\\x41"',
    '"\\u12"', '"\\ud800"', '"\\udc00"', '"\\ud800\\u0041"', '"a\nb"', '"a\tb"', '"\\u0000"', "\ufeff{}",
    "//x\n{}", "{}/**/", '{"data":[1,]}', '{"data":[1 2]}', '{"data":[01]}', '{"data":[1,2}',
    '{"data":[{"a":1}]}', '{"data":[nan]}', '{"data":[1,2]', '{"a":1,"a":2}', '{"a":1,"\\u0061":2}',
    '{"data":[1],"d\\u0061ta":[2]}', "1e400", "-1e400", "1" * 65, "[" * 17 + "]" * 17, "[" * 100_000,
    '{"a":' * 17 + "1" + "}" * 17, '{"data":' + "[" * 100_000, '"' + "a" * 4097 + '"',
    '"' + "\\n" * 4097 + '"', "[" + "1," * 20_000 + "1]",
]  # fmt: skip


def test_what_is_json_is_read_as_python_reads_it(tmp_path: Path) -> None:
    for text in GOOD:
        json.loads(text)
    found = lua.run(tmp_path, PARSE, [text.encode() for text in GOOD])
    assert [(t, f) for t, f in zip(GOOD, found) if f is not True] == []


def test_what_is_not_or_is_too_much_is_refused_with_a_reason(tmp_path: Path) -> None:
    cases = [text.encode() for text in BAD] + [
        b'"\xff"',
        b'"\xc0\x80"',
        b'"\xed\xa0\x80"',
        b"\x00",
        b"{}\x00",
    ]
    found = lua.run(tmp_path, PARSE, cases)
    assert [c for c, f in zip(cases, found) if not isinstance(f, str)] == []
    assert "something that cannot be read" not in found, "a mistake of the parser's own"


@pytest.mark.parametrize(
    ("data", "counted"),
    [
        ([1, 2, 300, -7], "4 0 0 -7 300"),
        ([[1, 2], [3.5, [4]]], "3 1 0 0 4"),
        (["a", True, None, 1], "1 0 3 0 1"),
        ([], "0 0 0 0 0"),
        ([10**20], "0 1 0 0 0"),
    ],
)
def test_data_is_counted_by_kind(data: list[Any], counted: str, tmp_path: Path) -> None:
    for separators in ((",", ":"), (" , ", " : ")):
        text = json.dumps({"data": data, "more": 1}, separators=separators)
        assert lua.run(tmp_path, SUM, [text.encode()]) == [counted]
