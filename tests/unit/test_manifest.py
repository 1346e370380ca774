"""Fingerprints: a change of anything a release depends on, and of nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.stack import ROOT

from builder.release import manifest
from builder.spec import loader

Write = Callable[..., Path]
CPU = {"name": "onnxruntime", "version": "1.0", "gpu": None}


def fingerprint(file: Path, engine: dict[str, Any] = CPU) -> str:
    s = loader.load(file)
    return manifest.fingerprint(s, manifest.source_hashes(s), engine)


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


@pytest.mark.parametrize(
    "name",
    [
        "builder/release/model_config.py",
        "builder/export/golden.py",
        "builder/engine/trtexec.py",
        "models_volume/preprocessing.py",
    ],
)
def test_a_change_of_the_code_that_decides_the_result_matters(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    code = tmp_path / "code"
    for part in ("builder", "models_volume"):
        shutil.copytree(ROOT / part, code / part, ignore=shutil.ignore_patterns("__pycache__", "models"))
    monkeypatch.setattr(manifest, "__file__", str(code / "builder/release/manifest.py"))
    before = fingerprint(file)
    with (code / name).open("a") as f:
        f.write("# a fix\n")
    assert fingerprint(file) != before


def test_the_versions_of_what_exports_do_not_matter_to_an_exported_model(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fingerprint(file)
    monkeypatch.setattr(manifest, "tools", lambda: {"python": "9.9"})
    assert fingerprint(file) == before


def test_the_versions_of_what_exports_matter_to_a_model_to_export(
    write: Write, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    document["source"] = {"application": "ResNet50", "weights": "imagenet"}
    file = write(document)
    before = fingerprint(file)
    monkeypatch.setattr(manifest, "tools", lambda: {"python": "9.9"})
    assert fingerprint(file) != before


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
        s, version=1, created="now", fingerprint="f", engine=CPU, hashes={}, weights={}, parity={},
        seconds={"all": 1.239}, ngc_tag=None,
    )  # fmt: skip
    assert str(tmp_path) not in json.dumps(data)
    assert data["seconds"] == {"all": 1.24}


def test_the_contract_is_the_spec_s_interface_and_limits() -> None:
    told = manifest.contract(loader.load(loader.find("resnet50")))
    assert (told["min_batch_size"], told["max_batch_size"]) == (1, 32)
    assert [(t["name"], t["dtype"], t["dims"]) for t in told["inputs"]] == [("image", "UINT8", [224, 224, 3])]
    assert [(t["name"], t["labels"]) for t in told["outputs"]] == [("probabilities", "labels.txt")]
    assert told["tolerance"] == {"top1": 0.99, "max_abs": 0.05}
