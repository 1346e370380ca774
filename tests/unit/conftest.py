"""What the unit tests share: a good spec to spoil, and a small recorder of what the builder says."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from builder.spec.loader import load
from builder.spec.model import Spec

Write = Callable[..., Path]

GOOD: dict[str, Any] = {
    "name": "m",
    "source": {"onnx": "m.onnx", "golden": "g.npz"},
    "inputs": [{"name": "x", "dtype": "FP32", "dims": [4]}],
    "outputs": [{"name": "y", "dtype": "FP32", "dims": [3]}],
    "batch": {"min": 1, "opt": 4, "max": 8},
}


@pytest.fixture
def document() -> dict[str, Any]:
    """A good spec as data, to be changed at will."""
    return copy.deepcopy(GOOD)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a document (data, or YAML text) beside the files that the good spec names; returns its path."""

    def write(content: object, name: str = "spec.yaml") -> Path:
        for other in ("m.onnx", "g.npz"):
            (tmp_path / other).touch()
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), "utf-8")
        return path

    return write


@pytest.fixture
def make_spec(document: dict[str, Any], write: Write) -> Callable[..., Spec]:
    """A loaded spec: the good one with these keys in place of its own."""

    def make(**keys: object) -> Spec:
        return load(write({**document, **keys}))

    return make
