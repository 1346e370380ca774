"""SIGKILL of the builder at random moments: the old release is live or the new one, never in between."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support.models import write_scale
from support.stack import ROOT

VENVS = Path(os.environ.get("VENVS_DIR") or ROOT / ".venvs")
ROUNDS = 20


def builder(models: Path, *args: str | Path) -> list[str]:
    python = VENVS / "tests" / "bin" / "python3"
    return [str(python), "-m", "builder", "deploy", *map(str, args), "--models-dir", str(models),
            "--engine", "onnxruntime", "--json"]  # fmt: skip


def live(models: Path) -> tuple[int, str]:
    """The live version and its config.pbtxt, read the way Triton reads it: through the symlink."""
    link = models / "repository" / "scale"
    version = int(Path(os.readlink(link)).parent.name)
    assert (link / str(version) / "model.onnx").stat().st_size > 0
    return version, (link / "config.pbtxt").read_text()


@pytest.mark.timeout(180)
def test_killed_anywhere_something_whole_is_live_and_the_next_build_works(tmp_path: Path) -> None:
    models, seed = tmp_path / "models", random.randrange(10**6)
    rng = random.Random(seed)
    print(f"seed {seed}")
    first = subprocess.run(
        builder(models, write_scale(tmp_path / "0")), cwd=ROOT, check=True, capture_output=True, text=True
    )
    began = time.monotonic()
    whole = subprocess.run(
        builder(models, write_scale(tmp_path / "1", factor=3)), cwd=ROOT, check=True, capture_output=True
    )
    seconds = time.monotonic() - began
    assert json.loads(first.stdout)[0]["action"] == "built"
    assert whole.returncode == 0
    outcomes = {"old": 0, "new": 0}
    for n in range(ROUNDS):
        before, _ = live(models)
        spec = write_scale(tmp_path / f"k{n}", factor=n + 4.0)
        child = subprocess.Popen(
            builder(models, spec), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(rng.uniform(0.2, 1.1) * seconds)
        child.send_signal(signal.SIGKILL)
        child.wait()
        after, config = live(models)
        manifest = json.loads((models / f"releases/scale/{after}/manifest.json").read_text())
        assert manifest["version"] == after, f"seed {seed}, round {n}"
        assert 'name: "scale"' in config
        outcomes["old" if after == before else "new"] += 1
    print(f"{ROUNDS} kills: {outcomes}")
    spec = write_scale(tmp_path / "last", factor=100)
    done = subprocess.run(builder(models, spec), cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"seed {seed}: {done.stderr}"
    version = json.loads(done.stdout)[0]["version"]
    assert live(models)[0] == version
    assert list((models / "staging").iterdir()) == []
    numbers = [json.loads(line)["version"] for line in (models / "audit.log").read_text().splitlines()
               if json.loads(line)["event"] == "publish"]  # fmt: skip
    assert len(numbers) == len(set(numbers)), "a number was used twice"
