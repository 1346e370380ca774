"""The releases on the models volume as metrics: what is live, since when, and whether the server has it."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, List, Set, Tuple

from models_volume import manifest, readiness
from models_volume.errors import VolumeError
from models_volume.layout import MANIFEST, Volume
from monitoring.exporter import changes
from monitoring.exporter.exposition import Family

NO_GPU = "none"
_LOOK = 1.0  # seconds between two looks for models
_ASKED_AT_ONCE = 8  # models; a server that hangs keeps each question for readiness.TIMEOUT


class Releases:
    """Looks at a volume and at its server.

    Args:
        server: host and HTTP port of the Triton that serves it.
    """

    def __init__(self, volume: Volume, server: Tuple[str, int]) -> None:
        self._volume = volume
        self._server = server
        self._known: Set[str] = set()
        self._looked = -_LOOK

    def has(self, model: str) -> bool:
        """Whether the volume has, or had since the start, releases of that model. Asked for each request: the
        volume is looked at once a second at most, and only for a name that is new."""
        if model not in self._known and time.monotonic() - self._looked >= _LOOK:
            self._looked = time.monotonic()
            with contextlib.suppress(OSError):
                self._known.update(self._volume.models())
        return model in self._known

    def families(self) -> List[Family]:
        """The metrics; of a volume that cannot be read, only that it cannot."""
        readable = Family(
            "triton_stack_volume_readable", "gauge", "Whether the models volume can be read, 1 or 0."
        )
        try:
            found = self._look()
        except OSError:
            readable.add(0)
            return [readable]
        readable.add(1)
        return [readable, *found]

    def _look(self) -> List[Family]:
        volume = self._volume
        log = changes.events(volume)
        # The repository itself must be readable: an empty answer would say that nothing is live.
        live = volume.all_live()
        models = sorted({*volume.models(), *live})
        return [
            _live_count(live),
            *self._infos(live),
            *self._versions(models, live, log),
            *self._changes(models, log),
            self._ready(live),
        ]

    def _infos(self, live: Dict[str, int]) -> List[Family]:
        info = Family("triton_stack_release_info", "gauge", "What the live release is, in labels.")
        batch = Family(
            "triton_stack_release_max_batch_size", "gauge", "The largest batch that the live release takes."
        )
        for model, version in live.items():
            engine, weights, contract = self._facts(model, version)
            info.add(
                1,
                model=model,
                version=str(version),
                engine=f"{engine.get('name', 'unknown')} {engine.get('version', '')}".strip(),
                gpu=str((engine.get("gpu") or {}).get("name", NO_GPU)),
                weights="untrained" if weights.get("untrained") else "trained",
            )
            if isinstance(contract.get("max_batch_size"), int):
                batch.add(contract["max_batch_size"], model=model)
        return [info, batch]

    def _facts(self, model: str, version: int) -> List[Dict[str, Any]]:
        """Engine, weights and contract, as the manifest has them; empty where it cannot be read."""
        try:
            data = manifest.load(self._volume.release(model, version) / MANIFEST)
        except VolumeError:
            data = {}
        parts = (data.get(key) for key in ("engine", "weights", "contract"))
        return [part if isinstance(part, dict) else {} for part in parts]

    def _versions(self, models: List[str], live: Dict[str, int], log: List[changes.Event]) -> List[Family]:
        version = Family("triton_stack_release_version", "gauge", "The live release's number; 0 for none.")
        since = Family(
            "triton_stack_release_live_timestamp_seconds", "gauge", "When the live release went live."
        )
        kept = Family("triton_stack_releases", "gauge", "Releases on the models volume.")
        for model in models:
            version.add(live.get(model, 0), model=model)
            kept.add(len(self._volume.versions(model)), model=model)
            if model in live:
                since.add(changes.live_since(self._volume, log, model, live[model]), model=model)
        return [version, since, kept]

    def _changes(self, models: List[str], log: List[changes.Event]) -> List[Family]:
        pending = Family(
            "triton_stack_release_pending", "gauge", "Whether a change is under way and not proven, 1 or 0."
        )
        when = Family("triton_stack_redeploy_timestamp_seconds", "gauge", "When releases changed last.")
        success = Family(
            "triton_stack_redeploy_success", "gauge", "Whether the last change stayed (1) or went back (0)."
        )
        for model in models:
            pending.add(self._volume.pending(model), model=model)
            change = changes.last(self._volume, log, model)
            if change is not None:
                when.add(change.time, model=model)
                success.add(change.good, model=model)
        return [pending, when, success]

    def _ready(self, live: Dict[str, int]) -> Family:
        family = Family(
            "triton_stack_model_ready", "gauge", "Whether the server answers with the live release, 1 or 0."
        )
        host, port = self._server
        with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
            answers = pool.map(lambda pair: readiness.ready(host, port, *pair), live.items())
            for (model, version), ready in zip(live.items(), answers):
                family.add(ready, model=model, version=str(version))
        return family


def _live_count(live: Dict[str, int]) -> Family:
    family = Family("triton_stack_live_models", "gauge", "Models that have a live release.")
    family.add(len(live))
    return family
