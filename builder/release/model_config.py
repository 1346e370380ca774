"""``config.pbtxt`` from the spec, through Triton's own protobuf message (tritonclient ships it)."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Sequence

from google.protobuf import text_format

from builder.engine import Engine
from builder.release.manifest import labels_name
from builder.spec import triton_config
from builder.spec.model import Serving, Spec


def config_pbtxt(spec: Spec, engine: Engine, weights: Dict[str, Any], version: int) -> str:
    """The model configuration as text; every field is known to Triton 2.28.

    Raises:
        BuilderError: tritonclient is not installed.
    """
    pb = triton_config.messages()
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
    _batching(pb, config, spec.serving)
    if gpu:
        _cuda(config, spec.serving)
    if spec.serving.warmup:
        _warm_up(pb, config, spec, spec.serving.cuda_graphs if gpu else ())
    triton_config.merge(dict(spec.serving.config), config)
    # So that Triton itself tells, at /v2/models/<model>/config: which release's configuration it has
    # loaded (the client compares it with the version that answers), and what its weights are.
    config.parameters["release"].string_value = str(version)
    ranges = {i.name: i.ranges_as_json() for i in spec.inputs if i.free}
    if ranges:
        # Triton knows that a dimension is free, not how far; a client refuses what the engine cannot take.
        config.parameters["ranges"].string_value = json.dumps(ranges)
    config.parameters["weights"].string_value = weights["description"]
    if spec.serving.cpu_threads and not gpu:
        # NVIDIA's onnxruntime backend has the same name for it.
        config.parameters["intra_op_thread_count"].string_value = str(spec.serving.cpu_threads)
    return str(text_format.MessageToString(config))


def ignored(spec: Spec, engine: Engine) -> List[str]:
    """The levers of ``serving`` that the spec itself pulls and this engine's server does not have."""
    levers = (
        ["cpu_threads"]
        if engine.name == "tensorrt"
        else ["cuda_graphs", "busy_wait_events", "eager_batching", "output_copy_stream"]
    )
    return [lever for lever in levers if lever in spec.serving.named and getattr(spec.serving, lever)]


def _batching(pb: Any, config: Any, serving: Serving) -> None:
    if serving.max_queue_delay_us is None:
        return
    batching = config.dynamic_batching
    batching.max_queue_delay_microseconds = serving.max_queue_delay_us
    batching.preferred_batch_size.extend(serving.preferred_batch_sizes)
    batching.preserve_ordering = serving.preserve_ordering
    if serving.priorities is not None:
        batching.priority_levels = serving.priorities.levels
        batching.default_priority_level = serving.priorities.default
    if serving.queue_policy is not None:
        policy, given = batching.default_queue_policy, serving.queue_policy
        policy.max_queue_size = given.max_queue_size
        policy.default_timeout_microseconds = given.timeout_us
        policy.timeout_action = getattr(pb.ModelQueuePolicy, given.timeout_action.upper())
        policy.allow_timeout_override = given.allow_timeout_override


def _cuda(config: Any, serving: Serving) -> None:
    """What the TensorRT backend reads; where nothing is asked for, nothing is written."""
    optimization = config.optimization
    if serving.cuda_graphs:
        optimization.cuda.graphs = True
        for size in serving.cuda_graphs:
            # No dims: the backend takes those of the profile's opt, and the batch (r22.11,
            # SetCudaGraphShape). It captures each when it loads the model, not at a request.
            optimization.cuda.graph_spec.add(batch_size=size)
    if serving.busy_wait_events:
        optimization.cuda.busy_wait_events = True
    if serving.output_copy_stream:
        optimization.cuda.output_copy_stream = True
    if serving.eager_batching:
        optimization.eager_batching = True


def _warm_up(pb: Any, config: Any, spec: Spec, graphs: Sequence[int]) -> None:
    # The first request of a shape pays for what the backend sets up lazily; let it be ours.
    runs = {(spec.batch.min, "min"): "", (spec.batch.max, "max"): ""}
    free = any(i.free for i in spec.inputs)
    for size in graphs:
        if free:
            runs[size, "opt"] = " at opt"
        elif size not in (spec.batch.min, spec.batch.max):
            runs[size, "min"] = ""
    for (size, point), where in runs.items():
        warmup = config.model_warmup.add(name=f"batch {size}{where}", batch_size=size)
        for tensor in spec.inputs:
            entry = warmup.inputs[tensor.name]
            entry.data_type = _type(pb, tensor.dtype.name)
            entry.dims.extend(tensor.shape(point))
            entry.zero_data = True


def _type(pb: Any, name: str) -> int:
    return int(pb.DataType.Value(f"TYPE_{name}"))
