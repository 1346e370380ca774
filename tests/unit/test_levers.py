"""The levers of `serving`: what the spec takes, what each device makes of them, and what they rebuild."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import text_format
from support.models import write_scale
from tritonclient.grpc import model_config_pb2 as pb

from builder.engine.onnxruntime import OnnxRuntime
from builder.engine.tensorrt import TensorRT
from builder.engine.trtexec import Trtexec
from builder.errors import SpecError
from builder.release import build as pipeline
from builder.release import manifest, model_config
from builder.release.store import Store
from builder.spec import loader
from builder.spec.model import Spec

MakeSpec = Callable[..., Spec]
WEIGHTS = {"kind": "unknown", "untrained": False, "description": "w"}
CUDA: dict[str, Any] = {
    "cuda_graphs": True,
    "busy_wait_events": True,
    "eager_batching": True,
    "output_copy_stream": True,
}
OFF = dict.fromkeys(CUDA, False)


def config(spec: Spec, engine: str = "tensorrt") -> Any:
    made = TensorRT("trtexec", Trtexec("8.5.1", frozenset())) if engine == "tensorrt" else OnnxRuntime()
    return text_format.Parse(model_config.config_pbtxt(spec, made, WEIGHTS, 7), pb.ModelConfig())


def refusal(make_spec: MakeSpec, serving: dict[str, Any]) -> str:
    with pytest.raises(SpecError) as error:
        make_spec(serving=serving)
    return str(error.value)


def test_by_default_the_levers_of_a_gpu_are_on_together(make_spec: MakeSpec) -> None:
    c = config(make_spec())
    assert [g.batch_size for g in c.optimization.cuda.graph_spec] == [1, 2, 4, 8]
    assert c.optimization.cuda.busy_wait_events
    assert c.optimization.cuda.output_copy_stream
    assert c.optimization.eager_batching
    assert text_format.MessageToString(c.dynamic_batching) == ""


def test_what_is_off_is_not_in_the_configuration(make_spec: MakeSpec) -> None:
    assert not config(make_spec(serving=OFF)).HasField("optimization")


def test_graphs_are_captured_at_powers_of_two_and_the_largest_batch(make_spec: MakeSpec) -> None:
    c = config(make_spec(batch={"max": 24}, serving={"cuda_graphs": True}))
    assert c.optimization.cuda.graphs
    assert [g.batch_size for g in c.optimization.cuda.graph_spec] == [1, 2, 4, 8, 16, 24]
    assert not any(g.input for g in c.optimization.cuda.graph_spec), "the backend takes the profile's opt"


def test_graphs_are_captured_at_the_sizes_that_the_spec_names(make_spec: MakeSpec) -> None:
    c = config(make_spec(serving={"cuda_graphs": {"batch_sizes": [8, 3]}}))
    assert [g.batch_size for g in c.optimization.cuda.graph_spec] == [3, 8]


def test_each_captured_size_is_warmed_up_beside_both_ends(make_spec: MakeSpec) -> None:
    warmups = config(make_spec(serving={"cuda_graphs": {"batch_sizes": [1, 3]}})).model_warmup
    assert sorted(w.batch_size for w in warmups) == [1, 3, 8]
    assert len({w.name for w in warmups}) == 3


def test_a_captured_size_is_warmed_up_at_the_free_dimensions_opt(make_spec: MakeSpec) -> None:
    s = make_spec(
        inputs=[{"name": "x", "dtype": "FP32", "dims": [{"min": 2, "opt": 4, "max": 6}]}],
        serving={"cuda_graphs": {"batch_sizes": [1, 8]}},
    )
    runs = [(w.name, w.batch_size, list(w.inputs["x"].dims)) for w in config(s).model_warmup]
    assert runs == [
        ("batch 1", 1, [2]),
        ("batch 8", 8, [6]),
        ("batch 1 at opt", 1, [4]),
        ("batch 8 at opt", 8, [4]),
    ]


@pytest.mark.parametrize("lever", ["busy_wait_events", "output_copy_stream"])
def test_a_lever_of_cuda_is_written_alone(make_spec: MakeSpec, lever: str) -> None:
    c = config(make_spec(serving={**OFF, lever: True}))
    assert {f.name for f, _ in c.optimization.cuda.ListFields()} == {lever}


def test_eager_batching_is_written(make_spec: MakeSpec) -> None:
    assert config(make_spec(serving={"eager_batching": True})).optimization.eager_batching


def test_the_queue_s_policy_is_the_spec_s(make_spec: MakeSpec) -> None:
    policy = {
        "max_queue_size": 64,
        "timeout_us": 2000,
        "timeout_action": "delay",
        "allow_timeout_override": True,
    }
    batching = {"queue_policy": policy, "priorities": {"levels": 3, "default": 2}, "preserve_ordering": True}
    got = config(make_spec(serving={"dynamic_batching": batching})).dynamic_batching
    queue = got.default_queue_policy
    assert (queue.max_queue_size, queue.default_timeout_microseconds) == (64, 2000)
    assert queue.timeout_action == pb.ModelQueuePolicy.DELAY
    assert queue.allow_timeout_override
    assert (got.priority_levels, got.default_priority_level, got.preserve_ordering) == (3, 2, True)


def test_late_requests_are_refused_unless_the_spec_says_otherwise(make_spec: MakeSpec) -> None:
    s = make_spec(serving={"dynamic_batching": {"queue_policy": {"timeout_us": 5}}})
    queue = config(s).dynamic_batching.default_queue_policy
    assert queue.timeout_action == pb.ModelQueuePolicy.REJECT


@pytest.mark.parametrize(
    ("serving", "place", "words"),
    [
        ({"cuda_graphs": {"batch_sizes": [1, 9]}}, "cuda_graphs.batch_sizes[1]", "from 1 to 8, which is"),
        ({"cuda_graphs": {"batch_sizes": []}}, "cuda_graphs.batch_sizes", "at least one entry"),
        ({"cuda_graphs": {"batch_sizes": [2, 2]}}, "cuda_graphs.batch_sizes[1]", "each size once"),
        ({"cuda_graphs": "yes"}, "cuda_graphs", "true, false, or {batch_sizes"),
        ({"cuda_graphs": {}}, "cuda_graphs.batch_sizes", "missing"),
        ({"eager_batching": 1}, "eager_batching", "true or false"),
        ({"cpu_threads": -1}, "cpu_threads", "from 0 to 1024"),
        ({"cpu_threads": True}, "cpu_threads", "whole number"),
        (
            {"dynamic_batching": {"queue_policy": {"timeout_action": "drop"}}},
            "dynamic_batching.queue_policy.timeout_action",
            "reject, delay",
        ),
        (
            {"dynamic_batching": {"queue_policy": {"timeout_action": "delay"}}},
            "dynamic_batching.queue_policy.timeout_action",
            "nothing is ever late",
        ),
        (
            {"dynamic_batching": {"priorities": {"levels": 2, "default": 3}}},
            "dynamic_batching.priorities.default",
            "from 1 to 2",
        ),
        ({"dynamic_batching": {"priorities": {"levels": 2}}}, "priorities.default", "missing"),
    ],
    ids=str,
)
def test_a_wrong_lever_is_refused_with_its_place(
    make_spec: MakeSpec, serving: dict[str, Any], place: str, words: str
) -> None:
    message = refusal(make_spec, serving)
    assert place in message
    assert words in message


def test_fields_of_the_configuration_are_merged_as_protobuf(make_spec: MakeSpec) -> None:
    given = {
        "response_cache": {"enable": True},
        "dynamic_batching": {"preferred_batch_size": [2], "preserve_ordering": False},
        "parameters": {"owner": {"string_value": "vision"}},
        "metric_tags": {"team": "a"},
        "optimization": {"eager_batching": False, "priority": "PRIORITY_MAX"},
    }
    batching = {"max_queue_delay_us": 70, "preferred_batch_sizes": [4, 8], "preserve_ordering": True}
    c = config(
        make_spec(serving={"config": given, "dynamic_batching": batching, "eager_batching": True, **CUDA})
    )
    assert c.response_cache.enable
    assert c.dynamic_batching.max_queue_delay_microseconds == 70, "a message is merged"
    assert list(c.dynamic_batching.preferred_batch_size) == [2], "a list replaces ours"
    assert not c.dynamic_batching.preserve_ordering, "false replaces true"
    assert not c.optimization.eager_batching
    assert c.optimization.cuda.graphs, "what is not named stays"
    assert c.optimization.priority == pb.ModelOptimizationPolicy.PRIORITY_MAX
    assert set(c.parameters) == {"owner", "release", "weights"}, "a map's entries are added"
    assert dict(c.metric_tags) == {"team": "a"}


def test_an_empty_list_takes_ours_away(make_spec: MakeSpec) -> None:
    assert not config(make_spec(serving={"config": {"model_warmup": []}})).model_warmup


@pytest.mark.parametrize(
    ("given", "place", "words"),
    [
        ({"max_batch_size": 4}, "serving.config.max_batch_size", "key batch.max decides it"),
        ({"input": []}, "serving.config.input", "key inputs decides it"),
        ({"backend": "x"}, "serving.config.backend", "the builder sets it"),
        ({"platform": "x"}, "serving.config.platform", "the builder sets it"),
        ({"version_policy": {}}, "serving.config.version_policy", "the builder sets it"),
        ({"parameters": {"release": {}}}, "serving.config.parameters.release", "the builder sets it"),
        (
            {"parameters": {"intra_op_thread_count": {"string_value": "1"}}},
            "serving.config.parameters.intra_op_thread_count",
            "key serving.cpu_threads decides it",
        ),
        ({"optimisation": {}}, "serving.config.optimisation: unknown key", "optimization"),
        (
            {"optimization": {"cuda": {"graph": True}}},
            "serving.config.optimization.cuda.graph: unknown key",
            "graphs",
        ),
        (
            {"optimization": {"cuda": {"graphs": 1}}},
            "serving.config.optimization.cuda.graphs",
            "true or false",
        ),
        ({"optimization": []}, "serving.config.optimization", "a mapping with the keys"),
        ({"instance_group": {}}, "serving.config.instance_group", "a list"),
        ({"instance_group": [{"count": "2"}]}, "serving.config.instance_group[0].count", "int32"),
        ({"instance_group": [{"count": 2**31}]}, "serving.config.instance_group[0].count", "int32"),
        ({"instance_group": [{"kind": "KIND_TPU"}]}, "serving.config.instance_group[0].kind", "KIND_GPU"),
        ({"metric_tags": {"a": 1}}, "serving.config.metric_tags.a", "a string"),
        ({"dynamic_batching": None}, "serving.config.dynamic_batching", "a mapping with the keys"),
        ([1], "serving.config", "a mapping of fields"),
    ],
    ids=str,
)
def test_a_wrong_field_of_the_configuration_is_refused_with_its_place(
    make_spec: MakeSpec, given: Any, place: str, words: str
) -> None:
    message = refusal(make_spec, {"config": given})
    assert place in message
    assert words in message


def test_all_mistakes_in_the_configuration_are_told_at_once(make_spec: MakeSpec) -> None:
    message = refusal(make_spec, {"config": {"name": "x", "foo": 1, "instance_group": 7}})
    assert "3 mistakes" in message


def test_a_cpu_ignores_what_is_cuda_s_and_its_release_is_the_same(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    plain, pulled = make_spec(serving=OFF), make_spec(serving=CUDA)
    assert config(pulled, "onnxruntime") == config(plain, "onnxruntime")
    assert model_config.ignored(pulled, OnnxRuntime()) == list(CUDA)
    assert model_config.ignored(make_spec(), OnnxRuntime()) == [], "nobody asked for them"
    assert fingerprint(pulled, "onnxruntime") == fingerprint(plain, "onnxruntime")
    assert fingerprint(pulled, "tensorrt") != fingerprint(plain, "tensorrt")


def test_a_gpu_ignores_the_cpu_s_threads(make_spec: MakeSpec) -> None:
    plain, pulled = make_spec(), make_spec(serving={"cpu_threads": 3})
    assert fingerprint(pulled, "tensorrt") == fingerprint(plain, "tensorrt")
    assert fingerprint(pulled, "onnxruntime") != fingerprint(plain, "onnxruntime")
    parameter = config(pulled, "onnxruntime").parameters["intra_op_thread_count"]
    assert parameter.string_value == "3"


def fingerprint(spec: Spec, engine: str) -> str:
    identity = {"name": engine, "version": "1", "gpu": None}
    text = text_format.MessageToString(config(spec, engine))
    return manifest.fingerprint(spec, {}, identity, onnx="o", golden="g", recipe=[], config=text)


def test_a_spec_without_levers_reads_as_before_there_were_any(make_spec: MakeSpec) -> None:
    assert set(make_spec(serving=OFF).as_json()["serving"]) == {
        "gpu_instances", "cpu_instances", "max_queue_delay_us", "preferred_batch_sizes", "warmup",
    }  # fmt: skip
    assert make_spec(serving={"cuda_graphs": True}).as_json()["serving"]["cuda_graphs"] == [1, 2, 4, 8]


def test_an_ignored_lever_is_told_once_a_build_and_kept_in_the_manifest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_scale(tmp_path)
    document = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**document, "serving": CUDA}))
    store = Store(tmp_path / "models")
    row = pipeline.build(file, store, "onnxruntime", allow_untrained=False, force=False)
    told = capsys.readouterr().err
    assert told.count("cuda_graphs, busy_wait_events, eager_batching, output_copy_stream") == 1
    assert row["manifest"]["ignored"] == list(CUDA)
    file.write_text(yaml.safe_dump({**document, "serving": {}}))
    again = pipeline.build(file, store, "onnxruntime", allow_untrained=False, force=False)
    assert again["action"] == "unchanged"


def test_a_shipped_spec_has_no_lever_that_it_does_not_name() -> None:
    assert loader.load(loader.find("resnet50")).serving.config == {}
