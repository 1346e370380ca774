"""What a tuning run has done, on disk: a line of JSON for each step, synced, so that ``--resume`` goes on.

A run is a sequence of steps with names. ``once(name, do)`` does a step and keeps its value; in a run that is
resumed the steps that were done give the value they had. So the same code runs both times, and nothing
but what was measured needs to be kept.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, TypeVar

from ops.errors import OpsError

_Value = TypeVar("_Value")


class Journal:
    """The steps in ``file``.

    Args:
        identity: what the figures belong to (spec, release, machine, options): words to values.
        resume: go on with what is there; False begins anew.

    Raises:
        OpsError: there is nothing to resume, or it belongs to something else.
    """

    def __init__(self, file: Path, identity: Dict[str, Any], *, resume: bool) -> None:
        self._file = file
        self._done: Dict[str, Any] = {}
        self._used = 0.0  # seconds of the sessions before this one
        self._new = 0
        self._began = time.monotonic()
        if resume:
            self._read(identity)
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("", "utf-8")
            self._write({"identity": identity})

    @property
    def resumed(self) -> int:
        """How many steps were there already."""
        return len(self._done)

    @property
    def steps(self) -> int:
        """How many steps are kept."""
        return len(self._done) + self._new

    def used(self) -> float:
        """Seconds that this run has taken, those of earlier sessions included."""
        return self._used + time.monotonic() - self._began

    def known(self, name: str) -> bool:
        """Whether the step was done."""
        return name in self._done

    def once(self, name: str, do: Callable[[], _Value]) -> _Value:
        """The step's value: what ``do`` returns (plain data), or what it returned in an earlier session."""
        if name in self._done:
            value: _Value = self._done[name]
            return value
        value = do()
        self._write({"step": name, "value": value, "used": round(self.used(), 3)})
        self._new += 1
        return value

    def _write(self, line: Dict[str, Any]) -> None:
        with self._file.open("a", encoding="utf-8") as f:
            f.write(json.dumps(line) + "\n")
            f.flush()
            os.fsync(f.fileno())

    def _read(self, identity: Dict[str, Any]) -> None:
        lines = list(_lines(self._file))
        if not lines or "identity" not in lines[0]:
            raise OpsError("there is nothing to resume", remedy="run tune without --resume")
        old = lines[0]["identity"]
        changed = [f"{key}: {old.get(key)} then, {value} now" for key, value in identity.items()
                   if old.get(key) != value]  # fmt: skip
        if changed:
            raise OpsError(
                "what was measured before does not compare with what is here now",
                details="\n".join(changed),
                remedy="run tune without --resume: it begins anew",
            )
        for line in lines[1:]:
            self._done[line["step"]] = line["value"]
            self._used = line["used"]
        whole = "".join(json.dumps(line) + "\n" for line in lines)
        fresh = self._file.with_suffix(".new")
        fresh.write_text(whole, "utf-8")  # without the half line that a kill may have left
        fresh.replace(self._file)


def _lines(file: Path) -> List[Dict[str, Any]]:
    """The file's whole lines; a kill or a full disk may have cut the last one."""
    try:
        texts = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    found = []
    for text in texts:
        try:
            found.append(json.loads(text))
        except ValueError:
            break
    return found


class Clock:
    """The budget: a hard bound in seconds over all sessions of a run."""

    def __init__(self, journal: Journal, seconds: float) -> None:
        self._journal = journal
        self.seconds = seconds

    def left(self) -> float:
        """Seconds until the budget is used up; negative beyond."""
        return self.seconds - self._journal.used()
