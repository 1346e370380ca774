"""The smoke test fails when it should: each case breaks one thing about a good stack."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.models import write_scale
from support.stack import PACKAGES, ROOT, Stack

VENVS = Path(os.environ.get("VENVS_DIR") or ROOT / ".venvs")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("smoke")
    stack = Stack(folder / "models", poll_secs=3600)  # so that what the tests break stays unseen
    stack.up(write_scale(folder / "spec", dtype="FP16", dims=(4, 4, 3)))
    yield stack
    stack.stop()


def smoke(stack: Stack, models_dir: Path | None = None, **env: str) -> tuple[int, dict[str, Any], str]:
    done = subprocess.run(
        [VENVS / "client" / "bin" / "python3", "-m", "triton_stack_client", "smoke", "--json"],
        cwd=ROOT,
        env={**stack.env, "PYTHONPATH": PACKAGES, "MODELS_DIR": str(models_dir or stack.models_dir), **env},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


def failed(report: dict[str, Any]) -> list[str]:
    return [c["check"] for c in report["checks"] if not c["ok"]]


def copy_of(stack: Stack, folder: Path) -> Path:
    subprocess.run(["cp", "-a", stack.models_dir, folder / "models"], check=True)
    return folder / "models"


def test_a_good_server_passes_every_check_over_both_protocols(served: Stack) -> None:
    code, report, _ = smoke(served)
    assert (code, report["ok"]) == (0, True)
    checks = [c["check"] for c in report["checks"]]
    for protocol in ("http", "grpc"):
        for words in ("ready, metadata", "singly", "batch 5", "batch 8", "refuses batch 9", "refuses float32",
                      "refuses shape", "refuses an unknown input", "refuses an unknown model"):  # fmt: skip
            assert any(c.startswith(f"{protocol}: ") and words in c for c in checks), (protocol, words)
    counted = next(c for c in report["checks"] if c["check"].startswith("metrics: grew"))
    # 5 singly, one of 5 and one of 8, over each protocol.
    assert counted["detail"] == "14 requests, 36 inferences"


def test_another_answer_than_the_golden_one_fails(served: Stack, tmp_path: Path) -> None:
    models = copy_of(served, tmp_path)
    path = models / "releases/scale/1/golden.npz"
    golden = dict(np.load(path))
    golden["output.scores"][3, 0, 0, 0] += 0.01  # one element of one row
    np.savez(path, **golden)
    code, report, _ = smoke(served, models)
    assert code == 1
    assert failed(report) == [
        f"{p}: golden samples{rest}"
        for p in ("http", "grpc")
        for rest in (" singly", ", batch 5", ", batch 8")
    ]


@pytest.mark.parametrize("key", ["name", "dtype", "dims"])
def test_another_interface_than_the_released_one_fails(served: Stack, tmp_path: Path, key: str) -> None:
    models = copy_of(served, tmp_path)
    path = models / "releases/scale/1/manifest.json"
    manifest = json.loads(path.read_text())
    tensor = manifest["contract"]["outputs"][0]
    if key == "name":
        golden = dict(np.load(path.with_name("golden.npz")))
        golden["output.other"] = golden["output.scores"]
        np.savez(path.with_name("golden.npz"), **golden)
    tensor[key] = {"name": "other", "dtype": "FP16", "dims": [4, 4, 1]}[key]
    path.write_text(json.dumps(manifest))
    code, report, _ = smoke(served, models)
    assert code == 1
    assert "http: ready, metadata as released" in failed(report)
    assert "grpc: ready, metadata as released" in failed(report)


def test_a_version_that_is_not_served_fails(served: Stack, tmp_path: Path) -> None:
    models = copy_of(served, tmp_path)
    (models / "releases/scale/1").rename(models / "releases/scale/2")
    manifest = json.loads((models / "releases/scale/2/manifest.json").read_text())
    (models / "releases/scale/2/manifest.json").write_text(json.dumps({**manifest, "version": 2}))
    (models / "repository/scale").unlink()
    (models / "repository/scale").symlink_to("../releases/scale/2/model")
    code, report, _ = smoke(served, models)
    assert code == 1
    assert "http: ready, metadata as released" in failed(report)


def test_a_smaller_max_batch_than_the_servers_is_noticed(served: Stack, tmp_path: Path) -> None:
    models = copy_of(served, tmp_path)
    path = models / "releases/scale/1/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["contract"]["max_batch_size"] = 4
    path.write_text(json.dumps(manifest))
    code, report, _ = smoke(served, models)
    assert code == 1
    assert "http: refuses batch 5" in failed(report)


@pytest.mark.parametrize(
    ("variable", "check"), [("HTTP_PORT", "http"), ("GRPC_PORT", "grpc"), ("METRICS_PORT", "metrics")]
)
def test_an_endpoint_that_does_not_answer_fails(served: Stack, variable: str, check: str) -> None:
    code, report, errors = smoke(served, **{variable: "9"})
    assert code == 1
    assert len(failed(report)) == 1
    assert failed(report)[0].startswith(check)
    assert "Traceback" not in errors


def test_nothing_live_is_an_error_with_a_remedy(served: Stack, tmp_path: Path) -> None:
    code, report, errors = smoke(served, tmp_path)
    assert code == 1
    assert "no model is live" in report["error"]["found"]
    assert "./scripts/up" in report["error"]["remedy"]
    assert "Traceback" not in errors
