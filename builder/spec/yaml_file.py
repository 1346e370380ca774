"""A YAML file as plain data: YAML 1.2's numbers, no key twice, keys as text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from builder.errors import SpecError


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key written twice (YAML forbids it, PyYAML keeps the last silently)."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    keys = [loader.construct_object(k, deep=True) for k, _ in node.value]
    for key in keys:
        if keys.count(key) > 1:
            line = node.start_mark.line + 1
            raise yaml.MarkedYAMLError(problem=f'key "{key}" is written twice in the mapping at line {line}')
    built = yaml.SafeLoader.construct_mapping(loader, node, deep=True)
    return {str(key): value for key, value in built.items()}


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
# YAML 1.2 reads 1e-3 as a number, the YAML 1.1 that PyYAML knows as a word.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def parse(text: str) -> Any:
    """The document in ``text``; raises what PyYAML raises."""
    return yaml.load(text, _Loader)  # noqa: S506  (a SafeLoader)


def read(file: Path) -> Any:
    """The document in ``file``; raises SpecError when it is missing or is not YAML."""
    try:
        return parse(file.read_text("utf-8"))
    except OSError as e:
        raise SpecError(f"{file}: cannot be read: {e.strerror}") from e
    except Exception as e:
        # Not only YAMLError: PyYAML lets out whatever a date of month 13, an int of no digits or a
        # thousand brackets make its constructors run into.
        raise SpecError(f"{file}: is not YAML: {e or type(e).__name__}") from e
