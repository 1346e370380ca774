"""``manifest.json``: what a release is, what it was built from, with what, and how well it agrees.

Its ``contract`` is all that a client needs to make requests; the client and the scripts read the file,
never this module.
"""

from __future__ import annotations

import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any, Dict, List, Optional

from builder import hashing
from builder.errors import SourceError
from builder.release.model_config import labels_name
from builder.spec.model import Input, Spec

# Of the environment, what shapes an exported model.
_TOOLS = ("tensorflow", "tensorflow-cpu", "keras", "tf2onnx", "onnx", "numpy")


def tools() -> Dict[str, str]:
    """Versions of Python and of the packages that shape an export, where installed."""
    found = {"python": platform.python_version()}
    for name in _TOOLS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def source_hashes(spec: Spec) -> Dict[str, str]:
    """SHA-256 of every file the spec names; raises SourceError where the spec's own hash differs."""
    weights = spec.source.weights
    named = {
        "model": (spec.source.path, spec.source.sha256),
        "golden": (spec.source.golden, None),
        "weights": (weights.path if weights else None, weights.sha256 if weights else None),
    }
    for i in spec.inputs:
        named[f"samples of {i.name}"] = (i.samples.path, None)
    for o in spec.outputs:
        named[f"labels of {o.name}"] = (o.labels, None)
    hashes = {}
    for what, (path, wanted) in named.items():
        if path is None:
            continue
        hashes[what] = hashing.of_path(path)
        if wanted is not None and hashes[what] != wanted:
            raise SourceError(
                f"{spec.file}: {path} has sha256 {hashes[what]}",
                expected=f"sha256 {wanted}",
                remedy="restore the file the spec means, or write the new hash into the spec",
            )
    return hashes


def export_key(spec: Spec, hashes: Dict[str, str]) -> str:
    """A hash of all that shapes the exported ONNX and its golden samples."""
    data = spec.as_json()
    shaping = {k: data[k] for k in ("source", "inputs", "outputs", "opset", "parity")}
    shaping["parity"] = {k: data["parity"][k] for k in ("samples", "seed")}
    return hashing.of_json({"spec": shaping, "hashes": hashes, "tools": tools(), "code": _code("export")})


def fingerprint(spec: Spec, hashes: Dict[str, str], engine: Dict[str, Any]) -> str:
    """A hash of everything a release depends on: the same fingerprint needs no new build."""
    used = tools() if spec.source.kind != "onnx" else {}
    return hashing.of_json(
        {"spec": spec.as_json(), "hashes": hashes, "engine": engine, "tools": used, "code": _code("build")}
    )


def _code(what: str) -> str:
    """A hash of our own code that decides the result, so that a fix in it reaches the next ``up``."""
    here = Path(__file__).parents[2]
    files = {
        "export": ["builder/export", "models_volume/preprocessing.py"],
        "build": [
            "builder/export",
            "builder/engine",
            "builder/release/model_config.py",
            "models_volume/preprocessing.py",
        ],
    }[what]
    parts = {}
    for name in files:
        path = here / name
        sources = sorted(path.glob("*.py")) if path.is_dir() else [path]
        parts.update({s.name: hashing.of_path(s) for s in sources})
    return hashing.of_json(parts)


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
        "tolerance": {"top1": spec.parity.top1, "max_abs": spec.parity.max_abs},
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
    engine: Dict[str, Any],
    hashes: Dict[str, str],
    weights: Dict[str, Any],
    parity: Dict[str, Any],
    seconds: Dict[str, float],
    ngc_tag: Optional[str],
) -> Dict[str, Any]:
    """The manifest as data; ``engine`` holds its identity, file, bytes, sha256 and the exact argv."""
    return {
        "schema": 1,
        "model": spec.name,
        "version": version,
        "created": created,
        "fingerprint": fingerprint,
        "contract": contract(spec),
        "weights": weights,
        "engine": engine,
        "parity": parity,
        "source": {"kind": spec.source.kind, "name": spec.source.name, "sha256": hashes},
        "tools": tools(),
        "ngc_tag": ngc_tag,
        "seconds": {k: round(v, 2) for k, v in seconds.items()},
        "spec": spec.as_json(),
    }
