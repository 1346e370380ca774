"""One program: every verb has a door, a line of help, and the same meaning of the same flags."""

from __future__ import annotations

import argparse
import json
import os
import pty
import subprocess
from pathlib import Path

import pytest
from ops import client_program, program
from ops.arguments import JSON_HELP, MODEL_HELP, RUNTIME_HELP
from support.stack import ROOT

SCRIPTS = ROOT / "scripts"
PARSED = [verb for verb in program.VERBS if verb != "test"]  # its arguments are pytest's


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """The environment of a fresh clone: no virtual environments, no models, no package index."""
    return {
        **os.environ,
        "VENVS_DIR": str(tmp_path / "venvs"),
        "MODELS_DIR": str(tmp_path / "models"),
        "PIP_NO_INDEX": "1",
        "UV_NO_INDEX": "1",
    }


def run(env: dict[str, str], *argv: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, argv)], env=env, cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )


def actions(verb: str) -> dict[str, argparse.Action]:
    parser = program.parser("x", verb)
    return {option: action for action in parser._actions for option in action.option_strings}


def test_every_verb_has_a_module_and_a_door_that_is_a_link_to_the_program() -> None:
    doors = {p.name for p in SCRIPTS.iterdir() if p.is_symlink()}
    modules = {p.stem for p in (SCRIPTS / "ops" / "commands").glob("*.py")} - {"__init__"}
    assert doors == modules == set(program.VERBS)
    assert {os.readlink(SCRIPTS / door) for door in doors} == {"stack"}


def test_one_help_has_a_line_for_every_verb(bare: dict[str, str]) -> None:
    done = run(bare, "./scripts/stack", "--help")
    assert done.returncode == 0
    lines = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.startswith("  ")}
    assert list(lines) == list(program.VERBS)
    assert all(len(words) > 3 for words in lines.values())


@pytest.mark.parametrize("argv", [[], ["fly"], ["--json", "status"]])
def test_what_is_no_verb_is_refused_with_the_list_of_verbs(bare: dict[str, str], argv: list[str]) -> None:
    done = run(bare, "./scripts/stack", *argv)
    assert done.returncode == 2
    assert "redeploy" in done.stderr
    assert ("is missing" if not argv else f'"{argv[0]}" is no verb') in done.stderr


@pytest.mark.parametrize("verb", PARSED)
def test_the_same_flag_means_the_same_everywhere(verb: str) -> None:
    found = actions(verb)
    assert found["--json"].help == JSON_HELP
    assert found["--runtime"].help == RUNTIME_HELP
    # The last ones have an argument of their own for it.
    if verb in ("down", "doctor", "keys", "swarm", "promote", "pull", "push", "rollout", "tune"):
        assert "--model" not in found
    else:
        assert found["--model"].help == MODEL_HELP


@pytest.mark.parametrize("verb", program.VERBS)
def test_help_names_the_command_that_was_typed(bare: dict[str, str], verb: str) -> None:
    assert run(bare, f"./{verb}", "--help", cwd=SCRIPTS).stdout.startswith(f"usage: ./{verb} ")
    typed = run(bare, "scripts/stack", verb, "--help")
    assert typed.stdout.startswith(f"usage: scripts/stack {verb} ")
    assert "python -m" not in typed.stdout


@pytest.mark.parametrize(
    ("verb", "option"), [("classify", "--concurrency"), ("latency", "--requests"), ("bench", "--compare")]
)
def test_the_client_s_options_are_told_before_set_up(
    bare: dict[str, str], verb: str, option: str, tmp_path: Path
) -> None:
    assert option in run(bare, f"./scripts/{verb}", "--help").stdout
    assert list(tmp_path.iterdir()) == []


def test_wrong_usage_is_refused_before_set_up(bare: dict[str, str], tmp_path: Path) -> None:
    done = run(bare, "./scripts/latency", "--requests", "0")
    assert done.returncode == 2
    assert "./scripts/latency: error: argument --requests: invalid positive value: '0'" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_the_client_gets_is_what_was_typed_without_the_runtime() -> None:
    argv = ["--runtime", "native", "a.png", "--model", "m", "--runtime=docker", "-", "--json"]
    assert client_program.forwarded(argv) == ["a.png", "--model", "m", "-", "--json"]


@pytest.mark.parametrize("argv", [["releases"], ["prune", "--keep", "1"], ["status"]])
def test_a_fresh_clone_is_told_what_is_true(bare: dict[str, str], argv: list[str]) -> None:
    done = run(bare, "./scripts/stack", *argv, "--runtime", "native")
    assert "nothing has been built yet: ./scripts/up" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "argv", [["releases"], ["prune", "--keep", "1"], ["status"]], ids=lambda argv: str(argv[0])
)
def test_an_unknown_model_is_an_error_with_the_known_ones(
    bare: dict[str, str], argv: list[str], tmp_path: Path
) -> None:
    for name in ("one", "two"):
        (tmp_path / "models" / "releases" / name / "1").mkdir(parents=True)
    done = run(bare, "./scripts/stack", *argv, "--runtime", "native", "--model", "one", "nope")
    assert done.returncode == 1
    assert 'error: there is no model "nope"\n  expected: one of: one, two\n' in done.stderr


def test_an_error_is_json_where_json_was_asked_for(bare: dict[str, str]) -> None:
    done = run(bare, "./scripts/rollback", "--runtime", "native", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"] == {
        "kind": "OpsError",
        "found": "the server is stopped",
        "expected": "",
        "remedy": "./scripts/up",
        "details": "",
    }


def test_down_answers_as_json(bare: dict[str, str]) -> None:
    done = run(bare, "./scripts/down", "--runtime", "native", "--json")
    assert json.loads(done.stdout) == {"runtime": "native", "result": "nothing was running"}


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_no_color_turns_colour_off(bare: dict[str, str], no_color: str, coloured: bool) -> None:
    main, terminal = pty.openpty()
    argv = ["./scripts/rollback", "--runtime", "native"]
    env = {**bare, "NO_COLOR": no_color}
    subprocess.run(argv, cwd=ROOT, env=env, stdout=terminal, stderr=terminal, timeout=60, check=False)
    os.close(terminal)
    said = os.read(main, 65536)
    os.close(main)
    assert b"error" in said
    assert (b"\033[" in said) is coloured
