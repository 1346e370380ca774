"""Where things lie on the models volume, and which release is live.

    repository/<model>         -> ../releases/<model>/<N>/model     what Triton reads
    releases/<model>/<N>/      a release: model/ for Triton, and beside it what describes it
    releases/<model>/.last .history .pending .back .spec
    staging/  cache/  lock/  logs/  audit.log
    cluster/traffic.json         which servers are canaries, written by the node's agent (traffic.py)

A model is live when its entry in the repository is a link to a release. Reading only: the builder alone
writes here (and an agent its own folder cluster/).
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional

FOLDERS = ("repository", "releases", "staging", "cache", "lock")
_NO_LINK = (errno.ENOENT, errno.EINVAL, errno.ENOTDIR)  # nothing there, something else, no folder
# Files of a release.
MANIFEST = "manifest.json"
GOLDEN = "golden.npz"
VERIFIED = "verified.npz"
ONNX = "model.onnx"
EVALUATION = "evaluation.json"  # where its spec asks for an evaluation; for people, beside it:
EVALUATION_PAGE = "evaluation.html"
QUANTIZATION = "quantization.json"  # with INT8 only: what became of each layer, and how good it is
QUANTIZATION_PAGE = "quantization.html"  # the same to look at
FAILED = "failed.json"  # why it never goes live again; not part of what was published
CONFIG = "model/config.pbtxt"
# Files of a model, beside its releases.
PENDING = ".pending"  # the change that is to be proven
HISTORY = ".history"  # which releases were proven
SPEC = ".spec"  # the path of the spec that was built last, on the machine that built it
BACK = ".back"  # the link that goes live if the change fails, or with the next rollback


@dataclass(frozen=True)
class Volume:
    """A models volume; ``root`` need not exist."""

    root: Path

    @property
    def repository(self) -> Path:
        """What Triton reads: a link for each live model, and nothing else."""
        return self.root / "repository"

    @property
    def staging(self) -> Path:
        """Releases in the making, on the file system that they are renamed within."""
        return self.root / "staging"

    @property
    def cache(self) -> Path:
        """Exports, by key, and TensorRT's timings; may be deleted at any time."""
        return self.root / "cache"

    @property
    def logs(self) -> Path:
        """What an export said that failed; may be deleted at any time."""
        return self.root / "logs"

    @property
    def audit_log(self) -> Path:
        """One line of JSON for each change."""
        return self.root / "audit.log"

    @property
    def traffic(self) -> Path:
        """What the gateway sends to canaries."""
        return self.root / "cluster" / "traffic.json"

    def link(self, model: str) -> Path:
        """A model's entry in the repository."""
        return self.repository / model

    def of_model(self, model: str) -> Path:
        """The folder of a model's releases."""
        return self.root / "releases" / model

    def release(self, model: str, version: int) -> Path:
        """The folder of one release."""
        return self.of_model(model) / str(version)

    def engine(self, model: str, version: int, file: str) -> Path:
        """A release's engine, called ``file`` in its manifest."""
        return self.release(model, version) / "model" / str(version) / file

    def models(self) -> List[str]:
        """Every model that has a folder for its releases."""
        folder = self.root / "releases"
        return sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []

    def versions(self, model: str) -> List[int]:
        """A model's releases, ascending."""
        folder = self.of_model(model)
        numbers = [_number(p.name) for p in folder.iterdir()] if folder.is_dir() else []
        return sorted(n for n in numbers if n is not None)

    def names(self, link: Path) -> Optional[int]:
        """The number of the release that a link names; None for anything else.

        As text: the volume may be mounted elsewhere than it was written. Raises OSError where the disk does
        not tell.
        """
        try:
            target = os.readlink(str(link))
        except OSError as e:
            if e.errno in _NO_LINK:
                return None
            raise
        return _number(Path(target).parent.name)

    def live(self, model: str) -> Optional[int]:
        """The number of the release that a model's link names; None without such a link."""
        return self.names(self.link(model))

    def links(self) -> Dict[str, Optional[int]]:
        """Every link in the repository and the release it names; None for one that names no release."""
        folder = self.repository
        names = sorted(p.name for p in folder.iterdir() if p.is_symlink()) if folder.is_dir() else []
        return {name: self.live(name) for name in names}

    def all_live(self) -> Dict[str, int]:
        """Each live model and the number of its live release."""
        return {name: version for name, version in self.links().items() if version is not None}

    def spec(self, model: str) -> str:
        """The path of the spec that a model was last built from; empty where nobody knows it."""
        try:
            return (self.of_model(model) / SPEC).read_text("utf-8").strip()
        except (OSError, ValueError):
            return ""

    def pending(self, model: str) -> bool:
        """Whether a change of the model is not settled yet."""
        return (self.of_model(model) / PENDING).exists()

    def strays(self, model: str) -> List[str]:
        """What somebody else put where Triton looks for this model, a line each.

        Triton reads version directories by their leading digits: 3.tmp is version 3 to it, and twenty
        digits end the server.
        """
        entry = self.link(model)
        if not entry.is_symlink():
            return [f"repository/{model} is not a link of ours: move it away"] if entry.exists() else []
        version = self.live(model)
        folder = self.of_model(model) / str(version) / "model"
        if not folder.is_dir():
            return [f"repository/{model} leads nowhere: ./scripts/rollback or ./scripts/up"]
        return [
            f"{folder.relative_to(self.root) / p.name} does not belong to release {version}: move it away"
            for p in sorted(folder.iterdir())
            if p.is_dir() and p.name != str(version)
        ]


def link_target(model: str, version: int) -> str:
    """What a model's link holds when ``version`` is live: relative, so that a volume can be moved."""
    return f"../releases/{model}/{version}/model"


def _number(name: str) -> Optional[int]:
    return int(name) if re.fullmatch("[0-9]+", name) else None
