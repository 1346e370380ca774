"""``python -m builder.spec.reference``: write the JSON Schema for editors and the reference in docs.

Both are made of ``document``; a test holds them current.
"""

from __future__ import annotations

import json
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from builder.spec import fields
from builder.spec.document import Document
from builder.spec.fields import Part
from builder.spec.loader import parts_in

SCHEMA = Path(__file__).with_name("schema.json")
REFERENCE = Path(__file__).parents[2] / "docs" / "spec.md"
_HEAD = """# The model spec

A YAML file that describes one model: what is exported, its tensors, its batch sizes, and how exactly the
engine must agree. Paths in it are relative to the file itself. Every mistake in it is reported in one run,
with its place, what was found and what is allowed.

This page and [`builder/spec/schema.json`](../builder/spec/schema.json) are written by
`python -m builder.spec.reference`. Editors that speak JSON Schema (VS Code with the YAML extension, Neovim,
JetBrains) complete and check a spec whose first line names the schema, by path from the spec:

```yaml
# yaml-language-server: $schema=../builder/spec/schema.json
```

The smallest spec, with the defaults for all the rest:

```yaml
name: mine
source: {keras: mine.keras}
inputs: [{name: pixels, dtype: UINT8, dims: [28, 28, 1]}]
outputs: [{name: scores, dtype: FP32, dims: [10]}]
batch: {max: 32}
```
"""
_TAIL = """
## Free dimensions

A dimension that each request chooses, the length of a text or the height of a picture, is a range in the
input's `dims` and -1 in those of the outputs that follow it:

```yaml
inputs: [{name: ids, dtype: INT32, dims: [{min: 4, opt: 64, max: 512}], samples: {uniform: [0, 30000]}}]
outputs: [{name: scores, dtype: FP32, dims: [3]}, {name: tags, dtype: FP32, dims: [-1, 9]}]
```

The model must leave it open (None in Keras). TensorRT's optimization profile spans the range, parity is held
at `opt` and at both ends, and so is the smoke test. All free dimensions are at the same point then, so that
inputs which belong together stay of one size: give those the same range. Triton joins requests of one size
only. The manifest and Triton's model configuration tell the range, and the client refuses what is outside it.
`classify` brings pictures to `opt`; system shared memory and `bench` want fixed dimensions.

## Any field of Triton's model configuration

`serving.config` takes what no key of the spec has: a mapping of fields of Triton's
[ModelConfig](https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto), by the
names of its protobuf message, which checks it when the spec is read:

```yaml
serving:
  config:
    response_cache: {enable: true}
    optimization: {cuda: {graph_spec: [{batch_size: 4, graph_lower_bound: {batch_size: 3}}, {batch_size: 1}]}}
    parameters: {owner: {string_value: vision}}
```

A message is merged into the builder's field by field; a list replaces the builder's; a map's entries are
added to the builder's; a single value replaces it, `false` and 0 too. Fields that other keys decide (`name`,
`input`, `max_batch_size` and such) are refused with the key that does. What only Triton itself can refuse, it
refuses when it loads the release, which then goes back as any other that fails.

## Golden samples

Inputs and the right answers to them: the parity gate, the smoke test and the proof of a redeploy send the
same ones. The export makes them with the source model itself. For a model that is ONNX already, the builder
makes them with onnxruntime; parity then tells how far the engine is from onnxruntime, and nothing of the
model that the ONNX file was made of. `golden` names a file with that model's own answers instead: an `.npz`
as `numpy.savez` writes it, with one array for each tensor of the spec,

| array | shape | dtype |
|---|---|---|
| `input.NAME` | [N, *dims] | the input's |
| `output.NAME` | [N, *dims] | the output's |

with one N, at least 1, for all of them and finite values throughout. A free dimension has its `opt` there, or
any size in its range; `input.NAME@min`, `output.NAME@min`, and the same with `@max`, hold samples at both
ends, which are then verified too:

```python
numpy.savez("golden.npz", **{"input.pixels": pixels, "output.scores": model(pixels)})
```
"""


def schema() -> dict[str, Any]:
    """The JSON Schema of a spec."""
    made = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Document.model_json_schema(),
        "title": "Model spec",
    }
    return dict(_plain(made))


def _plain(node: Any) -> Any:
    """Without what an editor has no use for: titles of single keys, null for a key that may be left out."""
    if isinstance(node, list):
        return [_plain(n) for n in node]
    if not isinstance(node, dict):
        return node
    kept = {k: v for k, v in node.items() if k != "x-default" and not (k == "default" and v is None)}
    if isinstance(kept.get("default"), dict):  # those of a mapping's keys
        kept["default"] = _given(kept["default"])
    if isinstance(kept.get("title"), str) and "$schema" not in kept:
        del kept["title"]
    return {k: _plain(v) for k, v in kept.items()}


def _given(default: dict[str, Any]) -> dict[str, Any]:
    """Without the keys that are left out, at any depth: null is no value that a spec may have."""
    return {k: _given(v) if isinstance(v, dict) else v for k, v in default.items() if v is not None}


def reference() -> str:
    """The reference as Markdown."""
    return _HEAD + "".join(_section(place, part) for place, part in _parts(Document, "")) + _TAIL


def _parts(part: type[Part], place: str) -> list[tuple[str, type[Part]]]:
    """Every mapping with its place, the outer before the inner."""
    found = [(place, part)]
    for name, info in part.model_fields.items():
        mark = "[]" if typing.get_origin(info.annotation) is list else ""
        for inner in parts_in(info.annotation):
            found += _parts(inner, f"{place}.{name}{mark}".lstrip("."))
    return found


def _section(place: str, part: type[Part]) -> str:
    lines = ["", f"## `{place}`" if place else "## All keys", "", (part.__doc__ or "").strip(), ""]
    lines += ["| key | value | default | meaning |", "|---|---|---|---|"]
    for name, info in part.model_fields.items():
        cells = [
            f"`{name}`",
            _kind(info, f"{place}.{name}".lstrip(".")),
            _default(info),
            info.description or "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    if part.example:
        lines += ["", "```yaml", part.example, "```"]
    return "\n".join(lines) + "\n"


def _kind(info: FieldInfo, place: str) -> str:
    """The words for a key's value; a mapping's own section is linked, by the anchor GitHub gives it."""
    own = fields.words_of(info.metadata) or _words(info.annotation)
    if not parts_in(info.annotation):
        return own
    several = typing.get_origin(info.annotation) is list
    place = f"{place}[]" if several else place
    anchor = "".join(c for c in place.lower() if c.isalnum() or c in "_-")
    link = f"[`{place}`](#{anchor})"
    return f"{own}: {link}" if own else f"list of mappings: {link}" if several else f"mapping: {link}"


def _words(annotation: Any) -> str:
    """The words of the first kind of value inside a type."""
    found = fields.words_of(getattr(annotation, "__metadata__", ()))
    inside = found or next((w for a in typing.get_args(annotation) if (w := _words(a))), "")
    return f"list: {inside}" if typing.get_origin(annotation) is list and inside else inside


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "**needed**"
    if info.default is None:
        extra = info.json_schema_extra
        return str(extra["x-default"]) if isinstance(extra, dict) else ""
    if isinstance(info.default, BaseModel):
        return "the defaults of its keys"
    return f"`{json.dumps(info.default)}`"


def main() -> None:
    """Write both."""
    SCHEMA.write_text(json.dumps(schema(), indent=2) + "\n", "utf-8")
    REFERENCE.write_text(reference(), "utf-8")


if __name__ == "__main__":
    main()
