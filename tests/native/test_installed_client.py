"""The client as people install it: in an environment of its own, by README's lines."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.pictures import GREEN, plain, write_colours
from support.stack import ROOT, Stack

SHM = Path("/dev/shm")  # noqa: S108  (where the server looks)


def readme_blocks() -> list[str]:
    """The Python of README's section for people who write code."""
    section = (ROOT / "README.md").read_text("utf-8").split("\n## From your own code\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment with the client in it."""
    folder = tmp_path_factory.mktemp("installed")
    python = folder / "venv" / "bin" / "python3"
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True, capture_output=True)

    def pip(*args: str) -> subprocess.CompletedProcess[str]:
        argv = [str(python), "-m", "pip", "--disable-pip-version-check", *args]
        return subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=300, check=False)

    reached = pip("download", "--no-deps", "--dest", str(folder / "index"), "hatchling")
    if reached.returncode:
        pytest.skip(f"no package index can be reached: {reached.stderr.strip().splitlines()[-1]}")
    before = tree()
    done = pip("install", f"{ROOT / 'client'}[pictures]")
    assert done.returncode == 0, done.stdout + done.stderr
    assert tree() == before, "installing leaves nothing in the repository"
    return python


def tree() -> set[str]:
    """The files of the client's folder and of the shared module."""
    folders = (ROOT / "client", ROOT / "models_volume")
    return {str(p) for f in folders for p in f.rglob("*") if "__pycache__" not in p.parts}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A model with the contract of the shipped resnet50, but for the classes: it knows three colours."""
    folder = tmp_path_factory.mktemp("served")
    stack = Stack(folder / "models")
    names = ("image", "probabilities")
    stack.up(write_colours(folder / "colours", name="resnet50", side=224, names=names))
    yield stack
    stack.stop()


def run(
    python: Path, stack: Stack | None, folder: Path, *args: str, code: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run the environment's Python in ``folder``; only the server's ports lead back to the repository."""
    env = {k: v for k, v in os.environ.items() if k not in ("MODELS_DIR", "PYTHONPATH", "VENVS_DIR")}
    if stack is not None:
        env.update(HTTP_PORT=str(stack.http), GRPC_PORT=str(stack.grpc))
    done = subprocess.run(
        [str(python), *args], cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def dog(tmp_path: Path) -> Path:
    plain(320, 240, GREEN).save(tmp_path / "dog.jpg", quality=95)
    return tmp_path


def test_readme_s_lines_work(python: Path, served: Stack, dog: Path) -> None:
    classify, arrays, asynchronous = readme_blocks()
    lines = run(python, served, dog, "-c", classify).stdout.splitlines()
    assert [line.split()[-1] for line in lines] == ["green", "blue", "red"]
    assert len(classify.strip().splitlines()) <= 6
    assert run(python, served, dog, "-c", arrays).stdout == "(2, 3) True\n"
    assert run(python, served, dog, "-c", asynchronous).stdout == "8 float32\n"


def test_the_command_line_is_installed_too(python: Path, served: Stack, dog: Path) -> None:
    url = f"http://127.0.0.1:{served.http}"
    arguments = ("classify", "dog.jpg", "--model", "resnet50", "--url", url, "--top", "1")
    for command in (["-m", "triton_stack_client"], [str(python.parent / "triton-stack-client")]):
        assert run(python, None, dog, *command, *arguments).stdout.split()[-1] == "green"


MANY = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image
from triton_stack_client import Classifier, ClientError, PictureError

pixels = np.asarray(Image.open("dog.jpg"))
with Classifier("resnet50", shared_memory="system") as classifier:
    pictures = [Path("dog.jpg"), Path("dog.jpg").read_bytes(), pixels, pixels[..., 0], "none.jpg", pixels / 2]
    for found in classifier.classify_many(pictures, batch=2, top=1):
        print(found.picture, found.labels[0].name if found.labels else found.error, sep=": ")
    stopped = next(classifier.classify_many(pictures))
    try:
        classifier.classify("none.jpg")
    except PictureError as e:
        print(isinstance(e, ClientError), e)
    print(len(classifier.classify(pixels, top=99)))
"""


def test_pictures_of_every_form_are_classified(
    python: Path, served: Stack, dog: Path, client_memory: Callable[[], set[str]]
) -> None:
    assert run(python, served, dog, "-c", MANY).stdout.splitlines() == [
        "dog.jpg: green",
        "picture 2: green",
        "picture 3: green",
        "picture 4: red",  # grey has no colour: equal scores, and the first class wins
        "none.jpg: there is no such file",
        "picture 6: is an array float64 [240, 320, 3]; pixels are uint8 [height, width] or "
        "[height, width, 1, 3 or 4]",
        "True there is no such file",
        "3",
    ]
    assert not client_memory()


NOTEBOOK = """
import asyncio
from triton_stack_client import AsyncClassifier, Classifier

async def cell():
    with Classifier("resnet50") as classifier:  # blocks inside a running loop, as a notebook's cell does
        print(classifier.classify("dog.jpg", top=1)[0].name)
    async with AsyncClassifier("resnet50") as classifier:
        print([f.labels[0].name async for f in classifier.classify_many(["dog.jpg"] * 3)])

asyncio.run(cell())
"""


def test_a_notebook_and_asyncio_can_classify(python: Path, served: Stack, dog: Path) -> None:
    out = run(python, served, dog, "-c", NOTEBOOK).stdout
    assert out.splitlines() == ["green", "['green', 'green', 'green']"]


def test_a_killed_process_leaves_no_shared_memory(python: Path, served: Stack, dog: Path) -> None:
    code = (
        "import time, numpy as np\nfrom triton_stack_client import Model\n"
        "model = Model('resnet50', shared_memory='system')\n"
        "model.predict(np.zeros((1, 224, 224, 3), np.uint8))\nprint('done', flush=True)\ntime.sleep(60)\n"
    )
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    process = subprocess.Popen(
        [str(python), "-c", code],
        cwd=dog,
        env={**env, "GRPC_PORT": str(served.grpc)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "done\n"
    assert list(SHM.glob(f"triton-client-{process.pid}-*"))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 15
    while list(SHM.glob(f"triton-client-{process.pid}-*")):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_without_a_server_or_a_picture_the_reason_is_said(python: Path, dog: Path) -> None:
    argv = ("-m", "triton_stack_client", "classify", "dog.jpg", "--model", "m", "--url", "127.0.0.1:1")
    assert run(python, None, dog, *argv, code=1).stderr.startswith("error: grpc 127.0.0.1:1: ")


def test_it_is_typed(python: Path, tmp_path: Path) -> None:
    (tmp_path / "service.py").write_text(
        "import numpy as np\n"
        "from triton_stack_client import AsyncClassifier, Classifier, ClientError, Label, Model\n\n"
        "def best(path: str) -> Label | None:\n"
        "    try:\n"
        "        with Classifier('m', url='http://h:1') as classifier:\n"
        "            for found in classifier.classify_many([path]):\n"
        "                reveal_type(found.labels)\n"
        "            return classifier.classify(path, top=1)[0]\n"
        "    except ClientError as e:\n"
        "        print(e.found, e.remedy)\n"
        "        return None\n\n"
        "async def rows(pictures: list[bytes]) -> list[str]:\n"
        "    async with AsyncClassifier('m') as classifier:\n"
        "        return [f.error async for f in classifier.classify_many(pictures)]\n\n"
        "with Model('m') as model:\n"
        "    reveal_type(model.contract.inputs[0].dims)\n"
        "    print(model.predict(np.zeros((1, 2), np.float32)).shape)\n"
    )
    argv = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(python), "service.py"]
    env = {**os.environ, "MYPY_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tuple[triton_stack_client.classify.answer.Label, ...]" in done.stdout
    assert "tuple[int, ...]" in done.stdout


def test_packages_called_triton_are_not_shadowed(python: Path, tmp_path: Path) -> None:
    """PyTorch imports a package called triton; the repository has a folder of that name."""
    (tmp_path / "triton").mkdir()
    (tmp_path / "triton" / "__init__.py").write_text("theirs = True\n")
    code = (
        f"import sys; sys.path.append({str(tmp_path)!r}); import triton_stack_client, triton; triton.theirs"
    )
    run(python, None, ROOT, "-c", code)
    code = "import models_volume, triton_stack_client as c; print(models_volume.__file__, c.__file__)"
    for place in run(python, None, tmp_path, "-c", code).stdout.split():
        assert Path(place).is_relative_to(python.parents[1])
