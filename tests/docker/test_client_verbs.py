"""`classify`, `latency` and `bench` from this machine, with a server that runs in containers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.compose import Project, docker, must, readable
from support.models import write_scale
from support.pictures import GREEN, plain, write_colours


@pytest.fixture(scope="module")
def served(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The model `colours`, which names the colour of a picture."""
    folder = tmp_path_factory.mktemp("served")
    project = Project(MODELS_DIR=str(folder / "models"))
    spec = write_colours(folder / "colours", side=64)
    readable(spec.parent)
    must(project.script("up", "--runtime", "docker", "--device", "cpu", "--model", spec))
    yield project
    project.remove()


def test_classify_names_what_is_on_a_picture(served: Project, tmp_path: Path) -> None:
    plain(80, 80, GREEN).save(tmp_path / "green.png")
    for protocol in ("grpc", "http"):
        said = must(served.script("classify", tmp_path / "green.png", "--json", "--protocol", protocol))
        [result] = json.loads(said)["results"]
        assert result["top"][0]["label"] == "green"


def test_latency_takes_turns_with_onnxruntime(served: Project) -> None:
    data = json.loads(must(served.script("latency", "--requests", "20", "--json")))
    assert (data["model"], data["version"]) == ("colours", 1)
    assert [way["way"] for way in data["ways"]] == ["onnxruntime", "grpc", "http"]
    assert all(way["requests"] == 20 and way["p50"] > 0 for way in data["ways"])


QUICK = ("--quick", "--way", "grpc", "--batch", "4", "--concurrency", "1")


@pytest.mark.timeout(300)
def test_bench_leaves_its_report_on_this_machine(served: Project) -> None:
    done = served.script("bench", *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    [report] = Path(served.env["MODELS_DIR"]).glob("bench/*-colours/report.html")
    assert str(report) in done.stdout
    assert (report.parent / "results.json").is_file()


def test_without_a_server_each_verb_says_so(projects: Callable[..., Project], images: dict[str, str]) -> None:
    project = projects()
    must(project.compose("create", "triton"))
    for verb in (("latency",), ("bench", "--quick"), ("classify", "nothing.png")):
        done = project.script(*verb, "--runtime", "docker")
        assert done.returncode == 1
        assert "the server does not run" in done.stderr
        assert "next: ./scripts/up --runtime docker" in done.stderr


@pytest.mark.timeout(300)
def test_with_tensorrt_the_local_side_is_trtexec_in_a_container(
    projects: Callable[..., Project], chipless: dict[str, str], tmp_path: Path
) -> None:
    spec = write_scale(tmp_path / "spec", dtype="FP16", dims=(8, 8, 3), max_batch=16, precision="fp16")
    knobs = {**chipless, "MODELS_DIR": str(tmp_path / "models")}
    project = projects(specs=readable(spec.parent), **knobs)
    must(project.compose("up", "--detach"))
    assert project.exit_code("client") == 0, project.logs("client")
    done = project.script("bench", *QUICK, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads(done.stdout)
    assert data["facts"]["baseline"].startswith("trtexec")
    timed = json.loads(must(project.script("latency", "--requests", "10", "--json")))
    assert [way["way"] for way in timed["ways"]] == ["trtexec", "grpc", "http"]
    assert not docker("ps", "--quiet", "--filter", f"name={project.name}-builder-run").stdout
