"""`calibration:` and `int8:` in a spec: what they mean, and what is refused before anything is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder.errors import SpecError
from builder.spec.model import Spec

MakeSpec = Callable[..., Spec]


def test_what_is_left_out_has_a_default(make_spec: MakeSpec, tmp_path: Path) -> None:
    (tmp_path / "x.npy").touch()
    asked = make_spec(precision="int8", calibration={"file": "x.npy"}).quantization
    assert asked is not None
    assert (asked.kind, asked.path, asked.samples, asked.seed) == ("file", tmp_path / "x.npy", 128, 0)
    assert (asked.bounds.min_agreement, asked.bounds.max_drop, asked.bounds.min_samples) == (0.95, 0.01, 100)


def test_a_spec_without_int8_is_what_it_was(make_spec: MakeSpec, tmp_path: Path) -> None:
    """Its releases' fingerprints stay as they are."""
    (tmp_path / "x.npy").touch()
    assert make_spec().quantization is None
    assert "quantization" not in make_spec().as_json()
    told = make_spec(precision="int8_fp16", calibration={"file": "x.npy"}).as_json()
    assert told["quantization"]["path"] == "x.npy"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"precision": "int8"}, "calibration: missing\n  expected: a mapping, with precision int8"),
        ({"precision": "int8_fp16"}, "calibration: missing"),
        ({"calibration": {"file": "x.npy"}}, "expected: precision int8 or int8_fp16 with this key"),
        ({"int8": {"max_drop": 0.1}}, "expected: precision int8 or int8_fp16 with this key"),
        ({"precision": "int8", "calibration": {}}, "exactly one of the keys folder, file"),
        ({"precision": "int8", "calibration": {"file": "x.npy", "folder": "."}}, "exactly one of the keys"),
        ({"precision": "int8", "calibration": {"file": "none.npy"}}, "none.npy is not there"),
        ({"precision": "int8", "calibration": {"file": "m.onnx"}}, "a file that ends in .npy or .npz"),
        ({"precision": "int8", "calibration": {"folder": "."}}, "one input [H, W, 1 or 3]"),
        ({"precision": "int8", "calibration": {"file": "x.npy", "samples": 8}}, "from 32 to 100000"),
        (
            {"precision": "int8", "calibration": {"file": "x.npy", "method": "kl"}},
            "minmax, entropy, percentile",
        ),
        (
            {"precision": "int8", "calibration": {"file": "x.npy"}, "int8": {"samples": 50}},
            "at most samples, which is 50",
        ),
        ({"precision": "fp16", "trtexec_args": ["--best"]}, "none of --best"),
    ],
)
def test_what_makes_no_sense_is_refused(
    make_spec: MakeSpec, tmp_path: Path, keys: dict[str, Any], words: str
) -> None:
    (tmp_path / "x.npy").touch()
    with pytest.raises(SpecError) as e:
        make_spec(**keys)
    assert words in str(e.value)


def test_several_inputs_want_an_npz(make_spec: MakeSpec, tmp_path: Path) -> None:
    (tmp_path / "x.npy").touch()
    two = [{"name": n, "dtype": "FP32", "dims": [4]} for n in ("a", "b")]
    with pytest.raises(SpecError, match=r"an \.npz: the model has 2 inputs"):
        make_spec(inputs=two, precision="int8", calibration={"file": "x.npy"})
