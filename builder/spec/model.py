"""The model spec, checked: the one place where names, types, shapes and limits are written.

``loader`` makes a ``Spec`` of a YAML file; everything else (trtexec's arguments, ``config.pbtxt``, the
manifest, the smoke test's requests) is derived from it.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from builder.spec.dtypes import DType
from models_volume.preprocessing import Preprocessing


@dataclass(frozen=True)
class Package:
    """A wheel on a package index, and which of its files is meant: a path in it, or a pattern."""

    name: str
    version: str
    sha256: str
    file: str

    def __str__(self) -> str:
        return f"the package {self.name} {self.version}"


@dataclass(frozen=True)
class Weights:
    """Where the weights of an application or architecture come from.

    Attributes:
        kind: "imagenet" (Keras downloads them, or has them), "file", "package" or "untrained".
        seed: of the untrained weights.
    """

    kind: str
    path: Optional[Path] = None
    sha256: Optional[str] = None
    seed: int = 0
    package: Optional[Package] = None


@dataclass(frozen=True)
class Source:
    """What is exported.

    Attributes:
        kind: "application" (a name in keras.applications), "architecture" (a network that we build
            ourselves), "keras" (a .keras file), "saved_model" (a folder) or "onnx" (already exported).
        golden: with "onnx", its golden samples; None has the builder make them.
        signature: of a SavedModel; None means serving_default or the only one.
    """

    kind: str
    name: str
    path: Optional[Path] = None
    sha256: Optional[str] = None
    weights: Optional[Weights] = None
    golden: Optional[Path] = None
    signature: Optional[str] = None


@dataclass(frozen=True)
class Samples:
    """How an input's golden samples are made: "image", "uniform" in [low, high), or a "file" (.npy)."""

    kind: str
    low: float = 0.0
    high: float = 1.0
    path: Optional[Path] = None


@dataclass(frozen=True)
class Range:
    """A free dimension: 1 <= min <= opt <= max."""

    min: int
    opt: int
    max: int


@dataclass(frozen=True)
class Input:
    """An input tensor; ``dims`` leave the batch out, and are -1 where ``ranges``, beside them, has a range.

    ``preprocess_where`` is "graph" (the exported model does it), "client" (whoever sends requests
    does) or "" without preprocessing. ``tensor`` is the name in the source model, where it differs.
    """

    name: str
    dtype: DType
    dims: Tuple[int, ...]
    samples: Samples
    tensor: Optional[str] = None
    preprocessing: Optional[Preprocessing] = None
    preprocess_where: str = ""
    ranges: Tuple[Optional[Range], ...] = ()

    @property
    def free(self) -> bool:
        """Whether requests choose a dimension."""
        return -1 in self.dims

    def shape(self, point: str) -> Tuple[int, ...]:
        """The dims with every free one at its ``point``: "min", "opt" or "max"."""
        if not self.free:
            return self.dims
        return tuple(getattr(r, point) if r else d for d, r in zip(self.dims, self.ranges))

    def ranges_as_json(self) -> List[Optional[Dict[str, int]]]:
        """For each dimension its range, or None for a fixed one."""
        return [dataclasses.asdict(r) if r else None for r in self.ranges]

    def takes(self, shape: Tuple[int, ...]) -> bool:
        """Whether a sample of this shape is within the ranges."""
        low, high = self.shape("min"), self.shape("max")
        return len(shape) == len(low) and all(a <= n <= b for a, n, b in zip(low, shape, high))


@dataclass(frozen=True)
class Output:
    """An output tensor; ``dims`` leave the batch out, and are -1 where the inputs decide.

    ``labels`` is a file with a class name per line.
    """

    name: str
    dtype: DType
    dims: Tuple[int, ...]
    tensor: Optional[str] = None
    labels: Optional[Path] = None

    def takes(self, shape: Tuple[int, ...]) -> bool:
        """Whether an answer may have this shape."""
        return len(shape) == len(self.dims) and all(d in (-1, n) for d, n in zip(self.dims, shape))


@dataclass(frozen=True)
class Batch:
    """The optimization profile: 1 <= min <= opt <= max."""

    min: int
    opt: int
    max: int

    def sizes(self) -> List[int]:
        """The profile's sizes, each once, ascending."""
        return sorted({self.min, self.opt, self.max})


@dataclass(frozen=True)
class QueuePolicy:
    """What happens to requests that wait; 0 is no limit. ``timeout_action`` is "reject" or "delay"."""

    max_queue_size: int
    timeout_us: int
    timeout_action: str
    allow_timeout_override: bool


@dataclass(frozen=True)
class Priorities:
    """Levels of priority, 1 first, and that of a request which names none."""

    levels: int
    default: int


@dataclass(frozen=True)
class Serving:
    """How Triton runs the model: instances by device, the dynamic batcher and the levers of each device.

    Attributes:
        max_queue_delay_us: None means no dynamic batching.
        cpu_threads: onnxruntime's for each instance; 0 shares the cores out.
        cuda_graphs: the batch sizes that are captured, ascending; none for no graphs.
        config: more fields of Triton's ModelConfig, checked.
        named: the keys that the spec itself gives; no part of what is served.
    """

    gpu_instances: int
    cpu_instances: int
    max_queue_delay_us: Optional[int]
    preferred_batch_sizes: Tuple[int, ...]
    warmup: bool
    cpu_threads: int = 0
    cuda_graphs: Tuple[int, ...] = ()
    busy_wait_events: bool = False
    eager_batching: bool = False
    output_copy_stream: bool = False
    preserve_ordering: bool = False
    queue_policy: Optional[QueuePolicy] = None
    priorities: Optional[Priorities] = None
    config: Mapping[str, Any] = field(default_factory=dict, hash=False)
    named: Tuple[str, ...] = field(default=(), compare=False)

    def untouched(self) -> List[str]:
        """The levers that are not pulled: left out of the spec as data, as before there were any."""
        plain = Serving(1, 1, None, (), warmup=False)
        levers = [f.name for f in dataclasses.fields(self) if f.default is not dataclasses.MISSING]
        return [name for name in [*levers, "config"] if getattr(self, name) == getattr(plain, name)]


# The tolerances of parity, where the spec gives none.
TOP1, MAX_ABS = 0.99, 0.05


@dataclass(frozen=True)
class Parity:
    """The gate: how many golden samples from which seed, and the tolerances.

    ``top1`` is the least share of samples whose arg max agrees; ``max_abs`` the largest difference of
    any element, in the output's own unit. With INT8 they are None where the spec leaves them out, until it is
    known what quantizing changed.
    """

    samples: int
    seed: int
    top1: Optional[float]
    max_abs: Optional[float]

    def tolerance(self) -> Dict[str, float]:
        """``top1`` and ``max_abs``; what is left out as without INT8."""
        return {
            "top1": TOP1 if self.top1 is None else self.top1,
            "max_abs": MAX_ABS if self.max_abs is None else self.max_abs,
        }

    def with_int8(self, kept: Optional[float], changed: float, samples: int) -> Parity:
        """What is left out, by what quantizing did to the golden samples: an engine may do twice as much.

        Two implementations of one quantized model round to 8 bits at the same places, but what they round
        differs in the last bits, and each value next to a half falls on the one side or the other: noise of
        the same kind as quantizing made, and about as much. A seeded ResNet50's probabilities moved by 0.21
        when it was quantized, by 0.20 between that model and TensorRT's engine (H200), and by 0.06 with FP32
        sums in another order alone. Twice, because the largest of so many differences is a matter of luck.

        Args:
            kept: the share of samples that kept their best class; None where no output has classes.
            changed: the largest difference of any element. One that is not finite allows nothing more: any
                engine would be right then.
            samples: how many there are.
        """
        allowed = self.tolerance()
        if self.top1 is None and kept is not None:
            allowed["top1"] = min(allowed["top1"], max(0.0, kept - 1 / samples))
        if self.max_abs is None and math.isfinite(changed):
            allowed["max_abs"] = max(allowed["max_abs"], 2 * changed)
        return Parity(self.samples, self.seed, **allowed)


@dataclass(frozen=True)
class Evaluation:
    """Labelled data that a build has to be accurate on.

    Attributes:
        kind: "folder" (of class folders with pictures) or "npz" (arrays).
        metric: "top1" or "top5".
        minimum: the least accuracy, a share; None for no bound of its own.
        max_drop: the most accuracy that may be lost, a share.
        samples: the most that are used; None for all.
    """

    kind: str
    path: Path
    metric: str
    minimum: Optional[float]
    max_drop: float
    samples: Optional[int]


@dataclass(frozen=True)
class Int8Bounds:
    """How far INT8 may be from the source model: see ``quantization.Int8`` for each."""

    min_agreement: float
    min_confident_agreement: float
    min_sqnr_db: float
    samples: int
    min_samples: int
    max_drop: float
    max_left_out: float


@dataclass(frozen=True)
class Quantization:
    """INT8: calibration data, a "folder" of pictures or a "file" of arrays, and what is asked of the result.

    Attributes:
        samples: how many are calibrated on.
        method: "minmax", "entropy" or "percentile".
        seed: of which samples those are.
    """

    kind: str
    path: Path
    samples: int
    method: str
    seed: int
    bounds: Int8Bounds


@dataclass(frozen=True)
class Spec:
    """A checked model spec."""

    file: Path
    name: str
    description: str
    source: Source
    inputs: Tuple[Input, ...]
    outputs: Tuple[Output, ...]
    batch: Batch
    precision: str
    opset: int
    trtexec_args: Tuple[str, ...]
    serving: Serving
    parity: Parity
    evaluation: Optional[Evaluation] = None
    quantization: Optional[Quantization] = None

    @property
    def points(self) -> Tuple[str, ...]:
        """Where in its free dimensions the model is verified: "opt" first, and both ends where it has any."""
        return ("opt", "min", "max") if any(i.free for i in self.inputs) else ("opt",)

    def as_json(self) -> Dict[str, Any]:
        """The spec as plain data, for the fingerprint and the manifest; paths by name, never by place."""

        def plain(value: Any) -> Any:
            if isinstance(value, DType):
                return value.name
            if isinstance(value, Path):
                return value.name
            if dataclasses.is_dataclass(value):
                return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
            if isinstance(value, (list, tuple)):
                return [plain(v) for v in value]
            return value

        data: Dict[str, Any] = plain(self)
        del data["file"]
        data["serving"].pop("named")
        # As before there were such keys: nothing is built anew for it.
        for lever in self.serving.untouched():
            data["serving"].pop(lever, None)
        if self.evaluation is None:
            del data["evaluation"]
        if self.source.weights is not None and self.source.weights.package is None:
            del data["source"]["weights"]["package"]
        if self.quantization is None:
            del data["quantization"]
        return data
