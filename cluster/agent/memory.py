"""What the agent must still know after a kill: cluster/agent.json on the models volume.

    digests    by model, which local release each digest became
    changing   by model, the change that was begun: {digest, rollout, attempt, version}
    failed     by model, the last change that failed, with its reason

A file that is missing or damaged says nothing: the worst that follows is one more attempt, with its proof.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

_KINDS = ("digests", "changing", "failed")
_KEPT = 50  # digests a model


class Memory:
    """The file; ``trouble`` says why it could not be written last, and is empty when it could."""

    def __init__(self, models_dir: Path) -> None:
        self._file = models_dir / "cluster" / "agent.json"
        self.trouble = ""
        self._data: dict[str, dict[str, Any]] = self._read()

    def digests(self, model: str, version: int | None) -> list[str]:
        """The digests that a local release is known by."""
        known = self._data["digests"].get(model, {})
        return [digest for digest, number in known.items() if number == version]

    def pulled(self, model: str, digest: str, version: int) -> None:
        """A digest became a local release."""
        known = self._data["digests"].setdefault(model, {})
        known.pop(digest, None)
        known[digest] = version
        for old in list(known)[:-_KEPT]:
            del known[old]
        self._write()

    def begin(self, model: str, change: dict[str, Any]) -> None:
        """A release is about to go live."""
        self._data["changing"][model] = change
        self._write()

    def changing(self, model: str) -> dict[str, Any] | None:
        """The change that was begun and not ended, by this process or by one that was killed."""
        found = self._data["changing"].get(model)
        return found if isinstance(found, dict) else None

    def end(self, model: str, failed: dict[str, Any] | None = None) -> None:
        """The change has ended: well, or as ``failed`` {digest, rollout, attempt, reason} says."""
        self._data["changing"].pop(model, None)
        if failed is None:
            self._data["failed"].pop(model, None)
        else:
            self._data["failed"][model] = failed
        self._write()

    def failed(self, model: str) -> dict[str, Any] | None:
        """The last change that failed."""
        found = self._data["failed"].get(model)
        return found if isinstance(found, dict) else None

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            data = json.loads(self._file.read_text("utf-8"))
            kinds = {kind: dict(data[kind]) for kind in _KINDS}
            kinds["digests"] = {m: {str(d): int(n) for d, n in k.items()} for m, k in data["digests"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {kind: {} for kind in _KINDS}
        return kinds

    def _write(self) -> None:
        fresh = self._file.with_name(f".{self._file.name}.new")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with fresh.open("w", encoding="utf-8") as file:
                json.dump({"schema": 1, **self._data}, file)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._file)
            self.trouble = ""
        except OSError as e:  # a full disk: this process still knows, and the next change is written whole
            self.trouble = f"{self._file} cannot be written: {e.strerror or e}"
