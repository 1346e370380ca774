"""``manifest.json``: what a release is, what it was built from, with what, and how well it agrees.

Its ``contract`` is all that a client needs to make requests; the client and the scripts read the file,
never this module.
"""

from __future__ import annotations

import json
import platform
from importlib import metadata
from typing import Any, Dict, List, Optional, Sequence

from builder import hashing
from builder.spec.model import Input, Spec
from models_volume.manifest import SCHEMA

LABELS = "labels.txt"
EVALUATION = "evaluation"  # among the hashes: of the labelled data, which a build does not copy
CALIBRATION = "calibration"  # likewise
# Raise it when the exporter writes another ONNX file or other golden samples for the same spec: releases and
# exports made before are then made anew. A comment, or a fix that changes no result, leaves it.
EXPORTER = 1
# Of `serving`, what was in a fingerprint before there were levers that a device may lack.
_SERVING = ("gpu_instances", "cpu_instances", "max_queue_delay_us", "preferred_batch_sizes", "warmup")
# Of the environment, what shapes an exported model.
_TOOLS = ("tensorflow", "tensorflow-cpu", "keras", "tf-keras", "tf2onnx", "onnx", "numpy")


def tools(names: Sequence[str] = _TOOLS) -> Dict[str, str]:
    """Versions of Python and of the packages that shape an export, where installed."""
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def export_key(spec: Spec, hashes: Dict[str, str]) -> str:
    """A hash of all that shapes the model's ONNX file and its golden samples: part of the spec, the files it
    names, and the versions of what exports, where there is something to export."""
    data = spec.as_json()
    shaping = {k: data[k] for k in ("source", "inputs", "outputs", "opset", "parity")}
    shaping["parity"] = {k: data["parity"][k] for k in ("samples", "seed")}
    hashes = {what: value for what, value in hashes.items() if what not in (CALIBRATION, EVALUATION)}
    used = tools() if spec.source.kind != "onnx" else {}
    if spec.source.kind == "onnx" and spec.source.golden is None:
        used = tools(["onnxruntime", "numpy"])  # they make the golden samples
    return hashing.of_json({"spec": shaping, "hashes": hashes, "tools": used, "exporter": EXPORTER})


def model_key(spec: Spec, hashes: Dict[str, str]) -> str:
    """A hash of all that shapes the model that an engine is built of: the export, and its quantization."""
    exported = export_key(spec, hashes)
    if spec.quantization is None:
        return exported
    from builder.quantize import make  # imports onnxruntime

    asked = spec.as_json()
    shaping = {k: asked.get(k) for k in ("precision", "quantization", "evaluation")}
    return hashing.of_json(
        {
            "export": exported,
            "quantization": shaping,
            "made": make.key(hashes[CALIBRATION], hashes.get(EVALUATION)),
        }
    )


def fingerprint(
    spec: Spec,
    hashes: Dict[str, str],
    engine: Dict[str, Any],
    *,
    onnx: str,
    golden: str,
    recipe: List[str],
    config: str,
) -> str:
    """A hash of what a release is made of: the same fingerprint needs no new build.

    Neither our own source code nor the driver is in it: they change, and the engine stays the same.

    Args:
        hashes: of the files that the spec names.
        engine: the engine's identity, of which name, version and kind of GPU count.
        onnx, golden: sha256 of the model and of its golden samples.
        recipe: the command that makes the engine, with neutral file names.
        config: Triton's configuration of it, with a neutral version.
    """
    data = spec.as_json()
    del data["description"]
    # The other levers count by what they make of the configuration: a device that ignores one builds
    # nothing anew for it.
    data["serving"] = {key: data["serving"][key] for key in _SERVING}
    gpu = engine.get("gpu") or {}
    made_of = {
        "spec": data,
        "labels": {what: value for what, value in hashes.items() if what.startswith("labels")},
        **({"evaluation": hashes[EVALUATION]} if EVALUATION in hashes else {}),
        "onnx": onnx,
        "golden": golden,
        "recipe": recipe,
        "config": config,
        "engine": {"name": engine["name"], "version": engine["version"]},
        "gpu": {key: gpu.get(key) for key in ("name", "compute_capability")},
    }
    return hashing.of_json(made_of)


def labels_name(spec: Spec, output: str) -> str:
    """The labels' file name: ``labels.txt``, or one for each output where several have labels."""
    several = sum(o.labels is not None for o in spec.outputs) > 1
    return f"{output.replace('/', '_')}.{LABELS}" if several else LABELS


def contract(spec: Spec) -> Dict[str, Any]:
    """What a client needs: names, dtypes, dims without batch, preprocessing it must do, labels, limits."""
    return {
        "max_batch_size": spec.batch.max,
        "min_batch_size": spec.batch.min,
        "inputs": [
            {
                "name": i.name,
                "dtype": i.dtype.name,
                "dims": list(i.dims),
                "preprocessing": _left_to_the_client(i),
                **({"ranges": i.ranges_as_json()} if i.free else {}),
            }
            for i in spec.inputs
        ],
        "outputs": [
            {
                "name": o.name,
                "dtype": o.dtype.name,
                "dims": list(o.dims),
                "labels": labels_name(spec, o.name) if o.labels else None,
            }
            for o in spec.outputs
        ],
        "tolerance": spec.parity.tolerance(),
    }


def _left_to_the_client(tensor: Input) -> Optional[Dict[str, Any]]:
    if tensor.preprocessing is None or tensor.preprocess_where != "client":
        return None
    return tensor.preprocessing.as_json()


def changes(old: Any, new: Any, path: str = "") -> List[str]:
    """What differs between two specs as plain data, a line each: ``batch.max: 32 -> 64``."""
    if isinstance(old, dict) and isinstance(new, dict):
        lines = []
        for key in sorted({*old, *new}):
            lines += changes(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
        return lines
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [line for i, (a, b) in enumerate(zip(old, new)) for line in changes(a, b, f"{path}[{i}]")]
    return [] if old == new else [f"{path}: {json.dumps(old)} -> {json.dumps(new)}"]


def make(
    spec: Spec,
    *,
    version: int,
    created: str,
    fingerprint: str,
    export: str,
    files: Dict[str, str],
    engine: Dict[str, Any],
    hashes: Dict[str, str],
    weights: Dict[str, Any],
    parity: Dict[str, Any],
    proof: Dict[str, Any],
    evaluation: Optional[Dict[str, Any]],
    seconds: Dict[str, float],
    ngc_tag: Optional[str],
    quantization: Optional[Dict[str, Any]] = None,
    ignored: Sequence[str] = (),
    origin: Optional[Dict[str, Any]] = None,
) -> Dict[str, Any]:
    """The manifest as data.

    Args:
        export: the ``model_key``.
        files: the sha256 of every file of the release but this one.
        engine: its identity, file, bytes, sha256 and the exact argv.
        evaluation: the accuracy on labelled data; None where the spec asks for none.
        quantization: with INT8, its report in short.
        ignored: keys of ``serving`` that this device does not have.
        origin: where it came from; None where it was built here.
    """
    return {
        "schema": SCHEMA,
        "model": spec.name,
        "version": version,
        "created": created,
        "fingerprint": fingerprint,
        "export": export,
        "files": files,
        "contract": contract(spec),
        "weights": weights,
        "engine": engine,
        "parity": parity,
        "proof": proof,
        "evaluation": evaluation,
        "ignored": list(ignored),
        "source": {"kind": spec.source.kind, "name": spec.source.name, "sha256": hashes},
        "tools": tools(),
        "ngc_tag": ngc_tag,
        "seconds": {k: round(v, 2) for k, v in seconds.items()},
        "spec": spec.as_json(),
        **({} if quantization is None else {"quantization": quantization}),
        **({} if not origin else {"origin": origin}),
    }
