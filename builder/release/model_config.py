"""``config.pbtxt`` from the spec, through Triton's own protobuf message (tritonclient ships it)."""

from __future__ import annotations

import json
from typing import Any, Dict

from google.protobuf import text_format

from builder.engine import Engine
from builder.errors import BuilderError
from builder.release.manifest import labels_name
from builder.spec.model import Spec


def config_pbtxt(spec: Spec, engine: Engine, weights: Dict[str, Any], version: int) -> str:
    """The model configuration as text; every field is known to Triton 2.28.

    Raises:
        BuilderError: tritonclient is not installed.
    """
    try:
        from tritonclient.grpc import model_config_pb2 as pb
    except (ImportError, RuntimeError) as e:  # tritonclient turns a missing grpc into RuntimeError
        raise BuilderError(
            f"tritonclient's model configuration cannot be imported: {e}",
            remedy="pip install --require-hashes -r builder/requirements.txt (tritonclient[grpc] is enough)",
        ) from e
    gpu = engine.name == "tensorrt"
    config = pb.ModelConfig(
        name=spec.name,
        backend=engine.name,
        max_batch_size=spec.batch.max,
        default_model_filename=engine.filename,
    )
    if gpu:
        config.platform = "tensorrt_plan"
    for tensor in spec.inputs:
        config.input.add(name=tensor.name, data_type=_type(pb, tensor.dtype.name), dims=tensor.dims)
    for output in spec.outputs:
        entry = config.output.add(name=output.name, data_type=_type(pb, output.dtype.name), dims=output.dims)
        if output.labels is not None:
            entry.label_filename = labels_name(spec, output.name)
    # A release directory holds one version; "latest" names it whatever its number.
    config.version_policy.latest.num_versions = 1
    group = config.instance_group.add()
    group.kind = pb.ModelInstanceGroup.KIND_GPU if gpu else pb.ModelInstanceGroup.KIND_CPU
    group.count = spec.serving.gpu_instances if gpu else spec.serving.cpu_instances
    # The one GPU that builder and server see (GPU_ID): without it Triton makes instances on every GPU that a
    # server started by other hands can see, and a plan belongs to the kind that built it.
    group.gpus.extend([0] if gpu else [])
    if spec.serving.max_queue_delay_us is not None:
        config.dynamic_batching.max_queue_delay_microseconds = spec.serving.max_queue_delay_us
        config.dynamic_batching.preferred_batch_size.extend(spec.serving.preferred_batch_sizes)
    if spec.serving.warmup:
        _warm_up(pb, config, spec)
    # So that Triton itself tells, at /v2/models/<model>/config: which release's configuration it has
    # loaded (the client compares it with the version that answers), and what its weights are.
    config.parameters["release"].string_value = str(version)
    ranges = {i.name: i.ranges_as_json() for i in spec.inputs if i.free}
    if ranges:
        # Triton knows that a dimension is free, not how far; a client refuses what the engine cannot take.
        config.parameters["ranges"].string_value = json.dumps(ranges)
    config.parameters["weights"].string_value = weights["description"]
    return str(text_format.MessageToString(config))


def _warm_up(pb: Any, config: Any, spec: Spec) -> None:
    # The first request of a shape pays for what the backend sets up lazily; let it be ours.
    for size, point in {spec.batch.min: "min", spec.batch.max: "max"}.items():
        warmup = config.model_warmup.add(name=f"batch {size}", batch_size=size)
        for tensor in spec.inputs:
            entry = warmup.inputs[tensor.name]
            entry.data_type = _type(pb, tensor.dtype.name)
            entry.dims.extend(tensor.shape(point))
            entry.zero_data = True


def _type(pb: Any, name: str) -> int:
    return int(pb.DataType.Value(f"TYPE_{name}"))
