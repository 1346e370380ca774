"""What tune tries: every lever that was measured on a GPU, threads and batches on a CPU, each once."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from ops.tune import candidates, outcome
from ops.tune.candidates import Candidate, Present
from ops.tune.judge.statistics import Look, Verdict

LEVERS = (
    "instances", "dynamic_batching", "warmup", "cpu_threads", "cuda_graphs", "busy_wait_events",
    "eager_batching", "output_copy_stream", "config",
)  # fmt: skip
KINDS = ("throughput", "latency", "balanced")


def present(batch: dict[str, int] | None = None, **serving: Any) -> Present:
    """A spec of batch 8/32 with every lever off, and what ``serving`` says."""
    return Present(
        {"min": 1, "opt": 8, "max": 32, **(batch or {})},
        {
            "instances": {"gpu": 2, "cpu": 1},
            "dynamic_batching": {"max_queue_delay_us": 0, "preferred_batch_sizes": []},
            "warmup": True,
            "cpu_threads": None,
            "cuda_graphs": False,
            "busy_wait_events": False,
            "eager_batching": False,
            "output_copy_stream": False,
            **serving,
        },
        LEVERS,
    )


def of_gpu(kind: str) -> list[dict[str, Any]]:
    """The changes of all candidates on a GPU, the present engine and all new ones given."""
    batches = [{}, *candidates.engines(present(), kind)]
    return [c.changes for c in candidates.for_gpu(present(), kind, batches)]


ALL_ON = {
    "cuda_graphs": True, "busy_wait_events": True, "eager_batching": True, "output_copy_stream": True
}  # fmt: skip


@pytest.mark.parametrize("kind", ["throughput", "balanced"])
@pytest.mark.parametrize("instances", [2, 3, 4])
def test_the_levers_that_won_on_a_gpu_are_tried(kind: str, instances: int) -> None:
    serving = {**ALL_ON, **({"instances": {"gpu": instances}} if instances != 2 else {})}
    found = of_gpu(kind)
    assert {"serving": serving} in found
    for batch in ({"opt": 32}, {"opt": 64, "max": 128}):
        assert {"batch": batch, "serving": serving} in found


def test_graphs_alone_are_tried_for_latency() -> None:
    assert {"serving": {"cuda_graphs": True}} in of_gpu("latency")
    assert {"batch": {"opt": 1}, "serving": {"cuda_graphs": True}} in of_gpu("latency")


def test_settings_of_the_server_are_tried_with_the_best() -> None:
    best = Candidate("c03", {"serving": {"cuda_graphs": True}})
    found = candidates.with_settings([best])
    assert {"COPY_THREADS": "4"} in [c.server for c in found]
    assert {"GRPC_ALLOCATION_POOL": "64"} in [c.server for c in found]
    assert all(c.changes == best.changes for c in found)
    assert len({c.name for c in found}) == len(found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("most", [1, 2, 8, 32, 100, 4096])
def test_the_largest_batch_never_shrinks(kind: str, most: int) -> None:
    spec = present({"opt": min(8, most), "max": most})
    engines = candidates.engines(spec, kind)
    found = candidates.for_gpu(spec, kind, [{}, *engines]) + candidates.for_cpu(spec, kind, 4)
    for candidate in found:
        batch = {**spec.batch, **candidate.changes.get("batch", {})}
        assert most <= batch["max"] <= 4096
        assert 1 <= batch["opt"] <= batch["max"]


@pytest.mark.parametrize("kind", KINDS)
def test_no_candidate_is_another_or_the_present_one(kind: str) -> None:
    for found in (of_gpu(kind), [c.changes for c in candidates.for_cpu(present(), kind, 2)]):
        texts = [json.dumps(changes, sort_keys=True) for changes in found]
        assert len(set(texts)) == len(texts)
        assert "{}" not in texts
        assert len(texts) >= 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "serving",
    [
        {"cpu_threads": 1, "dynamic_batching": False},
        {"cpu_threads": 1, "dynamic_batching": {"max_queue_delay_us": 50000, "preferred_batch_sizes": []}},
    ],
    ids=["no batching", "a long delay"],
)
def test_what_is_bad_on_a_cpu_has_a_remedy_among_the_first(kind: str, serving: dict[str, Any]) -> None:
    spec = present({"opt": 1, "max": 1}, **serving)
    first = candidates.for_cpu(spec, kind, 2)[:6]
    changes = [c.changes.get("serving", {}) for c in first]
    assert any(c.get("cpu_threads") == 2 or c.get("instances") == {"cpu": 2} for c in changes)
    wanted = (False, {"max_queue_delay_us": 0})
    assert any(c.get("dynamic_batching") in wanted for c in changes)


def test_a_key_that_this_builder_does_not_know_is_not_tried() -> None:
    spec = Present(present().batch, {"instances": {"gpu": 2, "cpu": 1}}, ("instances", "dynamic_batching"))
    for candidate in candidates.for_gpu(spec, "balanced", [{}]):
        assert set(candidate.changes.get("serving", {})) <= {"instances", "dynamic_batching"}


def test_a_candidate_says_what_differs() -> None:
    changes = {"batch": {"max": 128}, "serving": {"cuda_graphs": True, "instances": {"gpu": 3}}}
    words = Candidate("c01", changes, {"COPY_THREADS": "4"}).words()
    assert words == "batch.max 128, cuda_graphs on, instances.gpu 3, COPY_THREADS=4"
    assert candidates.present().words() == "as it is"


def test_the_table_has_the_best_first_and_marks_the_chosen_one() -> None:
    def look(who: str, rate: float) -> Look:
        return Look(who, 0, 1, {1: {"images_per_s": rate, "p50": 1.0, "p95": 1.0, "p99": 2.0}})

    rows = [
        outcome.row(candidates.present(), "present", [look("present", 100)], None),
        outcome.row(Candidate("c01", {"batch": {"opt": 4}}), "measured", [look("c01", 90)], -0.1),
        outcome.row(
            Candidate("c02", {"batch": {"opt": 2}}), "chosen", [look("c02", r) for r in (1, 2, 3)], 0.5
        ),
        outcome.row(Candidate("c03"), "not measured", [], None, "no time"),
    ]
    assert [line[0] for line in outcome.table(rows)] == ["", "* c02", "= present", "  c01"]
    assert rows[2]["loads"]["1"]["images_per_s"] == 2
    assert rows[2]["ratio"] == pytest.approx(1.6487)
    judged = outcome.judged(Verdict(0.5, 0.01, wins=True, clear=True, blocks=3))
    assert judged["noise"] == pytest.approx(0.0165, abs=1e-4)


def test_the_patch_is_yaml() -> None:
    import yaml

    changes = {"batch": {"max": 128}, "serving": {**ALL_ON, "dynamic_batching": False, "a": [1, 2], "b": "x"}}
    assert yaml.safe_load(outcome.yaml_text(changes)) == changes


def test_int8_is_tried_first_and_with_the_best_batch_sizes_where_there_is_data() -> None:
    int8 = {"precision": "int8_fp16", "calibration": {"folder": "/data"}}
    spec = replace(present(), int8=int8)
    engines = candidates.engines(spec, "throughput")
    others = candidates.engines(present(), "throughput")
    assert engines == [int8, others[0], {**int8, **others[0]}, *others[1:]]
    found = [c.changes for c in candidates.for_gpu(spec, "throughput", [{}, int8])]
    assert {**int8, "serving": ALL_ON} in found
    cpu = [c for c in candidates.for_cpu(spec, "latency", 2) if "precision" in c.changes]
    assert cpu[0].words().startswith("precision int8_fp16")
    assert not any("precision" in c.changes for c in candidates.for_cpu(present(), "latency", 2))
