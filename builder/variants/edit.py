"""Change keys in the text of a spec and leave the rest of it, comments too, as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from builder.errors import SpecError
from builder.spec import yaml_file

_Edit = tuple[int, int, str]  # from, to (indexes into the text), and what stands there then


def merged(document: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``document`` with ``changes``: mappings are merged, anything else is replaced."""
    result = dict(document)
    for key, value in changes.items():
        old = result.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            result[key] = merged(old, value)
        else:
            result[key] = value
    return result


def edited(text: str, changes: Mapping[str, Any]) -> str:
    """The YAML ``text`` with ``changes`` written into it.

    Raises:
        SpecError: the text is written so that this cannot be done without touching other keys.
    """
    before = yaml_file.parse(text)
    edits: list[_Edit] = []
    root = yaml.compose(text, yaml.SafeLoader)
    if isinstance(root, yaml.MappingNode):
        _merge(text, root, changes, edits, depth=0)
    for start, end, new in sorted(edits, key=lambda e: e[0], reverse=True):
        text = text[:start] + new + text[end:]
    try:
        after = yaml_file.parse(text)
    except yaml.YAMLError:
        after = None
    if after != merged(before, changes):
        raise SpecError(
            "the spec cannot be changed in place: it uses YAML's anchors, or another form that a small edit "
            "would break",
            remedy=f"write it yourself: {_flow(dict(changes))}",
        )
    return text


def _merge(
    text: str, node: yaml.MappingNode, changes: Mapping[str, Any], edits: list[_Edit], *, depth: int
) -> None:
    there = {key.value: (key, value) for key, value in node.value}
    missing = {key: value for key, value in changes.items() if key not in there}
    for key, (name, old) in there.items():
        if key not in changes:
            continue
        new = changes[key]
        if isinstance(old, yaml.MappingNode) and isinstance(new, Mapping) and old.value:
            _merge(text, old, new, edits, depth=depth + 1)
        elif _plain(old) != new:
            # From the colon on: a block that becomes a word moves up to its key.
            start = text.index(":", name.end_mark.index) + 1
            edits.append((start, _end(text, old), f" {_flow(new)}"))
    if not missing:
        return
    if node.flow_style:
        lead = ", " if node.value else ""
        edits.append(
            (
                node.end_mark.index - 1,
                node.end_mark.index - 1,
                lead + ", ".join(f"{key}: {_flow(value)}" for key, value in missing.items()),
            )
        )
        return
    last = _end(text, node)
    stop = text.find("\n", last)
    stop = len(text) if stop < 0 else stop  # behind a comment on that line
    indent = " " * node.start_mark.column
    lines = [line for key, value in missing.items() for line in _block(key, value, indent, depth)]
    edits.append((stop, stop, "".join(f"\n{line}" for line in lines)))


def _block(key: str, value: Any, indent: str, depth: int) -> list[str]:
    """A new key's lines: at the top of the document a mapping gets a line for each of its keys."""
    if depth == 0 and isinstance(value, Mapping) and value:
        return [f"{indent}{key}:", *(f"{indent}  {k}: {_flow(v)}" for k, v in value.items())]
    return [f"{indent}{key}: {_flow(value)}"]


def _end(text: str, node: yaml.Node) -> int:
    """Where a node's own text ends: PyYAML ends a block only where the next thing begins."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(text, last[1] if isinstance(last, tuple) else last)
    end = int(node.end_mark.index)
    return len(text[:end].rstrip()) if end > node.start_mark.index else end


def _plain(node: yaml.Node) -> Any:
    return yaml_file.parse(yaml.serialize(node))


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6)
    return str(text).removesuffix("...\n").strip()
