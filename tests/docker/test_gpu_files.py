"""compose.yaml, builder/Dockerfile and triton/Dockerfile, every line of them, the chip aside."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf import text_format
from support.compose import Project, docker, must, readable
from support.models import write_scale
from tritonclient.grpc import model_config_pb2

SAVE = """
import keras
net = keras.Sequential([
    keras.Input((8, 8, 3), name="pixels"),
    keras.layers.Rescaling(1 / 255),
    keras.layers.Conv2D(8, 3, activation="relu"),
    keras.layers.Flatten(),
    keras.layers.Dense(4, activation="softmax", name="scores"),
])
net.save("/out/net.keras")
print(keras.__version__)
"""
NET = """
name: net
source: {keras: net.keras}
inputs: [{name: pixels, dtype: UINT8, dims: [8, 8, 3]}]
outputs: [{name: scores, dtype: FP32, dims: [4]}]
batch: {max: 8}
"""


@pytest.fixture
def gpu(projects: Callable[..., Project], chipless: dict[str, str], tmp_path: Path) -> Project:
    write_scale(tmp_path, dtype="FP16", dims=(8, 8, 3), max_batch=16, precision="fp16")
    return projects(specs=readable(tmp_path), **chipless)


def check_layout(repository: Path, model: str) -> model_config_pb2.ModelConfig:
    """What Triton asks of a TensorRT model: its own rules, not ours."""
    assert [p.name for p in repository.iterdir()] == [model], "every entry in a repository is a model"
    folder = repository / model
    config = text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    assert config.name == model
    assert config.platform == "tensorrt_plan"
    versions = [p for p in folder.iterdir() if p.is_dir()]
    assert versions
    for version in versions:
        assert version.name.isdigit()
        assert int(version.name) > 0
        plan = version / (config.default_model_filename or "model.plan")
        assert plan.stat().st_size > 0
        assert plan.name == "model.plan"
    assert config.max_batch_size > 0
    for tensor in [*config.input, *config.output]:
        assert tensor.name
        assert tensor.data_type != model_config_pb2.TYPE_INVALID
        assert all(d > 0 for d in tensor.dims)
    return config


def test_the_gpu_stack_builds_publishes_serves_and_smoke_tests(gpu: Project, tmp_path: Path) -> None:
    must(gpu.compose("up", "--detach"))
    assert gpu.exit_code("client") == 0, gpu.logs("triton") + gpu.logs("client")
    assert gpu.state("builder")["ExitCode"] == 0
    assert gpu.health() == "healthy"
    must(docker("cp", f"{gpu.container('triton')}:/models", tmp_path / "volume"))
    config = check_layout(tmp_path / "volume" / "repository", "scale")
    assert config.max_batch_size == 16
    manifest = gpu.snapshot()["scale"]["manifest"]
    assert manifest["engine"]["version"] == "8.5.1"
    assert manifest["engine"]["gpu"]["name"] == "NVIDIA H200"
    assert manifest["ngc_tag"] == "22.11"
    assert {"--minShapes=x:1x8x8x3", "--optShapes=x:16x8x8x3", "--maxShapes=x:16x8x8x3"} <= set(
        manifest["engine"]["argv"]
    )


def test_a_file_of_keras_3_goes_through_both_stacks_with_the_same_tools(
    projects: Callable[..., Project], chipless: dict[str, str], images: dict[str, str], tmp_path: Path
) -> None:
    """Saved by today's Keras, rehearsed with the CPU's files, deployed with the GPU's on glibc 2.31."""
    readable(tmp_path).chmod(0o777)
    mount = ["--rm", "--network", "none", "--volume", f"{tmp_path}:/out", "--entrypoint", "python3"]
    assert must(docker("run", *mount, images["builder"], "-c", SAVE)).startswith("3.")
    (tmp_path / "net.yaml").write_text(NET)
    readable(tmp_path)
    rehearsal = projects(specs=tmp_path, models="specs/net.yaml")
    must(rehearsal.compose("--profile", "build", "up"))
    deployment = projects(specs=tmp_path, models="specs/net.yaml", **chipless)
    must(deployment.compose("up", "--detach"))
    assert deployment.exit_code("client") == 0, deployment.logs("builder") + deployment.logs("client")
    assert deployment.ready("net", 1)
    rehearsed, deployed = (p.snapshot()["net"]["manifest"] for p in (rehearsal, deployment))
    for tool in ("tensorflow-cpu", "keras", "tf2onnx", "onnx"):
        assert deployed["tools"][tool] == rehearsed["tools"][tool], tool
    assert (rehearsed["engine"]["name"], deployed["engine"]["name"]) == ("onnxruntime", "tensorrt")
    said = must(deployment.inside("builder", "import platform; print(platform.libc_ver()[1])"))
    assert said.strip() == "2.31", "the stand-in is as old as NVIDIA's image"


@pytest.fixture
def untouched(projects: Callable[..., Project], chipless: dict[str, str], specs: Path) -> Project:
    """compose.yaml alone, reservations and all; only the bases are others."""
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has an NVIDIA driver: what is tested here is a machine without")
    return projects(specs=specs, **{**chipless, "COMPOSE_FILE": "compose.yaml"})


def test_config_of_the_untouched_file(untouched: Project) -> None:
    data = json.loads(must(untouched.compose("config", "--format", "json", POLL_SECS="")))
    services = data["services"]
    assert set(services) == {"builder", "triton", "client"}
    assert {n: s["profiles"] for n, s in services.items()} == {
        "builder": ["build"],
        "triton": ["serve"],
        "client": ["smoke"],
    }
    for name in ("builder", "triton"):
        [device] = services[name]["deploy"]["resources"]["reservations"]["devices"]
        assert device == {"driver": "nvidia", "device_ids": ["0"], "capabilities": ["gpu"]}
    ports = services["triton"]["ports"]
    assert [(p["host_ip"], p["published"], p["target"]) for p in ports] == [
        ("127.0.0.1", str(untouched.http), 8000),
        ("127.0.0.1", str(untouched.grpc), 8001),
        ("127.0.0.1", str(untouched.metrics), 8002),
    ]
    mounts = services["triton"]["volumes"]
    assert [(m["source"], m["target"], m.get("read_only", False)) for m in mounts] == [
        ("models", "/models", True),
        ("claims", "/run/claims", False),
    ]
    tagged = json.loads(
        must(
            untouched.compose(
                "config", "--format", "json", NGC_TAG="24.08", TENSORRT_IMAGE="", TRITON_IMAGE=""
            )
        )
    )["services"]
    assert tagged["builder"]["build"]["args"]["BASE_IMAGE"] == "nvcr.io/nvidia/tensorrt:24.08-py3"
    assert tagged["triton"]["build"]["args"]["BASE_IMAGE"] == "nvcr.io/nvidia/tritonserver:24.08-py3"


def test_without_a_gpu_the_untouched_file_fails_in_dockers_own_words(untouched: Project) -> None:
    ours = ["tensorflow-triton/builder:22.11", "tensorflow-triton/server:22.11"]
    if any(docker("image", "inspect", image).returncode == 0 for image in ours):
        pytest.skip(f"{ours[0]} is here already, and is not the test's to replace")
    for made, ours_ in zip(("builder", "server"), ours, strict=True):
        must(docker("tag", f"tensorflow-triton-test/{made}:22.11", ours_))
    try:
        done = untouched.compose("up", "--detach")
        assert done.returncode != 0
        assert 'could not select device driver "nvidia"' in done.stderr
    finally:
        must(untouched.compose("down", "--volumes"))
        must(docker("rmi", *ours))


def test_up_explains_a_missing_gpu_before_docker_does(untouched: Project) -> None:
    done = untouched.script("up", "--runtime", "docker", "--device", "gpu")
    assert done.returncode == 1
    assert "nvidia-smi finds no GPU" in done.stderr
    assert "next: ./scripts/doctor" in done.stderr
    assert "could not select" not in done.stderr
    assert not docker("volume", "ls", "--quiet", "--filter", f"name={untouched.name}").stdout
