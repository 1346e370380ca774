"""The kinds of value a spec is made of: each checks itself and says in words what it allows.

A refusal is a ``PydanticCustomError`` that carries ``Problem`` objects; ``loader`` gives them their place in
the file. Pydantic goes on to the next value after one, so all mistakes of a file are told at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, ValidationError, ValidationInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from builder.spec.dtypes import DTYPES, DType

REFUSED = "refused"


@dataclass(frozen=True)
class Problem:
    """One thing wrong.

    Attributes:
        expected: what is allowed instead.
        at: the way from the value that was checked to the one that is wrong.
        found: words in place of the value itself, where those say more.
    """

    expected: str
    at: tuple[str | int, ...] = ()
    found: str = ""


@dataclass(frozen=True)
class Context:
    """What a check knows beside the value: the spec's own folder, where its relative paths start."""

    folder: Path


class Part(BaseModel):
    """A mapping of the spec. Unknown keys are refused, and no value is converted silently."""

    example: ClassVar[str] = ""  # for the reference
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True)


def refuse(problems: Iterable[Problem]) -> None:
    """Raise the problems, if there are any."""
    listed = list(problems)
    if listed:
        raise PydanticCustomError(REFUSED, "refused", {"problems": listed})


def left_out(description: str, default: str = "") -> Any:
    """A key that may be left out and has no default value of its own; ``default`` says what then happens."""
    return Field(default=None, description=description, json_schema_extra={"x-default": default})


class Value:
    """A single value: ``words`` say what it may be, whatever is wrong with it."""

    words: str

    def _schema(self) -> CoreSchema:
        raise NotImplementedError

    def __get_pydantic_core_schema__(self, _source: Any, _handler: Any) -> CoreSchema:
        """The check, with every failure in our words."""
        return core_schema.no_info_wrap_validator_function(self._check, self._schema())

    def _check(self, value: Any, inner: Any) -> Any:
        try:
            return inner(value)
        except ValidationError:
            refuse([Problem(self.words)])


class Whole(Value):
    """An integer in [low, high]; true and false are not numbers here."""

    def __init__(self, low: int, high: int, more: str = "") -> None:
        self._low, self._high = low, high
        self.words = f"a whole number from {low} to {high}{more}"

    def _schema(self) -> CoreSchema:
        return core_schema.int_schema(strict=True, ge=self._low, le=self._high)


class Sized(Whole):
    """An integer in [low, high], or -1."""

    def _schema(self) -> CoreSchema:
        return core_schema.union_schema([core_schema.literal_schema([-1]), super()._schema()])


class Number(Value):
    """A number in [low, high], never NaN."""

    def __init__(self, low: float, high: float) -> None:
        self._low, self._high = low, high
        self.words = f"a number from {low:g} to {high:g}"

    def _schema(self) -> CoreSchema:
        return core_schema.float_schema(strict=True, ge=self._low, le=self._high, allow_inf_nan=False)


class Text(Value):
    """A string, of this pattern from end to end."""

    def __init__(self, words: str = "a string", pattern: str = "") -> None:
        self._pattern = f"^(?:{pattern})$" if pattern else None
        self.words = words

    def _schema(self) -> CoreSchema:
        return core_schema.str_schema(strict=True, pattern=self._pattern)

    def _check(self, value: Any, inner: Any) -> Any:
        if not isinstance(value, str):
            refuse([Problem("a string")])
        return super()._check(value, inner)


class Choice(Value):
    """One of these; ``words`` where a mapping may stand in its place."""

    def __init__(self, choices: Iterable[Any], words: str = "") -> None:
        self.choices = tuple(choices)
        self.words = words or "one of " + ", ".join(self.choices)

    def _schema(self) -> CoreSchema:
        return core_schema.literal_schema(list(self.choices))


class Flag(Value):
    """True or false; ``words`` where a mapping may stand in its place."""

    def __init__(self, words: str = "true or false") -> None:
        self.words = words

    def _schema(self) -> CoreSchema:
        return core_schema.bool_schema(strict=True)


class Existing:
    """A path, relative to the spec's folder, of an existing ``kind``: "file" or "folder"."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self.words = f"an existing {kind}; a relative path starts at the spec's own folder"

    def __get_pydantic_core_schema__(self, _source: Any, _handler: Any) -> CoreSchema:
        """A string in, an absolute path out."""
        return core_schema.with_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, _handler: Any) -> dict[str, Any]:
        """All that an editor can see."""
        return {"type": "string", "minLength": 1}

    def _check(self, value: Any, info: ValidationInfo) -> Path:
        path, found = Path(), ""
        try:
            assert isinstance(info.context, Context)
            path = (info.context.folder / value).resolve()
            if not (path.is_file() if self._kind == "file" else path.is_dir()):
                found = f"{path} is not a {self._kind}" if path.exists() else f"{path} is not there"
        except (TypeError, OSError, ValueError, RuntimeError):  # no text, too long, a NUL, links in a circle
            refuse([Problem(self.words)])
        refuse([Problem(self.words, found=found)] if found else [])
        return path


class Tensor:
    """The name of a tensor type."""

    words = "one of " + ", ".join(DTYPES)
    # What people write, and what to do instead.
    hints = {
        **dict.fromkeys(
            ("STRING", "BYTES", "TYPE_STRING"),
            "TensorRT has no strings: the client turns text into numbers (INT32 ids) before it asks",
        ),
        **dict.fromkeys(
            ("INT64", "INT16", "INT8", "BOOL"),
            "TensorRT 8.5 takes no such tensor from outside: say INT32 (or UINT8), and the export casts it "
            "to what the model has",
        ),
        "FP64": "TensorRT has no such tensor: say FP32, and the export casts it to what the model has",
    }

    def __get_pydantic_core_schema__(self, _source: Any, _handler: Any) -> CoreSchema:
        """A name in, a DType out."""
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, _handler: Any) -> dict[str, Any]:
        """The names."""
        return {"type": "string", "enum": list(DTYPES)}

    def _check(self, value: Any) -> DType:
        if not isinstance(value, str) or value not in DTYPES:
            hint = self.hints.get(value) if isinstance(value, str) else None
            refuse([Problem(f"{self.words}; {hint}" if hint else self.words)])
        return DTYPES[value]


def either(*, mapping: str = "<mapping>", word: str = "<word>") -> Discriminator:
    """Where a key takes a mapping or a single value. ``loader`` drops these tags from an error's path."""
    return Discriminator(lambda value: mapping if isinstance(value, (dict, BaseModel)) else word)


AnyText = Annotated[str, Text()]
AFile = Annotated[Path, Existing("file")]
AFolder = Annotated[Path, Existing("folder")]
Sha256 = Annotated[str, Text("64 lower-case hexadecimal digits (sha256sum FILE)", "[0-9a-f]{64}")]


def words_of(metadata: Sequence[Any]) -> str:
    """The words of the first kind of value in a field's metadata; empty without one."""
    return next((str(m.words) for m in metadata if hasattr(m, "words")), "")
