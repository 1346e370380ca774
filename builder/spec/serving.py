"""``serving``: how Triton runs the model, as a spec writes it.

Every lever's default stands here and nowhere else. What each lever is worth on a GPU is measured in
docs/measurements.md: change a default together with the figures there. The four levers of a GPU are on
together: CUDA graphs alone make one client quicker and cost throughput, all four are better at both ends.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Union

from pydantic import Field, Tag, field_validator, model_validator

from builder.spec import triton_config
from builder.spec.fields import Choice, Flag, Part, Problem, Whole, either, left_out, refuse

MAX_BATCH = 4096
BatchSize = Annotated[int, Whole(1, MAX_BATCH)]
_MAX_US = 10_000_000
_BATCHING = (
    "false, or a mapping with the keys [max_queue_delay_us], [preferred_batch_sizes], [preserve_ordering], "
    "[queue_policy], [priorities]"
)
_GRAPHS = "true, false, or {batch_sizes: [1, 2, 4]}"


class Instances(Part):
    """How many copies of the model run at once, by device."""

    example: ClassVar[str] = "instances: {gpu: 2, cpu: 1}"
    gpu: Annotated[int, Whole(1, 64)] = Field(default=2, description="With TensorRT.")
    cpu: Annotated[int, Whole(1, 64)] = Field(default=1, description="With onnxruntime.")


class CudaGraphs(Part):
    """The batch sizes that Triton captures as CUDA graphs."""

    example: ClassVar[str] = "cuda_graphs: {batch_sizes: [1, 2, 4, 8]}"
    batch_sizes: list[BatchSize] = Field(
        min_length=1,
        description="Sizes up to `batch.max`, each captured when the model loads, free dimensions at their "
        "`opt`. A batch of another size runs without a graph.",
    )


class QueuePolicy(Part):
    """What happens to requests that wait."""

    example: ClassVar[str] = "queue_policy: {max_queue_size: 512, timeout_us: 50000, timeout_action: reject}"
    max_queue_size: Annotated[int, Whole(0, 10_000_000)] = Field(
        default=0, description="The most requests that wait; further ones are refused at once. 0: no limit."
    )
    timeout_us: Annotated[int, Whole(0, 3_600_000_000)] = Field(
        default=0, description="Microseconds that a request may wait before it is late. 0: for ever."
    )
    timeout_action: Annotated[str, Choice(["reject", "delay"])] = Field(
        default="reject", description="A late request is refused, or runs when no other one waits."
    )
    allow_timeout_override: Annotated[bool, Flag()] = Field(
        default=False, description="Whether a request may bring a shorter timeout of its own."
    )

    @model_validator(mode="after")
    def _has_a_timeout(self) -> QueuePolicy:
        if self.timeout_action == "delay" and not self.timeout_us and not self.allow_timeout_override:
            words = "reject, or timeout_us above 0: nothing is ever late without it"
            refuse([Problem(words, at=("timeout_action",))])
        return self


class Priorities(Part):
    """Levels of priority: 1 is served first. A request names its own."""

    example: ClassVar[str] = "priorities: {levels: 2, default: 2}"
    levels: Annotated[int, Whole(1, 1000)] = Field(description="How many levels there are.")
    default: Annotated[int, Whole(1, 1000)] = Field(description="The level of a request that names none.")

    @model_validator(mode="after")
    def _within(self) -> Priorities:
        if self.default > self.levels:
            words = f"a whole number from 1 to {self.levels}, which is levels"
            refuse([Problem(words, at=("default",))])
        return self


class DynamicBatching(Part):
    """How Triton joins requests into batches."""

    example: ClassVar[str] = "dynamic_batching: {max_queue_delay_us: 200}"
    max_queue_delay_us: Annotated[int, Whole(0, _MAX_US)] = Field(
        default=0,
        description="Microseconds that a request may wait for others: fuller batches, later answers.",
    )
    preferred_batch_sizes: list[BatchSize] = Field(
        default=[], min_length=1, description="Sizes that are run at once when reached, up to `batch.max`."
    )
    preserve_ordering: Annotated[bool, Flag()] = Field(
        default=False,
        description="Whether answers leave in the order in which requests came; the slowest instance then "
        "holds up the others.",
    )
    queue_policy: QueuePolicy = left_out(
        "What happens to requests that wait: an overloaded server then refuses early instead of answering "
        "late.",
        "no limit of size or time",
    )
    priorities: Priorities = left_out(
        "Levels of priority, where urgent requests share the model with a bulk of others.", "one level"
    )


class Serving(Part):
    """How Triton runs the model. What the serving device does not have (CUDA on a CPU, threads of
    onnxruntime with TensorRT) is ignored there, and the build says so."""

    example: ClassVar[str] = "serving: {instances: {gpu: 2}, dynamic_batching: false, warmup: true}"
    instances: Instances = Field(default=Instances(), description="Copies of the model, by device.")
    cpu_threads: Annotated[int, Whole(0, 1024)] = Field(
        default=0,
        description="Threads with which onnxruntime runs one request, for each instance. 0: an equal "
        "share of the cores.",
    )
    cuda_graphs: Annotated[
        Union[
            Annotated[bool, Flag(_GRAPHS), Tag("<word>")],
            Annotated[CudaGraphs, Tag("<mapping>")],
        ],
        either(),
    ] = Field(
        default=True,
        description="Launching a whole batch as one CUDA graph instead of kernel by kernel: less latency for "
        "small batches. `true`: powers of two up to `batch.max`, and `batch.max`.",
    )
    busy_wait_events: Annotated[bool, Flag()] = Field(
        default=True,
        description="Waiting for the GPU in a loop instead of asleep: quicker to notice, at the price of a "
        "CPU core for each busy instance.",
    )
    eager_batching: Annotated[bool, Flag()] = Field(
        default=True,
        description="Preparing the next batch while one runs: the GPU idles less under load; batches may be "
        "smaller.",
    )
    output_copy_stream: Annotated[bool, Flag()] = Field(
        default=True,
        description="Copying answers off the GPU on a stream of their own, while the next batch computes.",
    )
    dynamic_batching: Annotated[
        Union[
            Annotated[bool, Choice([False], _BATCHING), Tag("<word>")],
            Annotated[DynamicBatching, Tag("<mapping>")],
        ],
        either(),
    ] = Field(default=DynamicBatching(), description="Joining requests into batches; `false` for none.")
    warmup: Annotated[bool, Flag()] = Field(
        default=True,
        description="Whether Triton runs the model at both ends of the profile, and at each captured size, "
        "when it loads it.",
    )
    config: Annotated[dict[str, Any], triton_config.Fields()] = left_out(
        "Any other field of Triton's model configuration, by protobuf's names (see below).", "nothing more"
    )

    @field_validator("cuda_graphs")
    @classmethod
    def _each_once(cls, graphs: bool | CudaGraphs) -> bool | CudaGraphs:
        if isinstance(graphs, CudaGraphs):
            sizes = graphs.batch_sizes
            refuse(
                Problem("each size once", at=("batch_sizes", i), found=f"{size} is there already")
                for i, size in enumerate(sizes)
                if size in sizes[:i]
            )
        return graphs

    def beyond(self, largest: int) -> list[Problem]:
        """The batch sizes that are larger than ``batch.max``."""
        batching, graphs = self.dynamic_batching, self.cuda_graphs
        lists: list[tuple[str, str, list[int]]] = []
        if isinstance(batching, DynamicBatching):
            lists.append(("dynamic_batching", "preferred_batch_sizes", batching.preferred_batch_sizes))
        if isinstance(graphs, CudaGraphs):
            lists.append(("cuda_graphs", "batch_sizes", graphs.batch_sizes))
        return [
            Problem(f"a whole number from 1 to {largest}, which is batch.max", at=(key, inner, i))
            for key, inner, sizes in lists
            for i, size in enumerate(sizes)
            if size > largest
        ]
