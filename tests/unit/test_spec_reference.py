"""The JSON Schema for editors and docs/spec.md are what the spec's model says, and say what is true."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest
import yaml
from support.stack import ROOT

from builder.spec import reference
from builder.spec.document import Document
from builder.spec.fields import Part
from builder.spec.loader import MODELS, parts_in

SHIPPED = sorted(MODELS.glob("*.yaml"))


def every_part(part: type[Part] = Document) -> list[type[Part]]:
    inner = [p for info in part.model_fields.values() for p in parts_in(info.annotation)]
    return [part, *(q for p in inner for q in every_part(p))]


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json.loads(reference.SCHEMA.read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_schema_is_current() -> None:
    told = json.loads(reference.SCHEMA.read_text("utf-8"))
    assert told == reference.schema(), "run python -m builder.spec.reference"


def test_the_reference_is_current() -> None:
    assert reference.REFERENCE.read_text("utf-8") == reference.reference(), (
        "run python -m builder.spec.reference"
    )


def test_no_default_is_null() -> None:
    """An editor writes defaults, and no key takes null."""

    def nulls(node: Any) -> int:
        if isinstance(node, (dict, list)):
            return sum(nulls(inner) for inner in (node.values() if isinstance(node, dict) else node))
        return node is None

    assert nulls({"key": [{"one": None, "two": 2}, None]}) == 2
    assert nulls(reference.schema()) == 0


@pytest.mark.parametrize("file", SHIPPED, ids=lambda f: f.stem)
def test_a_shipped_spec_validates_against_the_schema(validator: Any, file: Any) -> None:
    validator.validate(yaml.safe_load(file.read_text("utf-8")))


def test_the_readme_s_spec_validates_against_the_schema(validator: Any) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    validator.validate(yaml.safe_load(block))


@pytest.mark.parametrize(
    ("path", "value"),
    [(("inputs", 0, "dtype"), "FP64"), (("batch", "max"), 0), (("surprise",), 1), (("batch", "max"), True),
     (("source",), {"weights": {"files": 1}}), (("description",), None), (("inputs", 0, "dims"), [])],
)  # fmt: skip
def test_an_editor_sees_what_the_builder_refuses(validator: Any, path: Any, value: object) -> None:
    document = yaml.safe_load(SHIPPED[0].read_text("utf-8"))
    here = document
    for step in path[:-1]:
        here = here[step]
    here[path[-1]] = value
    assert not validator.is_valid(document)


def test_every_key_has_its_meaning_its_value_and_its_default_in_the_reference() -> None:
    rows = [line for line in reference.reference().splitlines() if line.startswith("| `")]
    cells = {tuple(c.strip() for c in row.split(" | ")) for row in rows}
    for part in every_part():
        for name, info in part.model_fields.items():
            assert info.description, f"{part.__name__}.{name}"
            (row, *_) = [c for c in cells if c[0] == f"| `{name}`" and info.description in c[3]]
            assert row[1], f"{part.__name__}.{name} has no words for its value"


def test_every_example_of_the_reference_uses_keys_that_there_are() -> None:
    for part in every_part():
        if part is Document:
            continue
        (entry,) = yaml.safe_load(part.example).values()
        entry = entry[0] if isinstance(entry, list) else entry
        assert set(entry) <= set(part.model_fields), part.example
