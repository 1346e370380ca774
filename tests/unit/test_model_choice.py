"""Which model a verb works on."""

from __future__ import annotations

import pytest
from ops import model_choice
from ops.errors import OpsError

ONE = {"a": {"live": 3}, "b": {"live": None}}
TWO = {"a": {"live": 3}, "b": {"live": 1}}


def test_the_only_live_model_needs_no_name() -> None:
    assert model_choice.only_live(ONE, None) == "a"
    assert model_choice.only_live(ONE, "b") == "b"


def test_with_several_live_models_one_must_be_named() -> None:
    with pytest.raises(OpsError) as error:
        model_choice.only_live(TWO, None)
    assert error.value.facts() == {
        "kind": "OpsError",
        "found": "2 models are live and none was named",
        "expected": "one of: a, b",
        "remedy": "--model a",
        "details": "",
    }


def test_nothing_live_is_told_with_what_to_do() -> None:
    with pytest.raises(OpsError, match=r"no model is live\n  next: ./scripts/up"):
        model_choice.only_live({}, None)


def test_without_a_name_every_model_is_meant() -> None:
    assert model_choice.known(TWO, []) == ["a", "b"]
    assert model_choice.known({}, []) == []


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(OpsError, match=r'no model "c"\n  expected: one of: a, b'):
        model_choice.only_live(TWO, "c")
    with pytest.raises(OpsError, match="nothing has been built yet"):
        model_choice.known({}, ["c"])
