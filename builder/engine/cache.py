"""Engines in the cache, by what they are made of: a release that is only served another way builds none.

An engine is kept once it has passed its verification. What is found here is verified again for its release.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Container, Dict, Optional

from builder import hashing, progress
from builder.engine import LOG, Built, Engine
from builder.spec.model import Spec

_KEEP = 2  # of a model
_FACTS = "engine.json"


@dataclass(frozen=True)
class EngineCache:
    """The engines in ``folder``, made by ``engine`` on what ``identity`` describes."""

    folder: Path
    engine: Engine
    identity: Dict[str, Any]

    def build(
        self,
        spec: Spec,
        onnx: Path,
        file: Path,
        work: Path,
        *,
        fresh: bool,
        refused: Container[str] = (),
        before: Callable[[], Optional[int]] = lambda: None,
    ) -> Built:
        """Write the engine of ``onnx`` to ``file``: from the cache, or built.

        Args:
            fresh: build it whatever the cache has.
            refused: sha256 of engines that are not to be taken again.
            before: called before a build; says how busy the GPU is, in percent.

        Raises:
            EngineError: as ``Engine.build``.
        """
        cached = None if fresh else self._place(spec, onnx)
        facts = _intact(cached, self.engine.filename) if cached else None
        if cached is None or facts is None or facts["sha256"] in refused:
            busy = before()
            return replace(self.engine.build(spec, onnx, file, work), gpu_busy_percent=busy)
        began = time.monotonic()
        shutil.copyfile(cached / self.engine.filename, file)
        shutil.copyfile(cached / LOG, work / LOG)
        progress.say(f"{spec.name}: the engine is in the cache (same ONNX file, same command)")
        return Built(
            facts["argv"],
            time.monotonic() - began,
            facts["identity"],
            cached=True,
            gpu_busy_percent=facts["gpu_busy_percent"],
        )

    def keep(self, spec: Spec, onnx: Path, file: Path, work: Path, built: Built) -> None:
        """Keep a verified engine that was built; where there is no room for it, do without."""
        cached = self._place(spec, onnx)
        if cached is None or built.cached:
            return
        fresh = work / "engine-for-the-cache"
        facts = {
            "model": spec.name,
            "argv": built.argv,
            "identity": built.identity,
            "gpu_busy_percent": built.gpu_busy_percent,
            "sha256": hashing.of_path(file),
        }
        try:
            fresh.mkdir()
            shutil.copyfile(file, fresh / self.engine.filename)
            shutil.copyfile(work / LOG, fresh / LOG)
            (fresh / _FACTS).write_text(json.dumps(facts), "utf-8")
            shutil.rmtree(cached, ignore_errors=True)
            fresh.rename(cached)
        except OSError as e:
            shutil.rmtree(fresh, ignore_errors=True)
            progress.say(f"{spec.name}: the engine is not kept in the cache: {e.strerror or e}")
            return
        self._forget_old(spec.name)

    def _place(self, spec: Spec, onnx: Path) -> Optional[Path]:
        """Where the engine of ``onnx`` is kept; None for an engine that takes no building."""
        recipe = self.engine.recipe(spec, onnx)
        if not recipe:
            return None
        gpu = self.identity.get("gpu") or {}
        made_of = {
            "onnx": hashing.of_path(onnx),
            "recipe": recipe,
            "engine": [self.identity["name"], self.identity["version"]],
            "gpu": [gpu.get("name"), gpu.get("compute_capability")],
        }
        # A dot, which no model's name has: never taken for an export.
        return self.folder / f"engine.{hashing.of_json(made_of)[:16]}"

    def _forget_old(self, model: str) -> None:
        mine = [p for p in self.folder.glob("engine.*") if (_facts(p) or {}).get("model", model) == model]
        for old in sorted(mine, key=lambda p: p.stat().st_mtime, reverse=True)[_KEEP:]:
            shutil.rmtree(old, ignore_errors=True)


def _facts(folder: Path) -> Optional[Dict[str, Any]]:
    try:
        data = json.loads((folder / _FACTS).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def _intact(folder: Path, filename: str) -> Optional[Dict[str, Any]]:
    """What is known of a whole cached engine; None where there is none, or a damaged one."""
    facts = _facts(folder)
    try:
        whole = facts is not None and hashing.of_path(folder / filename) == facts["sha256"]
        known = {"argv", "identity", "gpu_busy_percent"} <= set(facts or {}) and (folder / LOG).is_file()
    except (OSError, KeyError):
        return None
    return facts if whole and known else None
