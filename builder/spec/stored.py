"""A spec out of a release's manifest: what ``Spec.as_json`` wrote, read back.

Its source is the release's own ONNX file and golden samples: from there on every machine makes the same
engine, whatever the model was exported from. What belongs to the export alone is gone: samples, preprocessing
in the graph, the names in the source model; and so are labelled and calibration data, which are elsewhere.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Dict, Mapping

from builder.errors import SpecError
from builder.spec import model
from builder.spec.dtypes import DTYPES
from models_volume.preprocessing import Preprocessing


def read(
    data: Mapping[str, Any], file: Path, onnx: Path, golden: Path, labels: Mapping[str, Path]
) -> model.Spec:
    """The spec of a release.

    Args:
        data: the manifest's ``spec``.
        file: the manifest, for messages.
        onnx, golden: the release's files.
        labels: by output, the file that names its classes.

    Raises:
        SpecError: it is no such spec.
    """
    try:
        return _spec(data, file, onnx, golden, labels)
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise SpecError(f"{file}: its spec cannot be read: {type(e).__name__} {e}") from e


def _spec(
    data: Mapping[str, Any], file: Path, onnx: Path, golden: Path, labels: Mapping[str, Path]
) -> model.Spec:
    return model.Spec(
        file=file,
        name=str(data["name"]),
        description=str(data["description"]),
        source=model.Source("onnx", onnx.name, onnx, golden=golden),
        inputs=tuple(_input(entry) for entry in data["inputs"]),
        outputs=tuple(
            model.Output(
                str(o["name"]), DTYPES[o["dtype"]], tuple(map(int, o["dims"])), labels=labels.get(o["name"])
            )
            for o in data["outputs"]
        ),
        batch=model.Batch(**{key: int(data["batch"][key]) for key in ("min", "opt", "max")}),
        precision=str(data["precision"]),
        opset=int(data["opset"]),
        trtexec_args=tuple(map(str, data["trtexec_args"])),
        serving=_serving(data["serving"]),
        parity=model.Parity(**data["parity"]),
    )


def _input(entry: Mapping[str, Any]) -> model.Input:
    client = entry["preprocess_where"] == "client"
    return model.Input(
        name=str(entry["name"]),
        dtype=DTYPES[entry["dtype"]],
        dims=tuple(map(int, entry["dims"])),
        samples=model.Samples("uniform"),
        preprocessing=Preprocessing.of(entry["preprocessing"]) if client else None,
        preprocess_where="client" if client else "",
        ranges=tuple(model.Range(**r) if r else None for r in entry["ranges"]),
    )


def _serving(data: Mapping[str, Any]) -> model.Serving:
    known = {f.name for f in dataclasses.fields(model.Serving)} - {"named"}
    unknown = sorted(set(data) - known)
    if unknown:
        raise ValueError(f"serving has {', '.join(unknown)}, which this version does not know")
    values: Dict[str, Any] = dict(data)
    for name in ("preferred_batch_sizes", "cuda_graphs"):
        values[name] = tuple(map(int, data.get(name) or ()))
    if data.get("queue_policy"):
        values["queue_policy"] = model.QueuePolicy(**data["queue_policy"])
    if data.get("priorities"):
        values["priorities"] = model.Priorities(**data["priorities"])
    return model.Serving(**values)
