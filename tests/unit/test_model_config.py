"""config.pbtxt, parsed back with Triton's own message and held against the spec and a real answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2 as pb

from builder.engine.onnxruntime import OnnxRuntime
from builder.engine.tensorrt import TensorRT
from builder.engine.trtexec import Trtexec
from builder.release import model_config
from builder.spec import loader
from builder.spec.model import Spec

WEIGHTS = {"kind": "imagenet", "untrained": False, "description": 'ImageNet, "from" Keras\\ 3: äöü\n'}


def tensorrt() -> TensorRT:
    return TensorRT("trtexec", Trtexec("8.5.1", frozenset()))


def parsed(s: Spec, engine: Any = None) -> pb.ModelConfig:
    text = model_config.config_pbtxt(s, engine or tensorrt(), WEIGHTS, 7)
    return text_format.Parse(text, pb.ModelConfig())


@pytest.mark.parametrize("name", ["tensorrt_fp16_model", "resnet50", "efficientnet_lite0"])
def test_a_shipped_spec_s_tensors_and_limits_are_in_its_configuration(name: str) -> None:
    s = loader.load(loader.find(name))
    c = parsed(s)
    assert c.name == s.name
    assert c.max_batch_size == s.batch.max
    for side, tensors in ((c.input, s.inputs), (c.output, s.outputs)):
        told = [(t.name, pb.DataType.Name(t.data_type), tuple(t.dims)) for t in side]
        assert told == [(t.name, f"TYPE_{t.dtype.name}", t.dims) for t in tensors]


def test_tensorrt_s_configuration_is_what_a_real_server_answered(sample: Callable[[str], str]) -> None:
    real = json.loads(sample("config.json"))
    ours = json_format.MessageToDict(
        parsed(loader.load(loader.find("resnet50"))), preserving_proto_field_name=True
    )
    for key in ("name", "platform", "backend", "max_batch_size", "default_model_filename", "version_policy"):
        assert ours[key] == real[key], key
    for side in ("input", "output"):
        assert [(t["name"], t["data_type"]) for t in ours[side]] == [
            (t["name"], t["data_type"]) for t in real[side]
        ]
        assert [list(map(int, t["dims"])) for t in ours[side]] == [t["dims"] for t in real[side]]
    assert [(g["kind"], g["count"]) for g in ours["instance_group"]] == [
        (g["kind"], g["count"]) for g in real["instance_group"]
    ]


def test_every_field_is_one_that_triton_2_28_answered_with(sample: Callable[[str], str]) -> None:
    real = json.loads(sample("config.json"))
    ours = json_format.MessageToDict(
        parsed(loader.load(loader.find("resnet50"))), preserving_proto_field_name=True
    )
    assert set(ours) <= set(real)


def test_on_a_cpu_the_backend_is_onnxruntime_and_no_platform_is_named(make_spec: Callable[..., Spec]) -> None:
    c = parsed(make_spec(serving={"instances": {"gpu": 2, "cpu": 3}}), OnnxRuntime())
    assert (c.backend, c.platform, c.default_model_filename) == ("onnxruntime", "", "model.onnx")
    assert [(g.kind, g.count) for g in c.instance_group] == [(pb.ModelInstanceGroup.KIND_CPU, 3)]


def test_the_gpu_s_instances_are_the_spec_s(make_spec: Callable[..., Spec]) -> None:
    c = parsed(make_spec(serving={"instances": {"gpu": 4}}))
    [group] = c.instance_group
    assert (group.kind, group.count) == (pb.ModelInstanceGroup.KIND_GPU, 4)
    assert list(group.gpus) == [0], "the one that CUDA_VISIBLE_DEVICES or the container shows"


def test_dynamic_batching_is_on_unless_the_spec_says_no(make_spec: Callable[..., Spec]) -> None:
    assert parsed(make_spec()).HasField("dynamic_batching")
    assert not parsed(make_spec(serving={"dynamic_batching": False})).HasField("dynamic_batching")


def test_the_queue_s_delay_and_preferred_sizes_are_the_spec_s(make_spec: Callable[..., Spec]) -> None:
    serving = {"dynamic_batching": {"max_queue_delay_us": 500, "preferred_batch_sizes": [4, 8]}}
    batching = parsed(make_spec(serving=serving)).dynamic_batching
    assert batching.max_queue_delay_microseconds == 500
    assert list(batching.preferred_batch_size) == [4, 8]


def test_the_model_is_warmed_up_at_its_smallest_and_largest_batch(make_spec: Callable[..., Spec]) -> None:
    warmups = parsed(make_spec(serving={"cuda_graphs": False})).model_warmup
    assert [w.batch_size for w in warmups] == [1, 8]
    for w in warmups:
        assert set(w.inputs) == {"x"}
        assert (w.inputs["x"].data_type, list(w.inputs["x"].dims)) == (pb.TYPE_FP32, [4])
        assert w.inputs["x"].zero_data


def test_warm_up_can_be_left_out(make_spec: Callable[..., Spec]) -> None:
    assert not parsed(make_spec(serving={"warmup": False})).model_warmup


def test_the_weights_provenance_survives_quoting(make_spec: Callable[..., Spec]) -> None:
    assert parsed(make_spec()).parameters["weights"].string_value == WEIGHTS["description"]


def test_the_configuration_tells_which_release_it_belongs_to(make_spec: Callable[..., Spec]) -> None:
    assert parsed(make_spec()).parameters["release"].string_value == "7"


def test_one_labelled_output_has_labels_txt() -> None:
    s = loader.load(loader.find("resnet50"))
    assert parsed(s).output[0].label_filename == "labels.txt"


def test_several_labelled_outputs_have_a_file_each(make_spec: Callable[..., Spec], tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("a\nb\n")
    s = make_spec(
        outputs=[{"name": n, "dtype": "FP32", "dims": [2], "labels": "l.txt"} for n in ("a/b", "c")]
        + [{"name": "d", "dtype": "FP32", "dims": [2]}]
    )
    assert [o.label_filename for o in parsed(s).output] == ["a_b.labels.txt", "c.labels.txt", ""]
