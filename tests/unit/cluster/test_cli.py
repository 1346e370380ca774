"""`python -m cluster`: its commands, and how they say that something is wrong."""

from __future__ import annotations

import argparse
import json

import pytest
from ops.runtimes.native import Native
from ops.settings import load

from cluster import cli
from cluster.errors import ClusterError


def refuse(_: argparse.Namespace) -> None:
    raise ClusterError(
        "no such node: n9", expected="one of: n1, n2", remedy="./scripts/status", details="a\nb"
    )


def full(_: argparse.Namespace) -> None:
    raise OSError(28, "No space left on device", "/models/staging")


@pytest.fixture(params=[refuse, full], ids=["ClusterError", "OSError"])
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> object:
    def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
        parser = commands.add_parser("x")
        parser.add_argument("--json", action="store_true")
        parser.set_defaults(run=request.param)

    monkeypatch.setattr(cli, "ADD", [add])
    return request.param


def test_an_error_is_a_sentence_and_not_a_traceback(run: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["x"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    if run is refuse:
        assert (
            err
            == "error: no such node: n9\n  expected: one of: n1, n2\n  | a\n  | b\n  next: ./scripts/status\n"
        )
    else:
        assert err == "error: /models/staging: No space left on device\n"


def test_with_json_the_error_is_data(run: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["x", "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert set(error) == {"kind", "found", "expected", "remedy", "details"}
    assert error["kind"] == "ClusterError"


def test_the_operator_s_commands_reach_it() -> None:
    """In containers: tests/docker."""
    code, said = Native(load({}), "cpu", setup=False).ask("cluster", ["--help"])
    assert code == 0
    assert said.startswith("usage: python -m cluster")
