"""An error of the builder says the same through the scripts as it does from `python -m builder`."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ops.errors import OpsError
from ops.rollout import Rollout
from ops.settings import load

from builder import cli, errors
from builder.release.store import Store


def run_builder(argv: list[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `python -m builder ARGV`."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(argv)
    return code, out.getvalue(), err.getvalue()


class Runtime(SimpleNamespace):
    """What Rollout needs to run the builder."""

    device = "cpu"
    poll_secs = 1

    def ask(self, part: str, args: list[str]) -> tuple[int, str]:
        assert part == "builder"
        return run_builder(args)[:2]


@pytest.fixture
def through_scripts(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], OpsError]:
    """The scripts' error for a command of the builder."""
    monkeypatch.setattr("signal.signal", lambda *_: None)

    def through(argv: list[str]) -> OpsError:
        with pytest.raises(OpsError) as caught:
            Rollout(Runtime(), load({}))._builder(argv)  # type: ignore[arg-type]
        return caught.value

    return through


def kinds(base: type[errors.BuilderError] = errors.BuilderError) -> Iterator[type[errors.BuilderError]]:
    """The error class and all that are derived from it."""
    yield base
    for kind in base.__subclasses__():
        yield from kinds(kind)


@pytest.mark.parametrize("kind", list(kinds()))
def test_every_kind_of_error_arrives_whole(
    kind: type[errors.BuilderError],
    through_scripts: Callable[[list[str]], OpsError],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = kind("x: found -1", expected="1 or more", remedy="make it 1", details="line one\nline two")

    def fail(_args: object) -> None:
        raise error

    monkeypatch.setattr(cli, "_releases", fail)
    code, _, said = run_builder(["releases"])
    arrived = through_scripts(["releases"])
    assert code == 1
    assert said == f"error: {arrived}\n"
    assert arrived.facts() == {
        "kind": kind.__name__,
        "found": "x: found -1",
        "expected": "1 or more",
        "remedy": "make it 1",
        "details": "line one\nline two",
    }


def wrong_spec(make: Callable[..., Path], document: dict[str, Any], models: Path) -> list[str]:
    document["inputs"][0]["dims"] = [0]
    return ["build", str(make(document)), "--models-dir", str(models)]


def five_mistakes(make: Callable[..., Path], document: dict[str, Any], models: Path) -> list[str]:
    document["inputs"][0] = {"name": "x", "dtype": "FP99", "dims": [0]}
    document["batch"] = {"min": 0, "opt": 4, "max": "many"}
    return ["build", str(make(document)), "--models-dir", str(models)]


def no_source(make: Callable[..., Path], document: dict[str, Any], models: Path) -> list[str]:
    return ["build", str(make(document)), "--models-dir", str(models), "--engine", "onnxruntime"]


def no_such_spec(_make: Callable[..., Path], _document: dict[str, Any], models: Path) -> list[str]:
    return ["build", "nope", "--models-dir", str(models)]


def no_release(_make: Callable[..., Path], _document: dict[str, Any], models: Path) -> list[str]:
    return ["rollback", "m", "--models-dir", str(models)]


def keep_none(_make: Callable[..., Path], _document: dict[str, Any], models: Path) -> list[str]:
    return ["prune", "--keep", "0", "--models-dir", str(models)]


def no_folder(_make: Callable[..., Path], _document: dict[str, Any], models: Path) -> list[str]:
    models.write_text("a file where the volume should be")
    return ["retire", "m", "--models-dir", str(models)]


@pytest.mark.parametrize(
    "broken", [wrong_spec, five_mistakes, no_source, no_such_spec, no_release, keep_none, no_folder]
)
def test_what_people_meet_arrives_whole(
    broken: Callable[..., list[str]],
    through_scripts: Callable[[list[str]], OpsError],
    write: Callable[..., Path],
    document: dict[str, Any],
    tmp_path: Path,
) -> None:
    argv = broken(write, document, tmp_path / "models")
    code, _, said = run_builder(argv)
    assert code == 1
    assert f"error: {through_scripts(argv)}\n" in said


def test_the_mistakes_of_a_spec_stay_data(
    through_scripts: Callable[[list[str]], OpsError],
    write: Callable[..., Path],
    document: dict[str, Any],
    tmp_path: Path,
) -> None:
    mistakes = through_scripts(five_mistakes(write, document, tmp_path)).facts()["mistakes"]
    assert len(mistakes) >= 4
    assert all(set(m) == {"path", "found", "expected"} and m["expected"] for m in mistakes)


def test_a_lock_that_somebody_holds_is_told(
    through_scripts: Callable[[list[str]], OpsError], tmp_path: Path
) -> None:
    with Store(tmp_path).lock("a long build"):
        arrived = through_scripts(["confirm", "m", "--models-dir", str(tmp_path)])
    assert arrived.kind == "LockedError"
    assert "a long build" in str(arrived)


def test_json_of_the_builder_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["prune", "--keep", "0", "--json"]) == 1
    assert set(json.loads(capsys.readouterr().out)["error"]) == {
        "kind", "found", "expected", "remedy", "details",
    }  # fmt: skip
