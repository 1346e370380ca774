"""The files that a spec names: hashed where they lie, and copied, so that what is hashed is what is built."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from builder import hashing
from builder.errors import BuilderError, SourceError
from builder.evaluation import data
from builder.quantize import data as calibration
from builder.release.manifest import CALIBRATION, EVALUATION
from builder.spec.model import Spec


def files(spec: Spec) -> Dict[str, Path]:
    """Every file or folder that the spec names, by what it is to the spec."""
    weights = spec.source.weights
    named: Dict[str, Optional[Path]] = {
        "model": spec.source.path,
        "golden": spec.source.golden,
        "weights": weights.path if weights else None,
    }
    named.update({f"samples of {i.name}": i.samples.path for i in spec.inputs})
    named.update({f"labels of {o.name}": o.labels for o in spec.outputs})
    return {what: path for what, path in named.items() if path is not None}


def hashes(spec: Spec) -> Dict[str, str]:
    """SHA-256 of every file the spec names, and of its labelled data.

    Raises:
        SourceError: the spec's own hash differs.
        EvaluationError: the labelled data cannot be used.
    """
    weights = spec.source.weights
    wanted = {"model": spec.source.sha256, "weights": weights.sha256 if weights else None}
    found = {}
    for what, path in files(spec).items():
        found[what] = hashing.of_path(path)
        if wanted.get(what) not in (None, found[what]):
            raise SourceError(
                f"{spec.file}: {path} has sha256 {found[what]}",
                expected=f"sha256 {wanted[what]}",
                remedy="restore the file the spec means, or write the new hash into the spec",
            )
    if spec.evaluation is not None:
        found[EVALUATION] = data.load(spec).sha256
    if spec.quantization is not None:  # read where it lies: it may be large, and a part of it is used
        found[CALIBRATION] = calibration.sha256(spec)
    return found


class Copies:
    """The spec's files copied into a folder of ours, under their own names.

    What somebody changes or removes during a build is then not half in a release.

    Attributes:
        spec: the spec with the copies in place of the files.
    """

    def __init__(self, spec: Spec, folder: Path) -> None:
        folder.mkdir()
        self._originals: Dict[str, str] = {}
        copies = {}
        for number, (what, path) in enumerate(files(spec).items()):
            place = folder / str(number)
            place.mkdir()
            copies[what] = place / path.name
            if path.is_dir():
                shutil.copytree(path, copies[what])
            else:
                shutil.copyfile(path, copies[what])
            self._originals[str(copies[what])] = str(path)
        self.spec = _with(spec, copies)

    def named(self, error: BuilderError) -> BuilderError:
        """``error`` with the user's own paths in place of our copies'."""
        for copy, original in self._originals.items():
            for key, text in vars(error).items():
                if isinstance(text, str):
                    setattr(error, key, text.replace(copy, original))
        error.args = (error.found,)
        return error


def _with(spec: Spec, copies: Dict[str, Path]) -> Spec:
    def put(thing: Any, **paths: Optional[Path]) -> Any:
        return dataclasses.replace(thing, **{k: v for k, v in paths.items() if v is not None})

    weights = spec.source.weights
    source = put(spec.source, path=copies.get("model"), golden=copies.get("golden"))
    if weights is not None:
        source = dataclasses.replace(source, weights=put(weights, path=copies.get("weights")))
    inputs: Tuple[Any, ...] = tuple(
        put(i, samples=put(i.samples, path=copies.get(f"samples of {i.name}"))) for i in spec.inputs
    )
    outputs: Tuple[Any, ...] = tuple(put(o, labels=copies.get(f"labels of {o.name}")) for o in spec.outputs)
    return dataclasses.replace(spec, source=source, inputs=inputs, outputs=outputs)
