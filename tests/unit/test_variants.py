"""A spec's text changed in place, and variants of a release: comments stay, wrong keys are refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from support.models import write_scale
from support.stack import ROOT

from builder.errors import SpecError
from builder.spec import loader
from builder.variants.describe import describe
from builder.variants.edit import edited, merged

BLOCK = """\
# my model
name: m
batch: {min: 1, max: 8}  # what clients may send
serving:
  instances:
    cpu: 1  # one is enough
  dynamic_batching:
    # wait a little
    max_queue_delay_us: 50000

  warmup: true
# the end
parity: {samples: 4}
"""


@pytest.mark.parametrize(
    "changes",
    [
        {"batch": {"max": 32}},
        {"batch": {"opt": 16, "max": 32}},
        {"serving": {"instances": {"cpu": 2, "gpu": 3}}},
        {"serving": {"dynamic_batching": False}},
        {"serving": {"dynamic_batching": {"max_queue_delay_us": 0}}},
        {"serving": {"cpu_threads": 2, "cuda_graphs": {"batch_sizes": [1, 8]}}},
        {"serving": {"dynamic_batching": False, "cpu_threads": 1}, "batch": {"opt": 8}},
        {"new": {"a": 1, "b": {"c": [1, 2]}}},
        {},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "text",
    [
        BLOCK,
        BLOCK.rstrip("\n"),
        "{name: m, batch: {max: 8}, serving: {dynamic_batching: false}}",
        "name: m\nbatch: {max: 8}\n",
        "name: m\nserving: {}\nbatch:\n  max: 8\n",
        "serving:\n  dynamic_batching: false\n  instances: {cpu: 1}\nname: m\nbatch: {max: 8}\n",
        json.dumps({"name": "m", "batch": {"max": 8}, "serving": {"dynamic_batching": False}}, indent=2),
    ],
)
def test_the_text_says_what_was_asked_and_nothing_else_changes(text: str, changes: dict[str, Any]) -> None:
    new = edited(text, changes)
    assert yaml.safe_load(new) == merged(yaml.safe_load(text), changes)
    comments = [line.partition("#")[2] for line in text.splitlines() if "#" in line]
    lost = {" wait a little"} if changes.get("serving", {}).get("dynamic_batching") is False else set()
    assert {c for c in comments if c not in new} <= lost
    if not changes:
        assert new == text


def test_what_is_set_already_is_not_written_again() -> None:
    assert edited(BLOCK, {"serving": {"dynamic_batching": {"max_queue_delay_us": 50000}}}) == BLOCK


def test_one_line_changes_one_line() -> None:
    new = edited(BLOCK, {"serving": {"instances": {"cpu": 2}}})
    differs = [(a, b) for a, b in zip(BLOCK.splitlines(), new.splitlines(), strict=True) if a != b]
    assert differs == [("    cpu: 1  # one is enough", "    cpu: 2  # one is enough")]


def test_an_anchor_that_others_use_is_refused() -> None:
    text = "name: m\na: &x {cpu: 1}\nserving: {instances: *x}\n"
    with pytest.raises(SpecError, match="cannot be changed in place") as e:
        edited(text, {"serving": {"instances": {"cpu": 2}}})
    assert "cpu: 2" in e.value.remedy


def test_describe_writes_the_defaults_out(tmp_path: Path) -> None:
    found = describe(str(write_scale(tmp_path, max_batch=16)))
    assert found["batch"] == {"min": 1, "opt": 16, "max": 16}
    assert found["serving"]["dynamic_batching"]["max_queue_delay_us"] == 0
    assert found["serving"]["instances"] == {"gpu": 2, "cpu": 1}
    assert not found["shipped"]
    assert describe("resnet50")["shipped"]


def builder(*args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "builder", *map(str, args), "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_variants_pass_the_gate_and_share_an_engine(tmp_path: Path) -> None:
    spec = write_scale(tmp_path / "spec")
    done = builder("build", spec, "--engine", "onnxruntime", "--models-dir", tmp_path / "models")
    assert done.returncode == 0, done.stderr
    wanted = {
        "present": {},
        "two": {"serving": {"instances": {"cpu": 2}}},
        "large": {"batch": {"max": 32}, "serving": {"dynamic_batching": False}},
        "wrong": {"serving": {"instances": {"cpu": 0}}},
    }
    (tmp_path / "wanted.json").write_text(json.dumps(wanted))
    scratch = tmp_path / "scratch"
    done = builder(
        "variants", spec, "--release", tmp_path / "models/releases/scale/1",
        "--wanted", tmp_path / "wanted.json", "--engine", "onnxruntime", "--models-dir", scratch,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["present"]["engine"] == rows["two"]["engine"] == "engine-8-8"
    assert rows["large"]["engine"] == "engine-32-32"
    assert rows["two"]["seconds"] == 0
    assert rows["large"]["max_abs"] < 1e-4
    assert not rows["wrong"]["ok"]
    assert "serving.instances.cpu" in rows["wrong"]["error"]
    text = (scratch / "repository/large/config.pbtxt").read_text()
    assert "max_batch_size: 32" in text
    assert "dynamic_batching" not in text
    assert 'name: "large"' in text
    assert (scratch / "repository/large/1/model.onnx").stat().st_size > 0
    assert "count: 2" in (scratch / "repository/two/config.pbtxt").read_text()
    assert not (tmp_path / "models/repository/scale").exists(), "nothing of it is live"


def test_a_quantized_release_is_not_quantized_again(tmp_path: Path) -> None:
    spec = write_scale(tmp_path / "spec")
    models = ("--models-dir", tmp_path / "models")
    assert builder("build", spec, "--engine", "onnxruntime", *models).returncode == 0
    np.save(spec.parent / "x.npy", np.zeros((64, 6), np.float32))
    document = {**yaml.safe_load(spec.read_text()), "precision": "int8", "calibration": {"file": "x.npy"}}
    spec.write_text(yaml.safe_dump(document))
    (tmp_path / "wanted.json").write_text('{"present": {}}')
    done = builder(
        "variants", spec, "--release", tmp_path / "models/releases/scale/1",
        "--wanted", tmp_path / "wanted.json", "--engine", "onnxruntime", "--models-dir", tmp_path / "scratch",
    )  # fmt: skip
    [row] = json.loads(done.stdout)
    assert row["ok"], row
    live, scratch = (
        tmp_path / f"{name}/model.onnx"
        for name in ("models/releases/scale/1", "scratch/repository/present/1")
    )
    assert scratch.read_bytes() == live.read_bytes()


def test_a_variant_outside_the_tolerance_is_refused(tmp_path: Path) -> None:
    spec = write_scale(tmp_path / "spec")
    models = ("--models-dir", tmp_path / "models")
    assert builder("build", spec, "--engine", "onnxruntime", *models).returncode == 0
    other = write_scale(tmp_path / "other", factor=2.5)
    release = tmp_path / "models/releases/scale/1"
    (release / "model.onnx").write_bytes((other.parent / "scale.onnx").read_bytes())
    (tmp_path / "wanted.json").write_text('{"present": {}, "two": {"serving": {"warmup": false}}}')
    done = builder(
        "variants", spec, "--release", release, "--wanted", tmp_path / "wanted.json",
        "--engine", "onnxruntime", "--models-dir", tmp_path / "scratch",
    )  # fmt: skip
    rows = json.loads(done.stdout)
    assert [row["ok"] for row in rows] == [False, False]
    row = rows[1]
    assert done.stderr.count("building release") == 1, "what failed once is not built again"
    assert "does not agree with the source model" in row["error"]


def test_a_patch_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    spec = write_scale(tmp_path)
    text = spec.read_text()
    refused = builder("patch", spec, "--changes", '{"serving": {"instances": {"cpu": 0}}}')
    assert refused.returncode == 1
    assert spec.read_text() == text
    done = builder("patch", spec, "--changes", '{"serving": {"instances": {"cpu": 2}}}')
    assert done.returncode == 0, done.stderr
    assert loader.load(spec).serving.cpu_instances == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scale.npz", "scale.onnx", "scale.yaml"]


def test_a_shipped_spec_is_copied_with_its_labels(tmp_path: Path) -> None:
    done = builder("patch", "resnet50", "--changes", '{"batch": {"opt": 32}}', "--into", tmp_path)
    assert done.returncode == 0, done.stderr
    copy = loader.load(tmp_path / "resnet50.yaml")
    assert copy.batch.opt == 32
    assert copy.outputs[0].labels == tmp_path / "imagenet_labels.txt"
    again = builder("patch", "resnet50", "--changes", '{"batch": {"opt": 16}}', "--into", tmp_path)
    assert "is there already" in again.stdout
