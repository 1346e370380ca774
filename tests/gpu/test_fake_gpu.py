"""The GPU road with a recorded fake trtexec and a real Triton whose TensorRT backend is a fake."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.models import write_ranked, write_scale
from support.stack import ROOT, Stack

VENVS = Path(os.environ.get("VENVS_DIR") or ROOT / ".venvs")


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder with the two programs that make a machine a GPU machine."""
    folder = tmp_path / "bin"
    folder.mkdir()
    fakes = ROOT / "tests" / "fakes"
    smi = (ROOT / "tests" / "samples" / "nvidia_smi.csv").read_text()
    for name, line in {
        "trtexec": f'exec "{VENVS}/tests/bin/python3" "{fakes}/trtexec.py" "$@"',
        "tritonserver": f'exec "{VENVS}/triton/bin/python3" "{fakes}/tritonserver.py" "$@"',
        "nvidia-smi": f"cat <<'END'\n{smi}END",
    }.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)
    return folder


@pytest.fixture
def gpu(tmp_path: Path, tools: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path / "models", PATH=f"{tools}{os.pathsep}{os.environ['PATH']}")
    yield stack
    stack.stop()


def up(stack: Stack, spec: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return stack.run("up", "--runtime", "native", "--device", "gpu", *options, "--model", spec)


def test_a_timing_cache_is_kept_and_a_broken_one_fails_no_build(gpu: Stack, tmp_path: Path) -> None:
    spec = write_scale(tmp_path / "spec", dtype="FP16", dims=(8, 8, 3), max_batch=16, precision="fp16")
    assert up(gpu, spec).returncode == 0
    (kept,) = (gpu.models_dir / "cache").glob("timing-*.cache")
    assert kept.name == "timing-8.5.1-NVIDIA_H200.cache"
    good = kept.read_bytes()
    kept.write_bytes(b"cut sh")
    gpu.run("down")
    done = up(gpu, spec, "--force")
    assert done.returncode == 0, done.stderr
    assert "trying once more without it" in done.stderr
    assert kept.read_bytes() == good


def test_up_builds_a_plan_and_serves_it_as_tensorrt_plan(gpu: Stack, tmp_path: Path) -> None:
    spec = write_scale(tmp_path / "spec", dtype="FP16", dims=(8, 8, 3), max_batch=16, precision="fp16")
    done = up(gpu, spec)
    assert done.returncode == 0, done.stdout + done.stderr
    with urllib.request.urlopen(f"http://127.0.0.1:{gpu.http}/v2/models/scale/config", timeout=5) as answer:
        config = json.load(answer)
    assert config["platform"] == "tensorrt_plan"
    assert config["backend"] == "tensorrt"
    engine = gpu.status()["models"][0]["engine"]
    assert engine["version"] == "8.5.1"
    assert engine["gpu"]["name"] == "NVIDIA H200"
    assert engine["gpu"]["compute_capability"] == "9.0"
    assert engine["gpu"]["driver"] == "580.159.04"
    manifest = json.loads((gpu.models_dir / "releases/scale/1/manifest.json").read_text())
    argv = manifest["engine"]["argv"]
    assert {"--minShapes=x:1x8x8x3", "--optShapes=x:16x8x8x3", "--maxShapes=x:16x8x8x3"} <= set(argv)
    assert [r["batch"] for r in manifest["parity"]["by_batch"]] == [1, 16]
    again = up(gpu, spec)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "nothing is built" in again.stderr
    timed = gpu.run("latency", "--requests", "10", "--batch", "4", "--json")
    assert timed.returncode == 0, timed.stderr
    ways = {way["way"]: way for way in json.loads(timed.stdout)["ways"]}
    assert list(ways) == ["trtexec", "grpc", "http"]
    assert ways["trtexec"]["p95"] == 19.9484  # as recorded
    assert ways["grpc"]["ratio"] == pytest.approx(ways["grpc"]["p50"] / 19.9484, rel=0.5)
    few = ("--quick", "--way", "grpc", "--batch", "1", "--concurrency", "1")
    measured = gpu.run("bench", *few, "--out", tmp_path / "run")
    assert measured.returncode == 0, measured.stdout + measured.stderr
    data = json.loads((tmp_path / "run" / "results.json").read_text())
    both = {(b, graph) for b in (1, 16) for graph in (True, False)}
    assert {(f["batch"], f["graph"]) for f in data["local"]} == both
    compared = {(c["figure"], c["way"], c["concurrency"], c["local_batch"]): c for c in data["comparisons"]}
    assert set(compared) == {("p50", "grpc", 1, 1), ("images_per_s", "grpc", 256, 16)}
    single = compared["p50", "grpc", 1, 1]
    assert single["local"] == 19.9484
    assert single["ratio"] == pytest.approx(single["served"] / 19.9484)
    assert list(data["ratios"]) == [
        "p50, grpc, 1 client, batch 1 / local batch 1",
        "images/s, grpc, 256 clients, batch 1 / local batch 16",
    ]
    for what in data["ratios"]:
        assert f"served / local, {what}" in measured.stdout
        assert what in (tmp_path / "run" / "report.html").read_text()


def test_tensors_in_another_order_than_the_graph_s_are_built_and_served_rightly(
    gpu: Stack, tmp_path: Path
) -> None:
    done = up(gpu, write_ranked(tmp_path / "spec"))
    assert done.returncode == 0, done.stdout + done.stderr
    manifest = json.loads((gpu.models_dir / "releases/ranked/1/manifest.json").read_text())
    formats = [a for a in manifest["engine"]["argv"] if "IOFormats" in a]
    assert formats == ["--inputIOFormats=int32:chw,fp16:chw", "--outputIOFormats=int32:chw,fp32:chw"]


def test_no_setup_uses_the_interpreter_at_hand(gpu: Stack, tmp_path: Path) -> None:
    """The tests' own environment is such a machine: no TensorFlow, tritonclient's wheels, onnx, PyYAML."""
    gpu.env["PATH"] = f"{VENVS}/tests/bin{os.pathsep}{gpu.env['PATH']}"
    gpu.env["VENVS_DIR"] = str(tmp_path / "none")
    done = up(gpu, write_scale(tmp_path / "spec"), "--no-setup")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "none").exists()
    assert gpu.status()["models"][0]["engine"]["name"] == "tensorrt"
    # What follows keeps to that interpreter and to the GPU.
    done = gpu.run("redeploy", "--dry-run", "--model", write_scale(tmp_path / "other", factor=3))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "build a release after 1" in done.stdout
    assert "engine" not in done.stdout
    assert gpu.run("releases").returncode == 0
    timed = gpu.run("latency", "--requests", "5", "--json")
    assert timed.returncode == 0, timed.stderr
    missing = gpu.run("bench", "--quick", "--out", tmp_path / "run")
    assert missing.returncode == 1
    assert "there is no perf_analyzer that can be run: not on PATH" in missing.stderr
    gpu.env["PERF_ANALYZER"] = "/nowhere/perf_analyzer"
    assert "PERF_ANALYZER names /nowhere" in gpu.run("bench", "--quick", "--out", tmp_path / "run").stderr
    assert not (tmp_path / "none").exists()


def test_no_setup_names_what_is_missing(gpu: Stack, tmp_path: Path) -> None:
    subprocess.run(["python3", "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    gpu.env["PATH"] = f"{tmp_path}/bare/bin{os.pathsep}{gpu.env['PATH']}"
    done = up(gpu, write_scale(tmp_path / "spec"), "--no-setup")
    assert done.returncode == 1
    for module in ("numpy", "onnx", "yaml", "tritonclient"):
        assert module in done.stderr
    assert "Traceback" not in done.stderr


def test_a_failed_build_shows_trtexecs_words_and_the_command_that_repeats_it(
    gpu: Stack, tmp_path: Path
) -> None:
    gpu.env["FAKE_TRTEXEC_FAILS_AFTER_WRITING"] = "1"
    done = up(gpu, write_scale(tmp_path / "spec"))
    assert done.returncode == 1
    assert "Cannot find input tensor with name" in done.stderr
    command = next(x for x in done.stderr.splitlines() if "to see it again: " in x).split("again: ")[1]
    repeated = subprocess.run(command, shell=True, env=gpu.env, capture_output=True, text=True, check=False)
    assert repeated.returncode == 1
    assert "&&&& FAILED" in repeated.stdout
    assert not (gpu.models_dir / "repository" / "scale").exists()


def test_device_gpu_without_its_tools_says_which_is_missing(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "models")
    done = up(stack, write_scale(tmp_path / "spec"))
    assert done.returncode == 1
    assert "trtexec" in done.stderr
    assert "--device cpu" in done.stderr
