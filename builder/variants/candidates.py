"""Variants of a live release, laid out for a scratch server: the same model, other batch sizes or serving.

A variant is made of the live release's own ONNX file and golden samples, so nothing is exported. Each pair of
batch sizes gets an engine by the builder's own road, parity gate included; variants that differ only in how
they are served share it and get a ``config.pbtxt`` of their own.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from builder import engine as engines
from builder import hashing, progress
from builder.engine import Engine
from builder.errors import BuilderError
from builder.release import build
from builder.release.model_config import config_pbtxt
from builder.release.store import Store
from builder.spec import loader, yaml_file
from builder.spec.model import Spec
from builder.variants.edit import merged
from models_volume import layout
from models_volume import manifest as manifests

VERSION = 1  # of every variant on the scratch server


@dataclass(frozen=True)
class Origin:
    """The spec whose variants are made, the folder of its live release, and what makes engines of them."""

    file: Path
    release: Path
    engine: str


def make(origin: Origin, wanted: Mapping[str, Mapping[str, Any]], store: Store) -> list[dict[str, Any]]:
    """Lay each variant out in the scratch volume's repository, under its own name.

    Args:
        wanted: by the variant's name, what its spec has in place of the original's keys.
        store: the scratch volume.

    Returns:
        For each, in order: name, ok; error and remedy where it was refused; otherwise engine (the name of
        the release that holds its engine), seconds (of building it; 0 where it was there), bytes (of the
        engine) and max_abs (of its parity).

    Raises:
        BuilderError: the original cannot be read, or there is nothing to make engines with.
    """
    made = _Releases(origin, store)
    document = yaml_file.read(origin.file)
    rows = []
    for name, changes in wanted.items():
        try:
            rows.append({"name": name, "ok": True, **_lay_out(made, merged(document, changes), name)})
        except BuilderError as e:
            progress.detail(f"{name}: {e.found}")
            rows.append({"name": name, "ok": False, "error": e.found, "remedy": e.remedy})
    return rows


class _Releases:
    """The releases whose engines the variants share, each built once."""

    def __init__(self, origin: Origin, store: Store) -> None:
        self.origin = origin
        self.store = store
        onnx = origin.release / layout.ONNX
        self.source = {
            "onnx": str(onnx),
            "sha256": hashing.of_path(onnx),
            "golden": str(origin.release / layout.GOLDEN),
        }
        self.engine: Engine = engines.create(origin.engine)
        # An INT8 release's ONNX file is quantized already, and no variant of it is quantized again.
        before = yaml_file.read(origin.file)
        self.quantized: str | None = before.get("precision") if "calibration" in before else None
        # What quantizing changed is known of the release, and not measured again.
        contract = manifests.load(origin.release / layout.MANIFEST)["contract"]
        self.tolerance: dict[str, float] = contract["tolerance"]
        self._made: dict[str, dict[str, Any]] = {}
        self._failed: dict[str, BuilderError] = {}

    def get(self, name: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """The builder's answer, with the seconds it took; raises BuilderError, also the second time."""
        if name in self._failed:
            raise self._failed[name]
        if name in self._made:
            return {**self._made[name], "seconds": 0.0}
        # How it is served is no part of an engine: left out, so that the release is found again.
        keys = {k: v for k, v in document.items() if k != "serving"}
        job = build.Job.of(
            self.spec({**keys, "name": name}).file, self.store, self.origin.engine,
            allow_untrained=True, quiet_gpu=None, force=False,
        )  # fmt: skip
        if self.quantized:  # TensorRT reads such a model with --int8
            job = dataclasses.replace(job, spec=dataclasses.replace(job.spec, precision=self.quantized))
        began = time.monotonic()
        try:
            row = build.of_job(job)
        except BuilderError as e:
            self._failed[name] = e
            raise
        seconds = time.monotonic() - began if row["action"] == "built" else 0.0
        self._made[name] = {**row, "seconds": seconds}
        return self._made[name]

    def spec(self, document: Mapping[str, Any]) -> Spec:
        """The variant's spec, written beside the scratch releases and read back, checked."""
        data = dict(document)
        if self.quantized:
            data = {k: v for k, v in data.items() if k not in ("calibration", "int8", "precision")}
            data["parity"] = {**data.get("parity", {}), **self.tolerance}
        # An evaluation takes minutes and is the same for every variant of one engine: the redeploy makes it.
        # INT8 is judged on its data.
        if "calibration" not in data:
            data.pop("evaluation", None)
        for key in {"calibration", "evaluation"} & data.keys():
            data[key] = _absolute(data[key], self.origin.file.parent)
        data["source"] = self.source
        data["inputs"] = [
            # Golden samples are there, and what an export does to the graph is done.
            {k: v for k, v in entry.items() if k not in ("samples", "tensor")}
            for entry in data["inputs"]
        ]
        data["outputs"] = [_output(self.origin, entry) for entry in data["outputs"]]
        folder = self.store.root / "specs"
        folder.mkdir(exist_ok=True)
        file = folder / f"{data['name']}.yaml"
        file.write_text(yaml.safe_dump(data, sort_keys=False), "utf-8")
        return loader.load(file)


def _lay_out(made: _Releases, document: Mapping[str, Any], name: str) -> dict[str, Any]:
    store, engine = made.store, made.engine
    spec = made.spec({**document, "name": name})
    of_engine = f"engine-{spec.batch.opt}-{spec.batch.max}{'-int8' if spec.quantization else ''}"
    row = made.get(of_engine, document)
    manifest = row["manifest"]
    release = store.folder(of_engine, row["version"])
    folder = store.volume.repository / name
    shutil.rmtree(folder, ignore_errors=True)
    (folder / str(VERSION)).mkdir(parents=True)
    text = config_pbtxt(spec, engine, manifest["weights"], VERSION)
    (folder / "config.pbtxt").write_text(text, "utf-8")
    for path in (release / "model").iterdir():
        if path.is_file() and path.name != "config.pbtxt":  # labels
            shutil.copyfile(path, folder / path.name)
    built = layout.Volume(store.root).engine(of_engine, row["version"], engine.filename)
    os.link(built, folder / str(VERSION) / engine.filename)
    return {
        "engine": of_engine,
        "version": row["version"],
        "seconds": row["seconds"],
        "bytes": manifest["engine"]["bytes"],
        "max_abs": manifest["parity"]["max_abs"],
    }


def _absolute(entry: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The keys of a kind of data with its path written out: the variant's spec lies elsewhere."""
    paths = {"folder", "file", "npz"} & entry.keys()
    return {**entry, **{key: str((folder / entry[key]).resolve()) for key in paths}}


def _output(origin: Origin, entry: Mapping[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in entry.items() if k != "tensor"}
    if "labels" in kept:
        kept["labels"] = str((origin.file.parent / kept["labels"]).resolve())
    return kept
