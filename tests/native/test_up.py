"""``up``, ``status`` and ``down`` as an operator meets them, good days and bad."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from support.models import write_scale
from support.stack import ROOT, Stack


def test_up_twice_builds_once_and_serves_on_three_ports(stack: Stack, tmp_path: Path) -> None:
    spec = write_scale(tmp_path / "spec", weights="untrained")
    first = stack.up(spec)
    assert "building release 1" in first.stderr
    began = time.monotonic()
    second = stack.up(spec)
    assert time.monotonic() - began < 10
    assert "nothing is built" in second.stderr
    assert "building" not in second.stderr
    for port, path, words in (
        (stack.http, "/v2/models/scale/versions/1/ready", ""),
        (stack.metrics, "/metrics", "nv_inference_count"),
    ):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            assert words in answer.read().decode()
    status = stack.status()
    assert status["server"]["state"] == "running"
    assert status["server"]["version"] == "2.51.0"
    model = status["models"][0]
    assert (model["live"], model["ready"], model["releases"]) == (1, True, [1])


def test_untrained_weights_are_named_wherever_one_looks(stack: Stack, tmp_path: Path) -> None:
    done = stack.up(write_scale(tmp_path / "spec", weights="untrained"))
    assert "weights are untrained" in done.stderr  # the builder
    assert "untrained" in done.stdout  # the smoke test and the last words
    manifest = json.loads((stack.models_dir / "releases/scale/1/manifest.json").read_text())
    assert manifest["weights"]["untrained"] is True
    assert "untrained" in stack.run("status").stdout
    with urllib.request.urlopen(f"http://127.0.0.1:{stack.http}/v2/models/scale/config", timeout=5) as answer:
        assert json.load(answer)["parameters"]["weights"]["string_value"] == "untrained"


def test_a_changed_spec_is_a_new_release_and_setting_it_back_needs_no_build(
    stack: Stack, tmp_path: Path
) -> None:
    stack.up(write_scale(tmp_path / "a"))
    stack.up(write_scale(tmp_path / "b", factor=3))
    assert stack.status()["models"][0]["live"] == 2
    done = stack.up(write_scale(tmp_path / "a"))
    assert "release 1 is this very build; nothing is built" in done.stderr
    assert stack.status()["models"][0]["live"] == 1


def test_a_build_that_fails_leaves_what_is_served(stack: Stack, tmp_path: Path) -> None:
    stack.up(write_scale(tmp_path / "good"))
    bad = write_scale(tmp_path / "bad", factor=5)
    golden = dict(np.load(bad.with_suffix(".npz")))
    golden["output.scores"] = golden["output.scores"] + 1
    np.savez(bad.with_suffix(".npz"), **golden)
    done = stack.run("up", "--runtime", "native", "--device", "cpu", "--model", bad)
    assert done.returncode == 1
    assert "does not agree with the source model" in done.stderr
    assert "max abs 1" in done.stderr
    model = stack.status()["models"][0]
    assert (model["live"], model["ready"], model["releases"]) == (1, True, [1])


def test_a_taken_port_is_found_before_anything_is_built(stack: Stack, tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", stack.grpc))
        holder.listen()
        done = stack.run(
            "up", "--runtime", "native", "--device", "cpu", "--model", write_scale(tmp_path / "s")
        )
    assert done.returncode == 1
    assert f"port {stack.grpc} (GRPC_PORT)" in done.stderr
    assert "building" not in done.stderr


def test_other_settings_than_the_running_servers_are_refused(stack: Stack, tmp_path: Path) -> None:
    spec = write_scale(tmp_path / "s")
    stack.up(spec)
    stack.env["HTTP_PORT"] = "1"
    done = stack.run("up", "--runtime", "native", "--device", "cpu", "--model", spec)
    stack.env["HTTP_PORT"] = str(stack.http)
    assert done.returncode == 1
    assert f"HTTP_PORT {stack.http}" in done.stderr
    assert "./scripts/down" in done.stderr


def test_a_server_that_cannot_start_is_reported_in_its_own_words(stack: Stack, tmp_path: Path) -> None:
    stack.env["BIND_ADDRESS"] = "192.0.2.1"  # nobody's address (RFC 5737)
    done = stack.run("up", "--runtime", "native", "--device", "cpu", "--model", write_scale(tmp_path / "s"))
    assert done.returncode == 1
    assert "192.0.2.1" in done.stderr or "Cannot assign" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_that_triton_refuses_is_reported_in_its_words(stack: Stack, tmp_path: Path) -> None:
    spec = write_scale(tmp_path / "s")
    stack.up(spec)
    stack.stop()
    engine = stack.models_dir / "repository/scale/1/model.onnx"
    engine.write_bytes(b"damaged")
    stack.env["BACKENDS_DIR"] = ""
    done = stack.run("up", "--runtime", "native", "--device", "cpu", "--model", spec)
    # The builder sees the damage first and builds anew.
    assert done.returncode == 0, done.stderr
    assert "release 1 is damaged" in done.stderr
    assert stack.status()["models"][0]["live"] == 2


def test_a_broken_second_model_does_not_take_the_first_down(stack: Stack, tmp_path: Path) -> None:
    first, second = write_scale(tmp_path / "1", name="first"), write_scale(tmp_path / "2", name="second")
    stack.up(first, second)
    stack.stop()
    (stack.models_dir / "repository/second/1/model.onnx").write_bytes(b"damaged")
    done = stack.run("up", "--runtime", "native", "--device", "cpu", "--model", first)
    assert done.returncode == 1
    assert "second version 1" in done.stderr
    states = {m["name"]: m for m in stack.status()["models"]}
    assert states["first"]["ready"] is True
    assert states["second"]["ready"] is False
    assert states["second"]["reason"]


def test_down_without_up_says_so_and_leaves_other_servers_alone(stack: Stack) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", stack.http))
        other.listen()
        done = stack.run("down")
        assert (done.returncode, done.stdout.strip()) == (0, "nothing was running")


def test_doctor_names_a_remedy_for_each_finding(stack: Stack) -> None:
    done = stack.run("doctor", "--json")
    findings = json.loads(done.stdout)
    assert all(f["remedy"] for f in findings if f["level"] != "ok")
    assert done.returncode == 0, done.stdout
    stack.env["MODELS_DIR"] = "/proc/nowhere"
    done = stack.run("doctor")
    assert done.returncode == 1
    assert "set MODELS_DIR" in done.stdout


@pytest.mark.parametrize(
    ("name", "value"),
    [("HTTP_PORT", "0"), ("GRPC_PORT", "http"), ("POLL_SECS", "-1"), ("METRICS_PORT", "99999")],
)
def test_a_wrong_knob_is_named_with_what_is_allowed(stack: Stack, name: str, value: str) -> None:
    done = stack.run("status")
    stack.env[name], before = value, stack.env[name]
    done = stack.run("status")
    stack.env[name] = before
    assert done.returncode == 1
    assert f'{name} is "{value}"' in done.stderr
    assert "whole number from" in done.stderr


def test_the_server_outlives_up_and_has_its_own_session(stack: Stack, tmp_path: Path) -> None:
    stack.up(write_scale(tmp_path / "s"))
    pid = stack.status()["server"]["pid"]
    assert os.getsid(pid) == pid


def test_up_and_redeploy_tell_the_builder_s_error_whole(stack: Stack, tmp_path: Path) -> None:
    spec = write_scale(tmp_path / "s")
    stack.up(spec)
    spec.write_text(spec.read_text("utf-8").replace("precision: fp32", "precision: fp8"), "utf-8")
    builder = [
        str(Path(stack.env.get("VENVS_DIR") or ROOT / ".venvs") / "builder/bin/python3"),
        "-m", "builder", "build", str(spec), "--engine", "onnxruntime",
    ]  # fmt: skip
    said = subprocess.run(
        builder, cwd=ROOT, env=stack.env, capture_output=True, text=True, timeout=60, check=False
    ).stderr
    assert "precision: found" in said
    assert "expected: one of fp16" in said
    for verb in (("up", "--device", "cpu", "--runtime", "native"), ("redeploy",)):
        assert said in stack.run(*verb, "--model", spec).stderr
        as_json = json.loads(stack.run(*verb, "--json", "--model", spec).stdout)["error"]
        assert as_json["kind"] == "SpecError"
        assert as_json["mistakes"][0]["path"] == "precision"


def test_up_answers_as_json(stack: Stack, tmp_path: Path) -> None:
    done = stack.up(write_scale(tmp_path / "s"), options=("--json",))
    answer = json.loads(done.stdout)
    assert [(m["name"], m["version"]) for m in answer["models"]] == [("scale", 1)]
    assert answer["server"]["state"] == "running"
    assert answer["smoke"]["ok"] is True
    assert "scale" in done.stderr  # progress
    again = stack.run("redeploy", "--json", "--model", tmp_path / "s" / "scale.yaml")
    assert [(r["model"], r["action"]) for r in json.loads(again.stdout)] == [("scale", "unchanged")]


def test_the_lines_of_one_up_never_run_backwards(stack: Stack, tmp_path: Path) -> None:
    done = stack.up(write_scale(tmp_path / "s"))
    times = [float(t) for t in re.findall(r"^\[ *(\d+\.\d)s\] ", done.stderr, re.MULTILINE)]
    assert len(times) > 4
    assert times == sorted(times)
    assert "building release 1" in done.stderr


def test_up_with_many_models_says_a_line_for_each(stack: Stack, tmp_path: Path) -> None:
    specs = [write_scale(tmp_path / name, name=name) for name in ("one", "two")]
    done = stack.up(*specs)
    assert re.search(r"^ok   one version 1 +\d+ checks$", done.stdout, re.MULTILINE), done.stdout
    assert "golden samples" not in done.stdout
    assert "parity" not in done.stderr
    assert "building release 1" in done.stderr
    everything = stack.up(*specs, options=("--verbose",))
    assert "golden samples" in everything.stdout


def test_the_server_is_found_whose_ports_came_from_the_environment(stack: Stack, tmp_path: Path) -> None:
    spec = write_scale(tmp_path / "s")
    stack.up(spec)
    ports = {name: stack.env.pop(name) for name in ("HTTP_PORT", "GRPC_PORT", "METRICS_PORT")}
    found = stack.status()
    assert found["server"]["state"] == "running"
    assert found["server"]["http"] == f"127.0.0.1:{ports['HTTP_PORT']}"
    assert found["models"][0]["ready"] is True
    measured = stack.run("latency", "--requests", "5", "--json")
    assert measured.returncode == 0, measured.stderr
    [told] = [f for f in json.loads(stack.run("doctor", "--json").stdout) if f["name"] == "ports"]
    assert (told["level"], f"HTTP_PORT {ports['HTTP_PORT']}" in told["detail"]) == ("fail", True)
    stack.env.update(ports)


@pytest.mark.parametrize("verb", ["classify", "latency", "bench"])
def test_an_unknown_model_is_an_error_with_the_known_ones(stack: Stack, tmp_path: Path, verb: str) -> None:
    (stack.models_dir / "releases" / "scale" / "1").mkdir(parents=True)
    options = [str(tmp_path / "x.png")] if verb == "classify" else []
    done = stack.run(verb, *options, "--runtime", "native", "--model", "nope")
    assert done.returncode == 1
    assert 'error: there is no model "nope"\n  expected: one of: scale\n' in done.stderr
