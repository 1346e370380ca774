"""`docker compose up` on a machine without a GPU, with the default model and TensorFlow in the container;
then the builder killed in each of its phases while the model is served."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from support.compose import Project, docker, must, wait_for
from support.stack import ROOT

MODEL = "tensorrt_fp16_model"  # what .env says


@pytest.fixture(scope="module")
def stack(images: dict[str, str], specs: Path) -> Iterator[Project]:
    project = Project(models=MODEL, specs=specs)
    yield project
    project.remove()


def golden(stack: Project, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The release's own samples, copied out of the volume."""
    path = folder / "golden.npz"
    must(docker("cp", f"{stack.container('triton')}:/models/releases/{MODEL}/1/golden.npz", path))
    with np.load(path) as npz:
        return npz["input.input_1"], npz["output.predictions"]


def test_up_builds_serves_and_smoke_tests(stack: Project, tmp_path: Path) -> None:
    must(stack.compose("up", "--detach"))
    assert stack.exit_code("client") == 0, stack.logs("client")
    assert stack.state("builder")["ExitCode"] == 0
    assert stack.health() == "healthy"
    inputs, outputs = golden(stack, tmp_path)
    for module, port, kind in (
        (tritonclient.http, stack.http, "HTTP"),
        (tritonclient.grpc, stack.grpc, "gRPC"),
    ):
        with module.InferenceServerClient(f"127.0.0.1:{port}") as client:
            tensor = module.InferInput("input_1", list(inputs.shape), "FP16")
            tensor.set_data_from_numpy(inputs)
            answer = client.infer(MODEL, [tensor]).as_numpy("predictions")
        assert answer.shape == outputs.shape == (len(inputs), 1000), kind
        np.testing.assert_allclose(
            answer.astype(np.float32), outputs.astype(np.float32), atol=2e-3, err_msg=kind
        )
    manifest = stack.snapshot()[MODEL]["manifest"]
    if manifest["weights"]["untrained"]:
        assert "UNTRAINED" in stack.logs("builder")
        assert "UNTRAINED" in stack.logs("client")


def test_down_keeps_the_volume_and_up_serves_it_again_at_once(stack: Project) -> None:
    must(stack.compose("down"))
    assert not docker("ps", "--all", "--quiet", "--filter", f"name={stack.name}").stdout
    assert docker("volume", "inspect", f"{stack.name}_models").returncode == 0
    began = time.monotonic()
    must(stack.compose("up", "--detach"))
    wait_for(lambda: stack.ready(MODEL, 1), 15, "the model to answer")
    seconds = time.monotonic() - began
    print(f"`docker compose up` on a used volume serves after {seconds:.1f} s")
    assert seconds < 15
    assert "nothing is built" in stack.logs("builder")
    assert stack.exit_code("client") == 0, stack.logs("client")
    assert stack.snapshot()[MODEL]["releases"] == [1]


def kill_builder(stack: Project, at: str, *args: str) -> str:
    """Start a build, `docker kill` it once it says ``at``; what it had said."""
    name = f"{stack.name}-killed"
    argv = ["docker", "compose", "run", "-T", "--no-deps", "--name", name, "builder", "deploy", *args]
    said = []
    with subprocess.Popen(
        [*argv, "--allow-untrained"], cwd=ROOT, env=stack.env, stderr=subprocess.PIPE, text=True
    ) as build:
        assert build.stderr
        for line in build.stderr:
            said.append(line)
            if at in line:
                must(docker("kill", name))
                break
        else:
            pytest.fail(f"the builder never said {at!r}:\n{''.join(said)}")
    state = json.loads(must(docker("inspect", "--format", "{{json .State}}", name)))
    must(docker("rm", name))
    assert state["ExitCode"] == 137, "the build ended before it was killed"
    return "".join(said)


@pytest.mark.parametrize(
    ("phase", "at"),
    [
        ("engine", "onnxruntime engine ..."),
        ("publish", "parity at batch 1, 32: done"),
    ],
)
def test_a_killed_build_leaves_what_is_served(stack: Project, phase: str, at: str) -> None:
    before = stack.snapshot()[MODEL]
    kill_builder(stack, at, MODEL, "--force")
    after = stack.snapshot()[MODEL]
    # Killed while it publishes, the new release may have made it; nothing in between exists.
    assert after["live"] in {before["live"], before["live"] + 1}
    assert set(after["releases"]) - set(before["releases"]) <= {after["live"], before["live"] + 1}
    assert after["manifest"]["version"] == after["live"]
    wait_for(lambda: stack.ready(MODEL, after["live"]), 20, "the live release to answer")


def test_a_build_killed_in_the_export_leaves_nothing(stack: Project) -> None:
    live = stack.snapshot()[MODEL]["live"]
    kill_builder(stack, "TensorFlow to ONNX ...", "resnet50")
    models = stack.snapshot()
    assert models.get("resnet50", {"live": None, "releases": []})["live"] is None
    assert not models.get("resnet50", {"releases": []})["releases"]
    assert stack.ready(MODEL, live)


def test_up_after_the_kills_just_works(stack: Project) -> None:
    must(stack.compose("up", "--detach"))
    assert stack.exit_code("builder") == 0
    assert stack.exit_code("client") == 0, stack.logs("client")
    staging = "import os; print(os.listdir('/models/staging'))"
    left = must(stack.inside("builder", staging)).strip()
    must(stack.compose("run", "--rm", "-T", "--no-deps", "builder", "deploy", "specs/scale.yaml"))
    swept = must(stack.inside("builder", staging)).strip()
    assert swept == "[]", f"left by the killed builds: {left}; still there after the next build: {swept}"
