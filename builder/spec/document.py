"""A spec as it is written: every key with its type, default, meaning and example.

``loader`` reads a file with it; the JSON Schema for editors and docs/spec.md are made of it (``reference``).
Checks that need two values stand here too, each as near to them as it can.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, TypeVar, Union

from pydantic import Field, Tag, ValidationInfo, field_validator, model_validator

from builder.spec.dtypes import DType
from builder.spec.fields import (
    AFile,
    AFolder,
    AnyText,
    Choice,
    Flag,
    Number,
    Part,
    Problem,
    Sha256,
    Sized,
    Tensor,
    Text,
    Whole,
    either,
    left_out,
    refuse,
)
from models_volume.preprocessing import MODES

# Both TensorRT 8.5's ONNX parser and tf2onnx 1.16 read and write these (TensorRT 8.5 release notes:
# opset up to 17; tf2onnx names no op set below 13 as supported any more).
OPSETS = (13, 17)
MAX_BATCH = 4096
_MAX_SEED = 2**31 - 1
_MAX_SIDE = 2**16  # beyond any picture's side
# TensorRT's own limits for a tensor are 8 dimensions, one of which is the batch, and 2**31 - 1 elements.
_MAX_RANK = 7
_MAX_ELEMENTS = 2**31 - 1
# A model is a directory of Triton's repository and a symlink of ours: no dots, no slashes.
ModelName = Annotated[
    str,
    Text(
        "1 to 64 letters, digits, _ and -, starting with a letter or digit", "[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
    ),
]
TensorName = Annotated[
    str, Text("letters, digits and _./- (trtexec splits at : and ,)", "[A-Za-z_][A-Za-z0-9_./-]*")
]
Seed = Annotated[int, Whole(0, _MAX_SEED)]
Side = Annotated[int, Whole(1, _MAX_SIDE)]
OutputDim = Annotated[int, Sized(1, _MAX_SIDE, ", or -1: as many as the inputs make it")]
BatchSize = Annotated[int, Whole(1, MAX_BATCH)]
_KINDS = ("application", "keras", "saved_model", "onnx")
# What may stand beside each.
_BESIDE = {
    "application": ["weights"],
    "keras": ["sha256"],
    "saved_model": ["sha256", "signature"],
    "onnx": ["sha256", "golden"],
}
_WEIGHTS = "imagenet, {file: PATH, sha256: HASH} or {untrained: {seed: 0}}"
_BATCHING = "false, or a mapping with the keys [max_queue_delay_us], [preferred_batch_sizes]"
_SAMPLES = "image, {uniform: [LOW, HIGH]} or {file: X.npy}"
# What the spec's other keys say; saying it twice would let the two disagree.
_OURS = (
    "--buildOnly", "--fp16", "--inputIOFormats", "--loadEngine", "--maxShapes", "--minShapes", "--onnx",
    "--optShapes", "--outputIOFormats", "--saveEngine", "--skipInference",
)  # fmt: skip


class Untrained(Part):
    """Random weights, the same at every build."""

    example: ClassVar[str] = "untrained: {seed: 0}"
    seed: Seed = Field(description="Of the random numbers.")


class WeightsFrom(Part):
    """Weights from a file, or none."""

    example: ClassVar[str] = "weights: {file: resnet50.weights.h5, sha256: 9f86d081...}"
    file: AFile = left_out("A weights file that Keras reads for this architecture.")
    sha256: Sha256 = left_out("Of that file; needed with `file`.")
    untrained: Untrained = left_out("No file: random weights, on purpose.")

    @model_validator(mode="after")
    def _one_of_two(self) -> WeightsFrom:
        given = self.model_fields_set
        if given in ({"untrained"}, {"file", "sha256"}):
            return self
        if "untrained" in given or not given:
            refuse([Problem("untrained alone, or file with sha256")])
        missing = "sha256" if "file" in given else "file"
        refuse([Problem("keys file, sha256", at=(missing,), found="missing")])
        return self


Weights = Annotated[
    Union[
        Annotated[str, Choice(["imagenet"], _WEIGHTS), Tag("<word>")],
        Annotated[WeightsFrom, Tag("<mapping>")],
    ],
    either(),
]


class Source(Part):
    """What is exported: exactly one of `application`, `keras`, `saved_model` and `onnx`."""

    example: ClassVar[str] = "source: {keras: mine.keras}"
    application: AnyText = left_out("The name of a model in `keras.applications`; needs `weights`.")
    keras: AFile = left_out("A model that Keras saved whole: `.keras`, or `.h5`.")
    saved_model: AFolder = left_out("A SavedModel's folder, of Keras or of a plain `tf.Module`.")
    onnx: AFile = left_out("An ONNX file; its interface must be the spec's own.")
    sha256: Sha256 = left_out("Of the file or folder; another one is then refused.")
    signature: AnyText = left_out(
        "With `saved_model`: which of its signatures.",
        "`serving_default`, or the only one there is",
    )
    weights: Weights = left_out(f"With `application`: {_WEIGHTS}.")
    golden: AFile = left_out(
        "With `onnx`: golden samples of the model it was exported from, an `.npz` (see below).",
        "made by the builder: seeded inputs and onnxruntime's answers",
    )

    @property
    def kind(self) -> str:
        """The one of the four that is given."""
        return next(k for k in _KINDS if k in self.model_fields_set)

    @field_validator("sha256", "signature", "weights", "golden", mode="before")
    @classmethod
    def _belongs(cls, value: Any, info: ValidationInfo) -> Any:
        """Before a look at the value: a key that has no business here need not be right as well."""
        named = [k for k in _KINDS if info.data.get(k) is not None]
        if len(named) == 1 and info.field_name not in _BESIDE[named[0]]:
            refuse([Problem(f"with {named[0]}, only {' and '.join(_BESIDE[named[0]])} may stand here")])
        return value

    @model_validator(mode="after")
    def _one_source(self) -> Source:
        named = [k for k in _KINDS if k in self.model_fields_set]
        if len(named) != 1:
            refuse([Problem(f"exactly one of the keys {', '.join(_KINDS)}")])
        if named == ["application"] and self.weights is None:
            refuse([Problem(f"weights: {_WEIGHTS}")])
        return self


class SamplesFrom(Part):
    """How golden samples are made, where they are no pictures."""

    example: ClassVar[str] = "samples: {uniform: [0, 30000]}"
    uniform: list[Annotated[float, Number(-65504, 65504)]] = left_out(  # FP16's range
        "Seeded random values in [LOW, HIGH)."
    )
    file: AFile = left_out("An `.npy` of [N, *dims] in the input's dtype; its first rows are taken.")

    @field_validator("uniform")
    @classmethod
    def _ascending(cls, bounds: list[float]) -> list[float]:
        if len(bounds) != 2 or bounds[0] >= bounds[1]:
            refuse([Problem("[LOW, HIGH] with LOW < HIGH")])
        return bounds

    @model_validator(mode="after")
    def _one(self) -> SamplesFrom:
        if len(self.model_fields_set) != 1:
            refuse([Problem("exactly one of the keys uniform, file")])
        return self


Samples = Annotated[
    Union[
        Annotated[str, Choice(["image"], _SAMPLES), Tag("<word>")], Annotated[SamplesFrom, Tag("<mapping>")]
    ],
    either(),
]


class Preprocessing(Part):
    """What turns pixels 0..255 into what the network was trained on: `keras.applications`' modes."""

    example: ClassVar[str] = "preprocessing: {mode: caffe, where: graph}"
    mode: Annotated[str, Choice(MODES)] = Field(
        description="caffe (ResNet, VGG), tf (MobileNet, Inception, Xception), torch (DenseNet), or unit "
        "(0..1, any number of channels)."
    )
    where: Annotated[str, Choice(["graph", "client"])] = Field(
        description="In the exported graph (the request is raw pixels), or by whoever sends requests."
    )


class Range(Part):
    """A free dimension: what TensorRT's optimization profile spans."""

    example: ClassVar[str] = "dims: [{min: 8, opt: 64, max: 512}]"
    min: Side = Field(description="The least that a request may have.")
    opt: Side = Field(
        description="What TensorRT tunes for, golden samples have, and `classify` resizes pictures to."
    )
    max: Side = Field(description="The most that a request may have.")

    @model_validator(mode="after")
    def _ascending(self) -> Range:
        if not self.min <= self.opt <= self.max:
            words = f"min <= opt <= max; this is min {self.min}, opt {self.opt}, max {self.max}"
            refuse([Problem(words)])
        return self


_RANGE = ", or {min: 8, opt: 64, max: 512}: a free dimension"
Dim = Annotated[
    Union[
        Annotated[int, Whole(1, _MAX_SIDE, _RANGE), Tag("<word>")],
        Annotated[Range, Tag("<mapping>")],
    ],
    either(),
]
_Dims = TypeVar("_Dims", bound=Sequence[Union[int, Range]])


def _dims(dims: _Dims) -> _Dims:
    most = math.prod(d.max if isinstance(d, Range) else abs(d) for d in dims)
    if len(dims) > _MAX_RANK or most > _MAX_ELEMENTS:
        refuse([Problem(f"at most {_MAX_RANK} dims, of at most {_MAX_ELEMENTS} elements in all")])
    return dims


class Input(Part):
    """An input tensor."""

    example: ClassVar[str] = "inputs: [{name: pixels, dtype: UINT8, dims: [28, 28, 1]}]"
    name: TensorName = Field(description="What requests call it.")
    dtype: Annotated[DType, Tensor()] = Field(
        description="What requests carry; the export casts it to what the model itself takes. UINT8 pictures "
        "are half the bytes of FP16."
    )
    dims: list[Dim] = Field(
        min_length=1,
        description="The shape without the batch; a dimension that requests choose themselves (a text's "
        "length, a picture's height) is a range.",
    )
    tensor: AnyText = left_out("The source model's own name for it, where that differs.", "`name`")
    preprocessing: Preprocessing = left_out("What is done to pixels before the network.")
    samples: Samples = left_out(
        f"How golden samples are made: {_SAMPLES}.",
        "image for [H, W, 1 or 3]; uniform in [0, 1) for other FP16 and FP32 inputs",
    )

    _check_dims = field_validator("dims")(_dims)

    @property
    def _shown(self) -> str:
        return f"[{', '.join('-1' if isinstance(d, Range) else str(d) for d in self.dims)}]"

    @property
    def picture(self) -> bool:
        """Whether it has a picture's shape."""
        return len(self.dims) == 3 and self.dims[-1] in (1, 3)

    @model_validator(mode="after")
    def _agrees(self) -> Input:
        refuse([*self._preprocessing_problems(), *self._samples_problems()])
        return self

    def _preprocessing_problems(self) -> list[Problem]:
        if self.preprocessing is None:
            return []
        problems = []
        if self.preprocessing.mode != "unit" and self.dims[-1] != 3:
            words = f"unit: dims {self._shown} do not end in the 3 channels this mode needs"
            problems.append(Problem(words, at=("preprocessing", "mode")))
        if self.preprocessing.where == "client" and self.dtype.name not in ("FP16", "FP32"):
            words = f"graph: preprocessed values do not fit in {self.dtype.name}"
            problems.append(Problem(words, at=("preprocessing", "where")))
        return problems

    def _samples_problems(self) -> list[Problem]:
        if self.samples == "image" and not self.picture:
            return [
                Problem(
                    f"uniform or file: dims {self._shown} are not a picture's [H, W, 1 or 3]", ("samples",)
                )
            ]
        bounds = self.samples.uniform if isinstance(self.samples, SamplesFrom) else None
        if bounds and self.dtype.name == "UINT8" and not 0 <= bounds[0] < bounds[1] <= 256:
            return [Problem("bounds within [0, 256] for UINT8", at=("samples", "uniform"))]
        return []


class Output(Part):
    """An output tensor."""

    example: ClassVar[str] = "outputs: [{name: scores, dtype: FP32, dims: [10], labels: labels.txt}]"
    name: TensorName = Field(description="What answers call it.")
    dtype: Annotated[DType, Tensor()] = Field(description="What answers carry.")
    dims: list[OutputDim] = Field(min_length=1, description="The shape without the batch.")
    tensor: AnyText = left_out("The source model's own name for it, where that differs.", "`name`")
    labels: AFile = left_out("A text file in UTF-8 with a class name per line, for one dimension of scores.")

    _check_dims = field_validator("dims")(_dims)

    @model_validator(mode="after")
    def _labels_fit(self) -> Output:
        if self.labels is None:
            return self
        try:
            count = len(self.labels.read_text("utf-8").splitlines())
        except (OSError, ValueError) as e:
            words = f"a text file in UTF-8, a class name per line ({e})"
            refuse([Problem(words, at=("labels",))])
        if self.dims != [count]:
            words = f"one class name per line for dims {self.dims}; it has {count}"
            refuse([Problem(words, at=("labels",))])
        return self


class Batch(Part):
    """The batch sizes of the engine's optimization profile."""

    example: ClassVar[str] = "batch: {min: 1, opt: 8, max: 32}"
    max: BatchSize = Field(description="The most samples that run together; requests with more are refused.")
    # 8 serves single requests and full batches best on the H200 of docs/measurements.md.
    opt: BatchSize = left_out("The size that TensorRT tunes for.", "8, or `max` where that is less")
    min: BatchSize = Field(default=1, description="1: Triton has no lower limit for a batch.")

    @field_validator("min")
    @classmethod
    def _one(cls, low: int) -> int:
        if low != 1:
            refuse(
                [
                    Problem(
                        "1: Triton has no lower limit for a batch, so a smaller request would reach an "
                        "engine that cannot take it"
                    )
                ]
            )
        return low

    @model_validator(mode="after")
    def _ascending(self) -> Batch:
        if self.opt is not None and not self.min <= self.opt <= self.max:
            words = f"1 <= min <= opt <= max; this is min {self.min}, opt {self.opt}, max {self.max}"
            refuse([Problem(words)])
        return self


class Instances(Part):
    """How many copies of the model run at once, by device."""

    example: ClassVar[str] = "instances: {gpu: 2, cpu: 1}"
    gpu: Annotated[int, Whole(1, 64)] = Field(default=2, description="With TensorRT.")
    cpu: Annotated[int, Whole(1, 64)] = Field(default=1, description="With onnxruntime.")


class DynamicBatching(Part):
    """How Triton joins requests into batches."""

    example: ClassVar[str] = "dynamic_batching: {max_queue_delay_us: 200}"
    max_queue_delay_us: Annotated[int, Whole(0, 10_000_000)] = Field(
        default=0, description="Microseconds that a request may wait for others."
    )
    preferred_batch_sizes: list[BatchSize] = Field(
        default=[], min_length=1, description="Sizes that are run at once when reached, up to `batch.max`."
    )


class Serving(Part):
    """How Triton runs the model."""

    example: ClassVar[str] = "serving: {instances: {gpu: 2}, dynamic_batching: false, warmup: true}"
    instances: Instances = Field(default=Instances(), description="Copies of the model, by device.")
    dynamic_batching: Annotated[
        Union[
            Annotated[bool, Choice([False], _BATCHING), Tag("<word>")],
            Annotated[DynamicBatching, Tag("<mapping>")],
        ],
        either(),
    ] = Field(default=DynamicBatching(), description="Joining requests into batches; `false` for none.")
    warmup: Annotated[bool, Flag()] = Field(
        default=True,
        description="Whether Triton runs the model at both ends of the profile when it loads it.",
    )


class Parity(Part):
    """The gate: how far the engine's answers may be from the source model's on the golden samples."""

    example: ClassVar[str] = "parity: {samples: 16, seed: 0, top1: 0.99, max_abs: 0.05}"
    samples: Annotated[int, Whole(1, 1024)] = Field(default=16, description="How many golden samples.")
    seed: Seed = Field(default=0, description="Of the samples.")
    top1: Annotated[float, Number(0, 1)] = Field(
        default=0.99, description="The least share of samples whose best class agrees."
    )
    max_abs: Annotated[float, Number(0, 1e9)] = Field(
        default=0.05, description="The largest difference of any element, in the output's own unit."
    )


class _Argument(Text):
    """An option of trtexec that the spec has no key for."""

    def __init__(self) -> None:
        super().__init__(f"--option or --option=value, and none of {', '.join(_OURS)}")

    def _check(self, value: Any, inner: Any) -> Any:
        checked = super()._check(value, inner)
        if not checked.startswith("--") or checked.split("=")[0] in _OURS:
            refuse([Problem(self.words)])
        return checked


class Document(Part):
    """A model spec."""

    name: ModelName = Field(description="The model's name on the server.")
    source: Source = Field(description="What is exported.")
    inputs: list[Input] = Field(min_length=1, description="The input tensors.")
    outputs: list[Output] = Field(min_length=1, description="The output tensors, in any order.")
    batch: Batch = Field(description="The batch sizes.")
    description: AnyText = Field(default="", description="A line for people.")
    precision: Annotated[str, Choice(["fp16", "fp32"])] = Field(
        default="fp16", description="What TensorRT may compute in. onnxruntime computes as the model says."
    )
    opset: Annotated[int, Whole(*OPSETS)] = Field(default=15, description="The ONNX op set that is exported.")
    trtexec_args: list[Annotated[str, _Argument()]] = Field(
        default=[],
        min_length=1,
        description="More arguments for trtexec, such as `--sparsity=enable`.",
    )
    serving: Serving = Field(default=Serving(), description="How Triton runs it.")
    parity: Parity = Field(default=Parity(), description="How exactly the engine has to agree.")

    @field_validator("inputs")
    @classmethod
    def _inputs_agree(cls, inputs: list[Input], info: ValidationInfo) -> list[Input]:
        source = info.data.get("source")
        problems = _twice([i.name for i in inputs], [])
        for number, tensor in enumerate(inputs):
            problems += _ignored(number, tensor, source)
            if tensor.samples is None and _needs_samples(tensor, source):
                words = "samples: {uniform: [LOW, HIGH]} or {file: X.npy}; only pictures have a default"
                problems.append(Problem(words, at=(number,)))
        refuse(problems)
        return inputs

    @field_validator("outputs")
    @classmethod
    def _outputs_agree(cls, outputs: list[Output], info: ValidationInfo) -> list[Output]:
        problems = _twice([o.name for o in outputs], [i.name for i in info.data.get("inputs") or []])
        inputs = info.data.get("inputs")
        free = inputs is None or any(isinstance(d, Range) for i in inputs for d in i.dims)
        for number, tensor in enumerate(outputs):
            problems += _ignored(number, tensor, info.data.get("source"))
            if -1 in tensor.dims and not free:
                words = "fixed dims: no input has a free dimension that this one could follow"
                problems.append(Problem(words, at=(number, "dims")))
        refuse(problems)
        return outputs

    @field_validator("serving")
    @classmethod
    def _serving_agrees(cls, serving: Serving, info: ValidationInfo) -> Serving:
        batch, batching = info.data.get("batch"), serving.dynamic_batching
        if batch is not None and isinstance(batching, DynamicBatching):
            at = ("dynamic_batching", "preferred_batch_sizes")
            refuse(
                Problem(f"a whole number from 1 to {batch.max}, which is batch.max", at=(*at, i))
                for i, size in enumerate(batching.preferred_batch_sizes)
                if size > batch.max
            )
        return serving


def _twice(names: list[str], others: list[str]) -> list[Problem]:
    return [
        Problem("a name of its own for each", at=(i, "name"), found=f'two tensors are called "{name}"')
        for i, name in enumerate(names)
        if name in names[:i] or name in others
    ]


def _ignored(number: int, tensor: Input | Output, source: Source | None) -> list[Problem]:
    """What only an export can do, in the spec of a model that is exported already."""
    if source is None or source.kind != "onnx":
        return []
    problems = []
    if tensor.tensor is not None and tensor.tensor != tensor.name:
        words = "no `tensor` with an ONNX source: `name` is the ONNX file's own name of the tensor"
        problems.append(Problem(words, at=(number, "tensor")))
    pre = tensor.preprocessing if isinstance(tensor, Input) else None
    # With golden samples, as `builder export` wrote them once, "graph" is a statement that they prove.
    if pre is not None and pre.where == "graph" and source.golden is None:
        words = (
            "client; or no `preprocessing`, where the ONNX graph does it already: nothing is added to a "
            "graph that is exported already"
        )
        problems.append(Problem(words, at=(number, "preprocessing", "where")))
    return problems


def _needs_samples(tensor: Input, source: Source | None) -> bool:
    if source is None or (source.kind == "onnx" and source.golden is not None):
        return False  # what is exported has its samples with it
    if tensor.picture and tensor.dtype.name != "INT32":
        return False
    return tensor.dtype.name not in ("FP16", "FP32")
