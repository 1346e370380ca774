"""The images: how large they are, what is in them, and what is not."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from support.compose import docker, must
from support.stack import ROOT

SIZES = Path(__file__).with_name("image_sizes.json")
GROWTH = 1.10
COMPILERS = ("cc", "gcc", "g++", "clang", "ld", "as", "nvcc", "rustc", "go")


def size(image: str) -> int:
    return int(must(docker("image", "inspect", "--format", "{{.Size}}", image)))


def test_no_image_has_grown_by_more_than_a_tenth(
    images: dict[str, str], chipless: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """What we put on the base is measured, so that it does not matter which base a machine has."""
    python = os.environ.get("PYTHON_IMAGE") or "python:3.12-slim-bookworm"
    pairs = {name: (image, python) for name, image in images.items()}
    pairs["builder for 22.11"] = ("tensorflow-triton-test/builder:22.11", chipless["TENSORRT_IMAGE"])
    recorded = json.loads(SIZES.read_text())
    ours = {name: size(image) - size(base) for name, (image, base) in pairs.items()}
    with capsys.disabled():
        print("\nimage sizes in MB: whole, what we add to the base, the same as recorded")
        for name, (image, _) in pairs.items():
            print(
                f"  {name:20}" + "".join(f"{n / 1e6:8.0f}" for n in (size(image), ours[name], recorded[name]))
            )
    grown = {name: n for name, n in ours.items() if n > GROWTH * recorded[name]}
    assert not grown, f"more than a tenth above {SIZES.name}; if it has to be, record the new bytes: {grown}"


def inside(image: str, code: str) -> str:
    argv = ["--rm", "--network", "none", "--read-only", "--entrypoint", "python3", image, "-c", code]
    return must(docker("run", *argv)).strip()


def test_the_cpu_server_holds_no_compiler_and_no_tensorflow(images: dict[str, str]) -> None:
    code = (
        "import importlib.util, shutil\n"
        f"print([c for c in {COMPILERS} if shutil.which(c)])\n"
        "print([m for m in ('tensorflow', 'keras', 'tf2onnx', 'onnx') if importlib.util.find_spec(m)])\n"
    )
    assert inside(images["server"], code).splitlines() == ["[]", "[]"]
    assert inside(images["client"], code).splitlines() == ["[]", "[]"]


def test_every_image_says_what_it_is(images: dict[str, str]) -> None:
    for image in images.values():
        labels = json.loads(must(docker("image", "inspect", "--format", "{{json .Config.Labels}}", image)))
        assert labels["org.opencontainers.image.title"].startswith("tensorflow-triton ")
        assert labels["org.opencontainers.image.description"]
        assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_package_settings_and_certificates_stay_out_of_the_image(
    images: dict[str, str], tmp_path: Path
) -> None:
    """A build that is handed both, and needs both files to be there, leaves nothing of either."""
    marker = f"marker-{os.urandom(8).hex()}"
    for name in ("pip_conf", "ca_bundle"):
        (tmp_path / name).write_text(f"# {marker}\n")
    (tmp_path / "Dockerfile").write_text(
        f"FROM {os.environ.get('PYTHON_IMAGE') or 'python:3.12-slim-bookworm'}\n"
        + secret_mounts("client/Dockerfile")
        + f" grep -q {marker[:6]} /run/secrets/pip_conf && grep -q {marker[:6]} /run/secrets/ca_bundle\n"
    )
    image = f"tensorflow-triton-test/secrets:{marker[-8:]}"
    secrets = [f"--secret=id={name},src={tmp_path / name}" for name in ("pip_conf", "ca_bundle")]
    must(docker("build", "--no-cache", *secrets, "--tag", image, tmp_path))
    try:
        # The archive of an image holds its layers, its configuration and its history.
        saved = subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE)
        found = subprocess.run(
            ["grep", "-c", marker], stdin=saved.stdout, capture_output=True, text=True, check=False
        )
        assert saved.wait() == 0
        assert found.stdout.strip() == "0"
    finally:
        must(docker("rmi", image))
    for ours in images.values():
        listing = "import os; print(os.listdir('/run/secrets') if os.path.isdir('/run/secrets') else [])"
        assert inside(ours, listing) == "[]"
        history = must(docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", ours))
        assert "index-url" not in history


def secret_mounts(dockerfile: str) -> str:
    """The RUN of one of our Dockerfiles as far as its mounts go."""
    text = (ROOT / dockerfile).read_text()
    [run] = [part for part in text.split("\nRUN ") if "type=secret" in part]
    mounts = [word for word in run.split() if word.startswith("--mount=type=secret")]
    assert len(mounts) == 2
    return f"RUN {' '.join(mounts)}"
