"""A YAML document read with its path at hand, so that every refusal says where, what and what else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Tuple

import yaml

from builder.errors import SpecError


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key written twice (YAML forbids it, PyYAML keeps the last silently)."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> Dict[Any, Any]:
    keys = [loader.construct_object(k, deep=True) for k, _ in node.value]
    for key in keys:
        if keys.count(key) > 1:
            line = node.start_mark.line + 1
            raise yaml.MarkedYAMLError(problem=f'key "{key}" is written twice in the mapping at line {line}')
    return dict(yaml.SafeLoader.construct_mapping(loader, node, deep=True))


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
# YAML 1.2 reads 1e-3 as a number, the YAML 1.1 that PyYAML knows as a word.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


class Node:
    """A value in a YAML file together with its path; each reader returns it checked or raises SpecError."""

    def __init__(self, value: Any, file: Path, path: str = "") -> None:
        self.value = value
        self.file = file
        self.path = path

    @classmethod
    def load(cls, file: Path) -> Node:
        """Parse ``file``; raises SpecError when it is missing or is not YAML."""
        try:
            return cls(yaml.load(file.read_text("utf-8"), _Loader), file)  # noqa: S506  (a SafeLoader)
        except OSError as e:
            raise SpecError(f"{file}: cannot be read: {e.strerror}") from e
        except Exception as e:
            # Not only YAMLError: PyYAML lets out whatever a date of month 13, an int of no digits or a
            # thousand brackets make its constructors run into.
            raise SpecError(f"{file}: is not YAML: {e or type(e).__name__}") from e

    def error(self, allowed: str, remedy: str = "") -> SpecError:
        """The refusal of this value."""
        shown = "nothing" if self.value is None else repr(self.value)
        where = f"{self.file}: {self.path}" if self.path else f"{self.file}"
        return SpecError(f"{where}: found {shown}", expected=allowed, remedy=remedy)

    def mapping(self, *, required: Iterable[str] = (), optional: Iterable[str] = ()) -> Dict[str, Node]:
        """The mapping's entries as nodes; refuses unknown and missing keys."""
        required, optional = list(required), list(optional)
        allowed = ", ".join([*required, *(f"[{k}]" for k in optional)])
        if not isinstance(self.value, dict):
            raise self.error(f"a mapping with the keys {allowed}")
        nodes = {str(k): Node(v, self.file, f"{self.path}.{k}".lstrip(".")) for k, v in self.value.items()}
        for key, node in nodes.items():
            if key not in required and key not in optional:
                raise SpecError(f"{self.file}: {node.path}: unknown key", expected=f"one of {allowed}")
        for key in required:
            if key not in nodes:
                where = f"{self.path}.{key}".lstrip(".")
                raise SpecError(f"{self.file}: {where}: missing", expected=f"keys {allowed}")
        return nodes

    def one_of(self, *keys: str) -> Tuple[str, Node]:
        """A mapping's single entry, whose key must be one of ``keys``."""
        if not isinstance(self.value, dict) or len(self.value) != 1:
            raise self.error(f"exactly one of the keys {', '.join(keys)}")
        return next(iter(self.mapping(optional=keys).items()))

    def items(self) -> List[Node]:
        """A list's entries, at least one."""
        if not isinstance(self.value, list) or not self.value:
            raise self.error("a list with at least one entry")
        return [Node(v, self.file, f"{self.path}[{i}]") for i, v in enumerate(self.value)]

    def text(self, choices: Optional[Iterable[str]] = None) -> str:
        """A string, of ``choices`` when given."""
        if not isinstance(self.value, str) or (choices is not None and self.value not in choices):
            raise self.error("one of " + ", ".join(choices) if choices is not None else "a string")
        return self.value

    def whole(self, low: int, high: int) -> int:
        """An integer in [low, high]; true and false are not numbers here."""
        if isinstance(self.value, bool) or not isinstance(self.value, int) or not low <= self.value <= high:
            raise self.error(f"a whole number from {low} to {high}")
        return self.value

    def number(self, low: float, high: float) -> float:
        """A number in [low, high]."""
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float)):
            raise self.error(f"a number from {low:g} to {high:g}")
        if not low <= self.value <= high:
            raise self.error(f"a number from {low:g} to {high:g}")
        return float(self.value)

    def existing(self, kind: str) -> Path:
        """A path, relative to the YAML file's folder, of an existing ``kind``: "file" or "folder"."""
        allowed = f"an existing {kind}; a relative path starts at the spec's own folder"
        try:
            path = (self.file.parent / self.text()).resolve()
            good = path.is_file() if kind == "file" else path.is_dir()
            what = f"is not a {kind}" if path.exists() else "is not there"
        except (OSError, ValueError, RuntimeError) as e:  # too long, a NUL in it, links that go in circles
            raise self.error(allowed) from e
        if not good:
            raise SpecError(f"{self.file}: {self.path}: {path} {what}", expected=allowed)
        return path
