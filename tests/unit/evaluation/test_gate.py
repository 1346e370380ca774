"""The evaluation gate in a build: what is measured, what is refused with which figures, and what stays.

The model's class is the place of its largest input, so that every right answer is known. ``Coarse`` is a fake
of an engine that has lost accuracy: it takes another class for chosen samples.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import numpy_helper
from ops.commands import releases as command
from support.models import write_scale
from support.stack import ROOT

from builder import cli
from builder import engine as engines
from builder.engine import Arrays, Engine
from builder.engine.onnxruntime import OnnxRuntime
from builder.errors import EvaluationError
from builder.release import build as pipeline
from builder.release.store import Store
from builder.spec import loader
from builder.spec.model import Spec

LABELS = [f"kind {n}" for n in range(6)]
# A sample's fourth decimal is its own number: by it the fake engine knows which samples to lose.
LOOSE = {"top1": 0.0, "max_abs": 100.0}


class Coarse(OnnxRuntime):
    """Gives the samples with these numbers wrong answers; its file is not the exported ONNX."""

    name = "tensorrt"
    filename = "model.onnx"
    lose: frozenset[int] = frozenset()

    def build(self, spec: Spec, source: Path, engine: Path, work: Path) -> Any:
        built = super().build(spec, source, engine, work)
        model = onnx.load(str(engine))
        model.doc_string = str(sorted(self.lose))
        onnx.save(model, str(engine))
        return built

    def run(self, spec: Spec, engine: Path, inputs: Arrays, work: Path) -> Arrays:
        answers = super().run(spec, engine, inputs, work)
        scores = answers["scores"].copy()
        numbers = np.rint(inputs["x"].min(axis=1) * 1e4).astype(int)
        for row in np.flatnonzero(np.isin(numbers, list(self.lose))):
            scores[row] = np.roll(scores[row], 1)
        return {"scores": scores}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> type[Coarse]:
    """The engine called tensorrt, for one test; set ``lose``."""
    monkeypatch.setattr(Coarse, "lose", frozenset())
    real = engines.create

    def create(name: str, **options: Any) -> Engine:
        return Coarse() if name == "tensorrt" else real(name, **options)

    monkeypatch.setattr(engines, "create", create)
    return Coarse


def write(
    folder: Path, count: int = 1000, wrong: int = 50, seed: int = 0, weights: str = "", **evaluation: object
) -> Path:
    """A spec with ``count`` labelled samples, of which the model has the first ``wrong`` wrong."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 6, count)
    inputs = rng.uniform(1, 2, (count, 6)).astype(np.float32)
    inputs[np.arange(count), labels] += 5
    smallest = (labels + 1) % 6
    inputs[np.arange(count), smallest] = np.arange(count) * 1e-4
    labels[:wrong] = (labels[:wrong] + 3) % 6
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "data.npz", inputs=inputs, labels=labels)
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n")
    asked = {"npz": "data.npz", **evaluation}
    file = write_scale(folder, max_batch=64, weights=weights, parity=LOOSE, evaluation=asked)
    document = yaml.safe_load(file.read_text())
    document["outputs"][0]["labels"] = "labels.txt"
    file.write_text(yaml.safe_dump(document))
    return file


def deploy(file: Path, store: Store, engine: str = "onnxruntime", **options: Any) -> dict[str, Any]:
    return pipeline.deploy(file, store, engine, **{"allow_untrained": False, "force": False, **options})


def refusal(file: Path, store: Store, engine: str = "onnxruntime", **options: Any) -> EvaluationError:
    """The error; and nothing is published, nothing left in staging, and what was live is live."""
    before = (store.live("scale"), store.versions("scale"))
    with pytest.raises(EvaluationError) as error:
        deploy(file, store, engine, **options)
    assert (store.live("scale"), store.versions("scale")) == before
    assert list((store.root / "staging").iterdir()) == []
    return error.value


def report(store: Store, version: int) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((store.folder("scale", version) / "evaluation.json").read_text())
    return data


def test_a_release_says_how_accurate_it_is(store: Store, tmp_path: Path) -> None:
    result = deploy(write(tmp_path, min=0.9), store)
    found = result["manifest"]["evaluation"]
    assert (found["after"]["right"], found["after"]["count"]) == (950, 1000)
    assert (found["data"]["samples"], found["data"]["classes"], found["metric"]) == (1000, 6, "top1")
    assert found["data"]["sha256"] == result["manifest"]["source"]["sha256"]["evaluation"]
    assert found["same_file"] is True
    assert found["live"] is None
    whole = report(store, 1)
    assert sum(row["after"] for row in whole["by_class"]) == 950
    assert {row["label"] for row in whole["by_class"]} == set(LABELS)
    assert whole["samples"]["right_after"] == "0" * 50 + "1" * 950
    page = (store.folder("scale", 1) / "evaluation.html").read_text()
    assert "95.00%" in page
    assert "kind 3" in page
    assert {"evaluation.json", "evaluation.html"} < set(result["manifest"]["files"])


def test_the_same_data_need_no_new_build_and_other_data_do(store: Store, tmp_path: Path) -> None:
    file = write(tmp_path)
    deploy(file, store)
    assert deploy(file, store)["action"] == "unchanged"
    write(tmp_path, seed=1)
    result = deploy(file, store)
    assert (result["action"], result["version"]) == ("built", 2)
    why = result["manifest"]["evaluation"]["live"]
    assert why == {"version": 1, "not_compared": "it was evaluated on other data, or by another metric"}
    write(tmp_path, seed=1, min=0.5)
    assert deploy(file, store)["action"] == "built", "another bound is another release"


def test_the_source_model_below_the_least_is_refused_before_anything_is_built(
    store: Store, tmp_path: Path, coarse: type[Coarse], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Coarse, "build", lambda *_: pytest.fail("an engine was built"))
    error = refusal(write(tmp_path, min=0.96), store, "tensorrt")
    assert "the source model itself has top-1 accuracy 95.00% (950 of 1000; 95% interval" in error.found
    assert "at least 96.00%" in error.expected


def test_an_accuracy_that_may_be_below_the_least_is_refused_with_how_many_would_tell(
    store: Store, tmp_path: Path
) -> None:
    error = refusal(write(tmp_path, count=100, wrong=5, min=0.9), store)
    assert "the labelled samples are too few to tell" in error.found
    assert "top-1 accuracy 95.00% (95 of 100; 95% interval 88.82% to 97.85%) may be below" in error.details
    needed = int(error.details.split("about ")[1].split()[0])
    assert 100 < needed < 260
    assert deploy(write(tmp_path, count=needed, wrong=needed // 20, min=0.9), store)["action"] == "built"


def test_an_engine_that_loses_accuracy_is_refused_with_the_figures(
    store: Store, tmp_path: Path, coarse: type[Coarse]
) -> None:
    coarse.lose = frozenset(range(100, 130))
    error = refusal(write(tmp_path), store, "tensorrt")
    assert "accuracy is outside the spec's bounds; what is live stays live" in error.found
    assert "drop against the source model: +3.00 points (30 lost, 0 gained of 1000; 95%" in error.details
    assert "is more than 1" in error.details
    page = store.root / "logs" / "scale.evaluation.html"
    assert str(page) in error.remedy
    assert "row 100" in page.read_text() or "row 129" in page.read_text()


def test_force_does_not_pass_the_gate(store: Store, tmp_path: Path, coarse: type[Coarse]) -> None:
    """As with parity: force builds what is unchanged, and never publishes what is wrong."""
    coarse.lose = frozenset(range(100, 130))
    refusal(write(tmp_path), store, "tensorrt", force=True)


def test_an_engine_that_keeps_its_accuracy_passes(store: Store, tmp_path: Path, coarse: type[Coarse]) -> None:
    coarse.lose = frozenset({500, 501})
    found = deploy(write(tmp_path), store, "tensorrt")["manifest"]["evaluation"]
    assert found["same_file"] is False
    assert (found["drop"]["lost"], found["drop"]["gained"], found["drop"]["drop"]) == (2, 0, 0.002)
    assert found["before"]["right"] == 950


def test_too_few_samples_cannot_show_a_small_drop(store: Store, tmp_path: Path, coarse: type[Coarse]) -> None:
    error = refusal(write(tmp_path, count=200, wrong=0), store, "tensorrt")
    assert "too few to tell" in error.found
    assert "about 38" in error.details
    deploy(write(tmp_path, count=200, wrong=0, max_drop=0.02), store, "tensorrt")


def test_a_drop_against_the_live_release_blocks_the_redeploy(store: Store, tmp_path: Path) -> None:
    """Another model of the same spec: each passes by itself, and the second one is worse."""
    deploy(write(tmp_path, wrong=0), store)
    worse = write(tmp_path / "worse", wrong=0)
    worsen(worse)
    error = refusal(worse, store)
    assert "drop against release 1, which is live: +" in error.details
    assert deploy(set_bound(worse, 0.9), store)["live"] == 2, "a loss that is meant"
    live = report(store, 2)["live"]
    assert live["version"] == 1
    assert live["lost"] > 100


def worsen(file: Path) -> None:
    """The model adds much to class 0: another ONNX file with its own golden samples."""
    path = file.with_name("scale.onnx")
    model = onnx.load(str(path))
    for initializer in model.graph.initializer:
        if initializer.name == "offset":
            initializer.CopyFrom(numpy_helper.from_array(np.array([11, 0, 0, 0, 0, 0], np.float32), "offset"))
    onnx.save(model, str(path))
    document = yaml.safe_load(file.read_text())
    document["source"] = {"onnx": "scale.onnx"}
    file.write_text(yaml.safe_dump(document))


def set_bound(file: Path, max_drop: float) -> Path:
    document = yaml.safe_load(file.read_text())
    document["evaluation"]["max_drop"] = max_drop
    file.write_text(yaml.safe_dump(document))
    return file


def test_an_older_release_that_is_worse_takes_a_rollback_and_no_redeploy(
    store: Store, tmp_path: Path
) -> None:
    worse = write(tmp_path / "worse", wrong=0)
    worsen(worse)
    deploy(worse, store)
    deploy(write(tmp_path, wrong=0), store)
    error = refusal(worse, store)
    assert "drop against release 2, which is live" in error.details
    assert "./scripts/rollback --to 1" in error.remedy


def test_a_live_release_without_an_evaluation_is_not_compared(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path)
    document = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({k: v for k, v in document.items() if k != "evaluation"}))
    assert deploy(file, store)["manifest"]["evaluation"] is None
    file.write_text(yaml.safe_dump(document))
    deploy(file, store)
    assert "not compared with release 1, which is live: it was not evaluated" in capsys.readouterr().err


def test_untrained_weights_are_not_evaluated(store: Store, tmp_path: Path) -> None:
    """By what the ONNX file says of itself."""
    error = refusal(write(tmp_path, weights="untrained"), store)
    assert "the accuracy of untrained weights says nothing: untrained" in error.found


def test_labelled_data_that_do_not_fit_are_refused_before_the_build(store: Store, tmp_path: Path) -> None:
    file = write(tmp_path)
    np.savez(tmp_path / "data.npz", inputs=np.zeros((9, 6), np.float32), labels=np.full(9, 6))
    error = refusal(file, store)
    assert "labels[0] is 6; 9 such labels are no class" in error.found


def test_an_exported_spec_names_the_same_data(tmp_path: Path) -> None:
    """They are not copied."""
    file, out = write(tmp_path / "here"), tmp_path / "out" / "there"
    assert cli.main(["export", str(file), "--output", str(out)]) == 0
    exported = loader.load(out / "scale.yaml")
    assert exported.evaluation == loader.load(file).evaluation


def test_trtexec_answers_all_of_it_in_batches(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the fake of trtexec, which really runs the model: three batches, the last one smaller."""
    tool = tmp_path / "bin" / "trtexec"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/tests/fakes/trtexec.py" "$@"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    result = deploy(write(tmp_path, count=150, wrong=3, max_drop=0.05), store, "tensorrt")
    found = result["manifest"]["evaluation"]
    assert result["manifest"]["engine"]["name"] == "tensorrt"
    assert found["same_file"] is False
    assert (found["before"]["right"], found["after"]["right"], found["after"]["count"]) == (147, 147, 150)


def test_releases_show_the_accuracy(
    store: Store, tmp_path: Path, coarse: type[Coarse], capsys: pytest.CaptureFixture[str]
) -> None:
    coarse.lose = frozenset({500, 501})
    deploy(write(tmp_path), store, "tensorrt")
    assert cli.main(["releases", "--models-dir", str(store.root), "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert "top1 94.8% of 1000, drop +0.20" in command._row(row)
    assert cli.main(["releases", "--models-dir", str(store.root)]) == 0
    assert "top1 94.80%" in capsys.readouterr().out
