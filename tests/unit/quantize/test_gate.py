"""The bounds of INT8, on answers made up for them, and the order in which layers are left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builder.quantize import agreement, gate
from builder.quantize.agreement import Figures
from builder.quantize.data import Samples
from builder.quantize.sensitivity import Layer, Search
from builder.quantize.sites import Site
from builder.spec.model import Spec

MakeSpec = Callable[..., Spec]


def scores(count: int = 400) -> np.ndarray:
    return np.random.default_rng(2).dirichlet(np.ones(3) * 0.3, count).astype(np.float32)


def other_class(array: np.ndarray, rows: Any) -> np.ndarray:
    """With the two best classes of these rows in each other's place."""
    changed = array.copy()
    for row in rows:
        second, best = np.argsort(array[row])[-2:]
        changed[row, [second, best]] = array[row, [best, second]]
    return changed


def judged(
    make_spec: MakeSpec, tmp_path: Path, reference: Any, found: Any, **keys: Any
) -> dict[str, gate.Check]:
    (tmp_path / "x.npy").touch()
    (tmp_path / "e.npz").touch()
    spec = make_spec(precision="int8", calibration={"file": "x.npy"}, **keys)
    count = len(next(iter(reference.values())))
    labels = reference["y"].argmax(axis=1) if "evaluation" in keys else None
    held_out = Samples(tuple(map(str, range(count))), lambda _start, _stop: {}, labels)
    return {c.what: c for c in gate.checks(spec, reference, found, held_out)}


def test_each_output_is_held_to_each_bound(make_spec: MakeSpec, tmp_path: Path) -> None:
    reference = {"y": scores()}
    found = judged(make_spec, tmp_path, reference, {"y": reference["y"] + np.float32(1e-4)})
    assert list(found) == ["y: SQNR", "y: agreement with FP32", "y: agreement where FP32 is confident"]
    assert all(check.passed for check in found.values())


def test_a_share_is_held_to_its_interval(make_spec: MakeSpec, tmp_path: Path) -> None:
    reference = {"y": scores()}
    moved = {"y": other_class(reference["y"], range(10))}  # 97.5 %, and down to 95.5 % in the interval
    for least, passed in ((0.95, True), (0.96, False)):
        checks = judged(make_spec, tmp_path, reference, moved, int8={"min_agreement": least})
        check = checks["y: agreement with FP32"]
        assert (check.passed, check.data["agreement"]) == (passed, 0.975)
    assert "400 samples are too few to show it; about" in check.hint
    check = judged(make_spec, tmp_path, reference, moved, int8={"min_agreement": 0.99})[
        "y: agreement with FP32"
    ]
    assert (check.passed, check.hint) == (False, ""), "more samples would not help"


def test_noise_is_held_to_its_bound(make_spec: MakeSpec, tmp_path: Path) -> None:
    reference = {"y": scores()}
    found = judged(make_spec, tmp_path, reference, {"y": reference["y"] * np.float32(0.5)})
    assert found["y: SQNR"].data["sqnr_db"] == pytest.approx(6.02, abs=0.01)
    assert not found["y: SQNR"].passed
    assert found["y: agreement with FP32"].passed


def test_class_numbers_have_to_be_equal_and_have_no_noise(make_spec: MakeSpec, tmp_path: Path) -> None:
    reference = {"y": scores(), "best": scores().argmax(axis=1).astype(np.int32)[:, None]}
    moved = {"y": reference["y"], "best": reference["best"].copy()}
    moved["best"][:40] += 1
    outputs = [{"name": "y", "dtype": "FP32", "dims": [3]}, {"name": "best", "dtype": "INT32", "dims": [1]}]
    found = judged(make_spec, tmp_path, reference, moved, outputs=outputs)
    assert [what for what in found if what.startswith("best")] == ["best: agreement with FP32"]
    assert found["best: agreement with FP32"].data["agreement"] == 0.9
    assert agreement.compare(reference, moved) == Figures(0.9, 200.0)


def test_the_confident_half_is_the_one_with_the_larger_lead(make_spec: MakeSpec, tmp_path: Path) -> None:
    sure = np.tile(np.array([[0.9, 0.05, 0.05]], np.float32), (200, 1))
    unsure = np.tile(np.array([[0.4, 0.35, 0.25]], np.float32), (200, 1))
    reference = {"y": np.concatenate([unsure, sure])}
    moved = {"y": other_class(reference["y"], range(20))}
    found = judged(make_spec, tmp_path, reference, moved, int8={"min_agreement": 0.9})
    assert found["y: agreement with FP32"].data["agreement"] == 0.95
    assert found["y: agreement where FP32 is confident"].data["agreement"] == 1.0


def test_accuracy_is_held_where_labels_are_given(make_spec: MakeSpec, tmp_path: Path) -> None:
    reference = {"y": scores()}
    moved = {"y": other_class(reference["y"], range(10))}
    for allowed, passed in ((0.05, True), (0.03, False)):
        keys = {"evaluation": {"npz": "e.npz", "max_drop": allowed}}
        (check,) = [
            c for w, c in judged(make_spec, tmp_path, reference, moved, **keys).items() if "drop" in w
        ]
        assert (check.passed, check.data["lost"]) == (passed, 10)


class Scripted(Search):
    """A search whose figures are given: each layer has its own, and together the worst one rules."""

    def __init__(self, cost: dict[str, float]) -> None:
        self._sites = [Site(name, "Conv", name) for name in cost]
        self._cost = cost
        self.asked = 0

    def _figures(self, sites: Any, most: int | None = None) -> Figures:
        self.asked += 1
        return Figures(None, min((self._cost[s.name] for s in sites), default=200.0))


COST = {f"layer{n:02}": float(n) for n in (7, 3, 31, 1, 12, 25, 18, 2, 40, 9)}


def test_as_few_layers_are_left_out_as_are_enough(tmp_path: Path) -> None:
    search = Scripted(COST)
    plan = search.run(1.0, 10.0, 9)
    left = [layer.name for layer in plan.layers if layer.left_out]
    assert left == ["layer01", "layer02", "layer03", "layer07", "layer09"]
    assert (plan.enough, plan.chosen.sqnr_db, plan.plain.sqnr_db) == (True, 12.0, 1.0)
    assert sorted(s.name for s in plan.sites) == ["layer12", "layer18", "layer25", "layer31", "layer40"]
    assert search.asked <= 1 + len(COST) + 5, "a bisection"


def test_nothing_is_left_out_where_that_is_enough() -> None:
    plan = Scripted(COST).run(1.0, 0.5, 9)
    assert (plan.enough, any(layer.left_out for layer in plan.layers)) == (True, False)
    assert [layer.alone.sqnr_db for layer in plan.layers] == sorted(COST.values())


def test_no_more_layers_are_left_out_than_allowed() -> None:
    plan = Scripted(COST).run(1.0, 10.0, 4)
    assert (plan.enough, sum(layer.left_out for layer in plan.layers)) == (False, 4)


def test_equal_layers_keep_the_graph_s_order() -> None:
    plan = Scripted(dict.fromkeys(("b", "a", "c"), 5.0)).run(1.0, 10.0, 1)
    assert plan.layers[0] == Layer("b", "Conv", Figures(None, 5.0), left_out=True)
