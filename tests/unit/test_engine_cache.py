"""What saves an engine's build, with a fake trtexec and a fake nvidia-smi, and with an engine of our own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.models import write_scale
from support.stack import ROOT

from builder import hashing
from builder.engine import Built, Engine
from builder.engine.cache import EngineCache
from builder.release import build as pipeline
from builder.release import exports
from builder.release.store import Store
from builder.spec import loader
from builder.spec.model import Spec

FAKE = ROOT / "tests/fakes/trtexec.py"
SMI = (ROOT / "tests/samples/nvidia_smi.csv").read_text()


class Machine:
    """A GPU machine of fakes: and how often trtexec built."""

    def __init__(self, folder: Path) -> None:
        self._built = folder / "built"
        (folder / "smi.csv").write_text(SMI)
        programs = {
            "trtexec": f'case "$*" in *--saveEngine*) echo "$*" >> "{self._built}";; esac\n'
            f'exec "{sys.executable}" "{FAKE}" "$@"',
            "nvidia-smi": f'cat "{folder}/smi.csv"',
        }
        for name, text in programs.items():
            (folder / name).write_text(f"#!/bin/sh\n{text}\n")
            (folder / name).chmod(0o755)

    @property
    def builds(self) -> list[str]:
        return self._built.read_text().splitlines() if self._built.exists() else []


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    folder = tmp_path / "bin"
    folder.mkdir()
    made = Machine(folder)
    monkeypatch.setenv("TRTEXEC", str(folder / "trtexec"))
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_scale(tmp_path / "spec")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


def build(file: Path, store: Store, **options: Any) -> dict[str, Any]:
    chosen = {"allow_untrained": False, "force": False, **options}
    return pipeline.build(file, store, "tensorrt", **chosen)


def change(file: Path, **keys: object) -> None:
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **keys}))


def test_another_way_of_serving_takes_the_engine_from_the_cache(
    machine: Machine, file: Path, store: Store
) -> None:
    first = build(file, store)["manifest"]
    change(file, serving={"instances": {"gpu": 3}, "cuda_graphs": True})
    second = build(file, store)
    assert (second["action"], second["version"]) == ("built", 2)
    assert len(machine.builds) == 1
    engine = second["manifest"]["engine"]
    assert (first["engine"]["cached"], engine["cached"]) == (False, True)
    for key in ("sha256", "argv", "gpu", "version", "gpu_busy_percent"):
        assert engine[key] == first["engine"][key], key
    assert second["manifest"]["parity"]["by_batch"], "verified all the same"
    log = store.folder("scale", 2) / "build.log"
    assert "--saveEngine" in log.read_text()


class Counting(Engine):
    """An engine of our own: the file holds the number of the build."""

    name, filename = "counting", "model.bin"
    built = 0

    def recipe(self, spec: Spec, onnx: Path) -> list[str]:
        return ["make", str(spec.batch.max), onnx.name]

    def build(self, spec: Spec, onnx: Path, engine: Path, work: Path) -> Built:
        self.built += 1
        engine.write_text(f"{spec.batch.max} {self.built}")
        (work / "build.log").write_text("log")
        return Built(["make"], 1.0, {"name": "counting"})


@pytest.fixture
def counting(store: Store) -> EngineCache:
    return EngineCache(store.cache, Counting(), {"name": "counting", "version": "1", "gpu": {"name": "A"}})


def get(cache: EngineCache, file: Path, folder: Path, **options: Any) -> Built:
    """The engine, and its file as ``folder``/model.bin; kept as a verified one."""
    spec = loader.load(file)
    assert spec.source.path is not None
    folder.mkdir()
    built = cache.build(spec, spec.source.path, folder / "model.bin", folder, **{"fresh": False, **options})
    cache.keep(spec, spec.source.path, folder / "model.bin", folder, built)
    return built


def test_an_engine_is_taken_from_the_cache_as_it_was(
    counting: EngineCache, file: Path, tmp_path: Path
) -> None:
    first = get(counting, file, tmp_path / "a", before=lambda: 7)
    second = get(counting, file, tmp_path / "b", before=lambda: 80)
    assert (first.cached, second.cached) == (False, True)
    assert (second.argv, second.identity, second.gpu_busy_percent) == (["make"], {"name": "counting"}, 7)
    assert (tmp_path / "b/model.bin").read_text() == (tmp_path / "a/model.bin").read_text()


def test_force_builds_the_engine_too(counting: EngineCache, file: Path, tmp_path: Path) -> None:
    get(counting, file, tmp_path / "a")
    assert not get(counting, file, tmp_path / "b", fresh=True).cached
    get(counting, file, tmp_path / "c")
    assert (tmp_path / "c/model.bin").read_text().endswith(" 2"), "the newer one is kept"


def test_another_command_gpu_or_onnx_is_another_engine(
    counting: EngineCache, file: Path, tmp_path: Path
) -> None:
    get(counting, file, tmp_path / "a")
    other = EngineCache(counting.folder, counting.engine, {**counting.identity, "gpu": {"name": "B"}})
    assert not get(other, file, tmp_path / "b").cached
    change(file, batch={"max": 2})
    assert not get(counting, file, tmp_path / "c").cached


def test_a_damaged_engine_is_not_taken(counting: EngineCache, file: Path, tmp_path: Path) -> None:
    get(counting, file, tmp_path / "a")
    [kept] = counting.folder.glob("engine.*/model.bin")
    kept.write_text("damaged")
    assert not get(counting, file, tmp_path / "b").cached


def test_the_engine_of_a_failed_release_is_not_taken(
    counting: EngineCache, file: Path, tmp_path: Path
) -> None:
    get(counting, file, tmp_path / "a")
    refused = [hashing.of_path(tmp_path / "a/model.bin")]
    assert not get(counting, file, tmp_path / "b", refused=refused).cached


def test_a_model_s_cache_stays_small_and_is_no_export(
    counting: EngineCache, file: Path, store: Store, tmp_path: Path
) -> None:
    for size in (1, 2, 3):
        change(file, batch={"max": size})
        get(counting, file, tmp_path / str(size))
    for model in ("scale", "engine"):
        exports._forget_old(store, model)
    assert len(list(store.cache.glob("engine.*"))) == 2
