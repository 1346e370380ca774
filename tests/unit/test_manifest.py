"""Fingerprints: a change of anything a release depends on, and of nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.models import write_scale
from support.stack import ROOT

from builder.release import manifest, sources
from builder.spec import loader

Write = Callable[..., Path]
CPU = {"name": "onnxruntime", "version": "1.0", "gpu": None}


def fingerprint(
    file: Path, engine: dict[str, Any] = CPU, recipe: tuple[str, ...] = (), config: str = "config"
) -> str:
    s = loader.load(file)
    hashes = sources.hashes(s)
    onnx, golden = hashes["model"], hashes["golden"]
    return manifest.fingerprint(
        s, hashes, engine, onnx=onnx, golden=golden, recipe=list(recipe), config=config
    )


def export_key(file: Path) -> str:
    s = loader.load(file)
    return manifest.export_key(s, sources.hashes(s))


@pytest.fixture
def file(write: Write, document: dict[str, Any]) -> Path:
    return write(document)


def test_the_fingerprint_is_stable(file: Path) -> None:
    assert fingerprint(file) == fingerprint(file)


def test_the_folder_does_not_matter(file: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "else" / "where"
    elsewhere.mkdir(parents=True)
    for path in tmp_path.iterdir():
        if path.is_file():
            shutil.copy(path, elsewhere)
    assert fingerprint(elsewhere / file.name) == fingerprint(file)


def test_comments_and_the_order_of_keys_do_not_matter(
    file: Path, write: Write, document: dict[str, Any]
) -> None:
    before = fingerprint(file)
    text = "# a comment\n" + yaml.safe_dump(dict(reversed(document.items())), sort_keys=False)
    assert fingerprint(write(text)) == before


@pytest.mark.parametrize(
    "change",
    [
        {"batch": {"min": 1, "opt": 4, "max": 16}},
        {"batch": {"min": 1, "opt": 2, "max": 8}},
        {"precision": "fp32"},
        {"opset": 14},
        {"trtexec_args": ["--noTF32"]},
        {"serving": {"instances": {"gpu": 1}}},
        {"serving": {"warmup": False}},
        {"parity": {"max_abs": 0.01}},
        {"parity": {"seed": 1}},
        {"outputs": [{"name": "z", "dtype": "FP32", "dims": [3]}]},
    ],
    ids=str,
)
def test_a_change_of_the_spec_matters(
    file: Path, write: Write, document: dict[str, Any], change: dict[str, Any]
) -> None:
    before = fingerprint(file)
    assert fingerprint(write({**document, **change})) != before


@pytest.mark.parametrize("name", ["m.onnx", "g.npz"])
def test_a_change_of_a_named_file_matters(file: Path, tmp_path: Path, name: str) -> None:
    before = fingerprint(file)
    (tmp_path / name).write_text("changed")
    assert fingerprint(file) != before


@pytest.mark.parametrize(
    "engine",
    [{**CPU, "version": "2"}, {**CPU, "name": "tensorrt"}, {**CPU, "gpu": {"name": "NVIDIA H200"}}],
    ids=str,
)
def test_another_engine_or_gpu_matters(file: Path, engine: dict[str, Any]) -> None:
    assert fingerprint(file, engine) != fingerprint(file)


def test_another_driver_or_memory_size_does_not_matter(file: Path) -> None:
    gpu = {"name": "NVIDIA H200", "compute_capability": "9.0", "driver": "1", "memory_mib": 1}
    newer = {**gpu, "driver": "2", "memory_mib": None}
    assert fingerprint(file, {**CPU, "gpu": gpu}) == fingerprint(file, {**CPU, "gpu": newer})


@pytest.mark.parametrize("change", [{"recipe": ("trtexec", "--best")}, {"config": "another"}], ids=str)
def test_a_new_command_or_configuration_matters(file: Path, change: dict[str, Any]) -> None:
    assert fingerprint(file, **change) != fingerprint(file)


def test_the_description_does_not_matter(file: Path, write: Write, document: dict[str, Any]) -> None:
    before = fingerprint(file)
    assert fingerprint(write({**document, "description": "in other words"})) == before


def test_a_comment_in_our_own_code_builds_nothing(tmp_path: Path) -> None:
    """The builder as it is, and as it is with a comment in every file that has a part in a release."""
    spec, volume = write_scale(tmp_path / "spec"), tmp_path / "models"
    actions = []
    for name in ("before", "after"):
        code = tmp_path / name
        for part in ("builder", "models_volume"):
            shutil.copytree(ROOT / part, code / part, ignore=shutil.ignore_patterns("__pycache__"))
        if name == "after":
            for source in code.rglob("*.py"):
                source.write_text(source.read_text("utf-8") + "# a comment\n", "utf-8")
        argv = ["build", spec, "--engine", "onnxruntime", "--models-dir", volume, "--json"]
        done = subprocess.run(
            [sys.executable, "-m", "builder", *argv], cwd=code, capture_output=True, text=True, check=True
        )
        actions.append(json.loads(done.stdout)[0]["action"])
    assert actions == ["built", "unchanged"]


def test_the_versions_of_what_exports_do_not_matter_to_an_exported_model(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = export_key(file)
    monkeypatch.setattr(manifest, "tools", lambda: {"python": "9.9"})
    assert export_key(file) == before


def test_the_versions_of_what_exports_matter_to_a_model_to_export(
    write: Write, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    document["source"] = {"application": "ResNet50", "weights": "imagenet"}
    file = write(document)
    before = export_key(file)
    monkeypatch.setattr(manifest, "tools", lambda: {"python": "9.9"})
    assert export_key(file) != before


def test_an_export_is_made_anew_for_its_interface_not_for_its_tolerances(
    write: Write, document: dict[str, Any]
) -> None:
    def key(**change: Any) -> str:
        return manifest.export_key(loader.load(write({**document, **change})), {})

    before = key()
    assert key(parity={"max_abs": 0.01}) == before
    assert key(serving={"warmup": False}, batch={"max": 2}) == before
    assert key(parity={"samples": 3}) != before
    assert key(opset=14) != before


def test_no_place_on_this_machine_is_in_the_manifest(file: Path, tmp_path: Path) -> None:
    s = loader.load(file)
    data = manifest.make(
        s, version=1, created="now", fingerprint="f", export="e", files={}, engine=CPU, hashes={}, weights={},
        parity={}, proof={}, evaluation=None, seconds={"all": 1.239}, ngc_tag=None,
    )  # fmt: skip
    assert str(tmp_path) not in json.dumps(data)
    assert data["seconds"] == {"all": 1.24}


def test_the_contract_is_the_spec_s_interface_and_limits() -> None:
    told = manifest.contract(loader.load(loader.find("resnet50")))
    assert (told["min_batch_size"], told["max_batch_size"]) == (1, 32)
    assert [(t["name"], t["dtype"], t["dims"]) for t in told["inputs"]] == [("image", "UINT8", [224, 224, 3])]
    assert [(t["name"], t["labels"]) for t in told["outputs"]] == [("probabilities", "labels.txt")]
    assert told["tolerance"] == {"top1": 0.99, "max_abs": 0.05}
