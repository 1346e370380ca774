"""`evaluation:` in a spec: what it means, and what is refused before anything is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from support.pictures import write_colours

from builder.errors import SpecError
from builder.spec import loader, yaml_file
from builder.spec.model import Spec

MakeSpec = Callable[..., Spec]


def test_what_is_left_out_has_a_default(make_spec: MakeSpec, tmp_path: Path) -> None:
    (tmp_path / "data.npz").touch()
    asked = make_spec(evaluation={"npz": "data.npz"}).evaluation
    assert asked is not None
    assert (asked.kind, asked.path, asked.metric) == ("npz", tmp_path / "data.npz", "top1")
    assert (asked.minimum, asked.max_drop, asked.samples) == (None, 0.01, None)
    assert make_spec().evaluation is None


def test_a_spec_without_it_is_what_it_was(make_spec: MakeSpec, tmp_path: Path) -> None:
    """Its releases' fingerprints stay as they are."""
    (tmp_path / "data.npz").touch()
    assert "evaluation" not in make_spec().as_json()
    assert make_spec(evaluation={"npz": "data.npz"}).as_json()["evaluation"]["path"] == "data.npz"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"evaluation": {}}, "evaluation: found {}\n  expected: exactly one of the keys folder, npz"),
        ({"evaluation": {"npz": "d.npz", "folder": "."}}, "exactly one of the keys folder, npz"),
        ({"evaluation": {"npz": "none.npz"}}, "none.npz is not there"),
        ({"evaluation": {"npz": "d.npz", "min": 90}}, "expected: a number from 0 to 1"),
        ({"evaluation": {"npz": "d.npz", "metric": "f1"}}, "expected: one of top1, top5"),
        ({"evaluation": {"folder": "."}}, "npz: the input's dims [4] are not a picture's"),
        ({"evaluation": {"npz": "d.npz", "metric": "top5"}}, "top1: there are only 3 classes"),
        (
            {
                "outputs": [{"name": "y", "dtype": "FP32", "dims": [3, 2]}],
                "evaluation": {"npz": "d.npz"},
            },
            "one output [classes] of scores, or labels on just one of several; 0 outputs here are such",
        ),
        (
            {
                "inputs": [{"name": n, "dtype": "FP32", "dims": [4]} for n in ("a", "b")],
                "evaluation": {"npz": "d.npz"},
            },
            "a model with one input; this one has 2",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_refused(
    make_spec: MakeSpec, tmp_path: Path, keys: dict[str, object], words: str
) -> None:
    (tmp_path / "d.npz").touch()
    with pytest.raises(SpecError) as error:
        make_spec(**keys)
    assert words in str(error.value)


def test_a_folder_may_stand_for_pictures(tmp_path: Path) -> None:

    file = write_colours(tmp_path)
    (tmp_path / "held-out").mkdir()
    file.write_text(yaml.safe_dump({**yaml_file.read(file), "evaluation": {"folder": "held-out"}}))
    asked = loader.load(file).evaluation
    assert asked is not None
    assert asked.kind == "folder"
