"""`latency` and `bench` against a real server: what they write, and that a browser shows it offline."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.pictures import write_colours
from support.stack import ROOT, Stack


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("served")
    stack = Stack(folder / "models")
    stack.up(write_colours(folder / "colours", side=64))
    yield stack
    stack.stop()


QUICK = ("--quick", "--way", "grpc", "http", "--batch", "4", "--concurrency", "1", "3")


@pytest.fixture(scope="module")
def run(served: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One quick run's folder."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    done = served.run("bench", *QUICK, "--out", folder, "--latency-budget-ms", "10000", timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{folder}/report.html" in done.stdout
    assert re.search(r"saturation +[\d,.]+ images/s", done.stdout)
    assert re.search(r"served / local, p50, 1 client, grpc +\d+\.\d+", done.stdout)
    assert "within 10000 ms" in done.stdout
    return folder


def test_latency_takes_turns_with_onnxruntime(served: Stack) -> None:
    done = served.run("latency", "--requests", "30", "--json")
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert data["threads"] == len(os.sched_getaffinity(0))
    ways = {w["way"]: w for w in data["ways"]}
    assert list(ways) == ["onnxruntime", "grpc", "http"]
    for way in ways.values():
        assert way["requests"] == 30
        assert 0 < way["p50"] <= way["p95"] <= way["p99"]
        assert way["ratio"] > 0
    assert ways["onnxruntime"]["ratio"] == 1


@pytest.mark.timeout(600)
def test_every_point_is_written_with_what_it_was_measured_on(served: Stack, run: Path) -> None:
    data = json.loads((run / "results.json").read_text())
    wanted = [(w, 4, c) for w in ("grpc", "http") for c in (1, 3)]
    assert [(p["way"], p["batch"], p["concurrency"]) for p in data["points"]] == wanted
    for p in data["points"]:
        assert p["images_per_s"] > 0
        assert 0 < p["p50"] <= p["p95"] <= p["p99"]
        assert p["parts"]["compute"] > 0
        assert "perf_analyzer" in p["command"][0]
        if not p["stable"]:
            assert "--request-count" in p["command"]
    facts = data["facts"]
    assert facts["versions"]["triton"] == "2.51.0"
    assert facts["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert facts["release"]["version"] == facts["version"] == 1
    assert facts["spec"]["name"] == "colours"
    rows = list(csv.DictReader((run / "results.csv").open()))
    assert len(rows) == len(wanted) + 1  # and local


@pytest.mark.timeout(600)
def test_compare_reads_two_runs(served: Stack, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "other")
    done = served.run("bench", "--compare", run, tmp_path / "other")
    assert done.returncode == 0, done.stderr
    assert re.search(r"grpc, batch 4, 3 clients.* x 1\.00 ", done.stdout)
    done = served.run("bench", "--compare", tmp_path)
    assert done.returncode == 1
    assert "cannot be read as a run of bench" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_existing_folder_is_not_written_over(served: Stack, tmp_path: Path) -> None:
    done = served.run("bench", "--quick", "--out", tmp_path)
    assert done.returncode == 1
    assert "--out names a new folder" in done.stderr


@pytest.mark.timeout(600)
def test_a_browser_shows_the_plots_without_a_network(run: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    shot = tmp_path / "shot.png"
    subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--window-size=1280,1500",
            f"--user-data-dir={tmp_path / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--screenshot={shot}", (run / "report.html").as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )  # fmt: skip
    pixels = np.asarray(Image.open(shot).convert("RGB")).reshape(-1, 3)
    css = (ROOT / "client/triton_stack_client/bench/report/report.css").read_text()
    for name in ("--c0", "--c1", "--c4", "--c7"):  # lines, marks, percentiles, the local bar
        found = re.search(rf"{name}:\s*#([0-9a-f]{{6}})", css)
        assert found is not None
        colour = [int(found[1][n : n + 2], 16) for n in (0, 2, 4)]
        assert (np.abs(pixels - np.array(colour)).max(1) <= 2).sum() > 50, f"{name} is nowhere to be seen"
