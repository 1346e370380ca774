"""What a spec says of INT8: the data that ranges are measured on, and how much may be lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field, ValidationInfo, field_validator, model_validator

from builder.spec import model
from builder.spec.fields import AFile, AFolder, Choice, Number, Part, Problem, Whole, left_out, refuse

PRECISIONS = ("fp16", "fp32", "int8", "int8_fp16")
QUANTIZED = ("int8", "int8_fp16")
METHODS = ("minmax", "entropy", "percentile")
# Fewer say little about the range of an activation.
LEAST_SAMPLES = 32


class Calibration(Part):
    """With INT8: data like real requests, on which ranges are measured; the rest of it is held out."""

    example: ClassVar[str] = "calibration: {folder: pictures, samples: 128, method: percentile}"
    folder: AFolder = left_out("A folder of pictures (JPEG, PNG, WebP), in folders of their own or not.")
    file: AFile = left_out(
        "An `.npy` of [N, *dims] in the input's dtype, or an `.npz` with one such array for each input."
    )
    samples: Annotated[int, Whole(LEAST_SAMPLES, 100_000)] = Field(
        default=128, description="How many are calibrated on."
    )
    method: Annotated[str, Choice(METHODS)] = Field(
        default="percentile",
        description="How a range is chosen: all that was seen (minmax), what loses the least information "
        "(entropy), or 99.999 % of it (percentile).",
    )
    seed: Annotated[int, Whole(0, 2**31 - 1)] = Field(default=0, description="Of which samples those are.")

    @field_validator("file")
    @classmethod
    def _arrays(cls, file: Any) -> Any:
        if file.suffix not in (".npy", ".npz"):
            refuse([Problem("a file that ends in .npy or .npz")])
        return file

    @model_validator(mode="after")
    def _one(self) -> Calibration:
        if len({"folder", "file"} & self.model_fields_set) != 1:
            refuse([Problem("exactly one of the keys folder, file")])
        return self


class Int8(Part):
    """With INT8: what is asked of it on held-out samples; of a share, the 95 % interval's lower end."""

    example: ClassVar[str] = "int8: {min_agreement: 0.95, min_sqnr_db: 10, max_drop: 0.01}"
    min_agreement: Annotated[float, Number(0, 1)] = Field(
        default=0.95, description="The least share of samples whose best class is the source model's."
    )
    min_confident_agreement: Annotated[float, Number(0, 1)] = Field(
        default=0.97,
        description="The same of the half that the source model is surest of: its best score is farthest "
        "from the second.",
    )
    min_sqnr_db: Annotated[float, Number(-100, 200)] = Field(
        default=10.0, description="The least signal to quantization noise ratio of every output, in decibels."
    )
    samples: Annotated[int, Whole(1, 100_000)] = Field(
        default=512, description="The most held-out samples of the calibration data that are used."
    )
    min_samples: Annotated[int, Whole(1, 100_000)] = Field(
        default=100,
        description="Fewer held-out samples are refused. They are those of `evaluation`, where the spec has "
        "it, otherwise what calibration left of its data.",
    )
    max_drop: Annotated[float, Number(0, 1)] = Field(
        default=0.01,
        description="What the search for sensitive layers aims at: the most calibration samples, a share, "
        "whose best class changes. Layers are left out of INT8, worst first, until it is reached.",
    )
    max_left_out: Annotated[float, Number(0, 1)] = Field(
        default=0.5, description="The most layers with weights, a share, that may be left out."
    )

    @model_validator(mode="after")
    def _fit(self) -> Int8:
        if self.min_samples > self.samples:
            refuse([Problem(f"at most samples, which is {self.samples}", at=("min_samples",))])
        return self


def left_out_unless_int8() -> Any:
    """The ``calibration`` key: looked at where it is missing, too."""
    return Field(
        default=None,
        validate_default=True,
        description="With INT8: the data that ranges are measured on.",
        json_schema_extra={"x-default": "none; needed with int8 and int8_fp16"},
    )


def check_calibration(value: Any, check: Any, info: ValidationInfo) -> Calibration | None:
    """Whether the calibration data is there exactly where it is needed, and of the right kind."""
    precision, inputs = info.data.get("precision"), info.data.get("inputs")
    if value is None:  # left out
        if precision in QUANTIZED:
            words = f"a mapping, with precision {precision}: {{folder: PICTURES}} or {{file: X.npy}}"
            refuse([Problem(words, found="missing")])
        return None
    calibration: Calibration = check(value)
    if precision is not None and inputs is not None:
        refuse([*_unused(precision), *_kind(calibration, inputs)])
    return calibration


def check_int8(int8: Int8, info: ValidationInfo) -> Int8:
    """Whether there is INT8 to bound."""
    refuse(_unused(info.data.get("precision") or QUANTIZED[0]))
    return int8


def _unused(precision: str) -> list[Problem]:
    return [] if precision in QUANTIZED else [Problem(f"precision {' or '.join(QUANTIZED)} with this key")]


def _kind(calibration: Calibration, inputs: Sequence[Any]) -> list[Problem]:
    if calibration.file is not None:
        if calibration.file.suffix == ".npy" and len(inputs) > 1:
            return [Problem(f"an .npz: the model has {len(inputs)} inputs", at=("file",))]
        return []
    if len(inputs) != 1 or not inputs[0].picture or inputs[0].dtype.name == "INT32":
        return [Problem("file: pictures are for a model with one input [H, W, 1 or 3]", at=("folder",))]
    return []


def checked(calibration: Calibration | None, int8: Int8 | None) -> model.Quantization | None:
    """Both as the builder uses them; None without INT8."""
    if calibration is None:
        return None
    path = calibration.folder or calibration.file
    kind = "folder" if calibration.folder is not None else "file"
    bounds = model.Int8Bounds(**(int8 or Int8()).model_dump())
    return model.Quantization(kind, path, calibration.samples, calibration.method, calibration.seed, bounds)
