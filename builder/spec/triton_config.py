"""``serving.config``: fields of Triton's ModelConfig as a spec writes them, checked by the message itself."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from pydantic_core import CoreSchema, core_schema

from builder.errors import BuilderError
from builder.spec.fields import Problem, refuse

_NO_KEY = "the builder sets it by the device and the release, and no key of the spec does"
# What other keys of the spec decide: two places would let them disagree.
_OURS = {
    "name": "name",
    "backend": _NO_KEY,
    "platform": _NO_KEY,
    "runtime": _NO_KEY,
    "default_model_filename": _NO_KEY,
    "version_policy": _NO_KEY,
    "input": "inputs",
    "output": "outputs",
    "max_batch_size": "batch.max",
}
PARAMETERS = {
    "release": _NO_KEY,
    "ranges": "inputs' dims",
    "weights": "source.weights",
    "intra_op_thread_count": "serving.cpu_threads",
}
_WORDS = {
    FieldDescriptor.CPPTYPE_BOOL: "true or false",
    FieldDescriptor.CPPTYPE_STRING: "a string",
    FieldDescriptor.CPPTYPE_FLOAT: "a number",
    FieldDescriptor.CPPTYPE_DOUBLE: "a number",
    FieldDescriptor.CPPTYPE_INT32: "a whole number (int32)",
    FieldDescriptor.CPPTYPE_INT64: "a whole number (int64)",
    FieldDescriptor.CPPTYPE_UINT32: "a whole number from 0 (uint32)",
    FieldDescriptor.CPPTYPE_UINT64: "a whole number from 0 (uint64)",
}


def messages() -> Any:
    """The module of Triton's ModelConfig, which tritonclient ships.

    Raises:
        BuilderError: tritonclient is not installed.
    """
    try:
        from tritonclient.grpc import model_config_pb2
    except (ImportError, RuntimeError) as e:  # tritonclient turns a missing grpc into RuntimeError
        raise BuilderError(
            f"tritonclient's model configuration cannot be imported: {e}",
            remedy="pip install --require-hashes -r builder/requirements.txt (tritonclient[grpc] is enough)",
        ) from e
    return model_config_pb2


def merge(fields: dict[str, Any], config: Any) -> None:
    """Write checked ``fields`` into a ModelConfig.

    A message is merged into ours field by field, a list replaces ours, a map's entries are added to ours and
    a single value replaces ours, also where it is false or 0.
    """
    maps = {f.name for f in config.DESCRIPTOR.fields if _is_map(f)}
    # json_format does just this for messages, lists and values. It empties a map first.
    json_format.ParseDict({k: v for k, v in fields.items() if k not in maps}, config)
    added = json_format.ParseDict({k: v for k, v in fields.items() if k in maps}, type(config)())
    config.MergeFrom(added)


class Fields:
    """A mapping of ModelConfig's fields."""

    words = "a mapping of fields of Triton's ModelConfig"

    def __get_pydantic_core_schema__(self, _source: Any, _handler: Any) -> CoreSchema:
        """The mapping as it is, once it is right."""
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, _handler: Any) -> dict[str, Any]:
        """All that an editor can see."""
        return {"type": "object"}

    def _check(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            refuse([Problem(self.words)])
        message = messages().ModelConfig
        problems = [
            Problem(f"no {name} here: {_instead(_OURS[name])}", at=(name,)) for name in value if name in _OURS
        ]
        parameters = value.get("parameters")
        if isinstance(parameters, dict):
            problems += [
                Problem(f"no {name} here: {_instead(PARAMETERS[name])}", at=("parameters", name))
                for name in parameters
                if name in PARAMETERS
            ]
        problems += _problems(message.DESCRIPTOR, {k: v for k, v in value.items() if k not in _OURS}, ())
        if not problems:
            problems = _whole(value, message)
        refuse(problems)
        return dict(value)


def _instead(key: str) -> str:
    return key if key == _NO_KEY else f"the spec's key {key} decides it"


def _problems(descriptor: Descriptor, value: Any, at: tuple[str | int, ...]) -> list[Problem]:
    """Whatever is wrong in the mapping ``value`` of a message's fields."""
    fields = {f.name: f for f in descriptor.fields}
    if not isinstance(value, dict):
        return [Problem(f"a mapping with the keys {', '.join(f'[{n}]' for n in fields)}", at)]
    found = []
    for name, inner in value.items():
        if name not in fields:
            known = [n for n in fields if at or n not in _OURS]
            found.append(Problem(f"one of {', '.join(known)}", (*at, name), "unknown key"))
        else:
            found += _of_field(fields[name], inner, (*at, name))
    return found


def _of_field(field: FieldDescriptor, value: Any, at: tuple[str | int, ...]) -> list[Problem]:
    if _is_map(field):
        if not isinstance(value, dict):
            return [Problem("a mapping of names of your own", at)]
        entry = field.message_type.fields_by_name["value"]
        return [p for key, inner in value.items() for p in _single(entry, inner, (*at, key))]
    if isinstance(field.default_value, list):  # repeated, in every version of protobuf
        if not isinstance(value, list):
            return [Problem("a list", at)]
        return [p for i, inner in enumerate(value) for p in _single(field, inner, (*at, i))]
    return _single(field, value, at)


def _single(field: FieldDescriptor, value: Any, at: tuple[str | int, ...]) -> list[Problem]:
    if field.message_type is not None:
        return _problems(field.message_type, value, at)
    if field.enum_type is not None:
        names = [v.name for v in field.enum_type.values]
        return [] if value in names else [Problem(f"one of {', '.join(names)}", at)]
    return [] if _fits(field, value) else [Problem(_WORDS.get(field.cpp_type, "another type"), at)]


def _fits(field: FieldDescriptor, value: Any) -> bool:
    """Whether protobuf takes a single value as it is; a number in quotation marks is text here, too."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return isinstance(value, bool)
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return isinstance(value, str)
    if field.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return number
    bits = 32 if field.cpp_type in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32) else 64
    unsigned = field.cpp_type in (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64)
    low, high = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return number and isinstance(value, int) and low <= value <= high


def _whole(value: dict[str, Any], message: Any) -> list[Problem]:
    """What only protobuf itself sees, such as two fields of which a message takes one."""
    try:
        json_format.ParseDict(value, message())
    except json_format.ParseError as e:
        return [Problem(f"what protobuf takes: {e}", found="refused by protobuf")]
    return []


def _is_map(field: FieldDescriptor) -> bool:
    return bool(field.message_type is not None and field.message_type.GetOptions().map_entry)
