"""The live releases of a Docker stack as files of this machine, for the client; the volume is Docker's."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Dict, Iterator, List

from models_volume.layout import Volume
from ops.errors import OpsError


@contextlib.contextmanager
def copied(container: str, live: Dict[str, int]) -> Iterator[Path]:
    """A models volume, gone afterwards, that holds each model's live release as ``container`` has it.

    Raises:
        OpsError: Docker does not hand one out.
    """
    with tempfile.TemporaryDirectory(prefix="models-") as folder:
        volume = Volume(Path(folder))
        volume.root.chmod(0o755)  # trtexec's container reads it as another user
        volume.repository.mkdir()
        for model, version in live.items():
            release = volume.release(model, version)
            release.parent.mkdir(parents=True)
            inside = f"{container}:/models/releases/{model}/{version}"
            done = subprocess.run(
                ["docker", "cp", "--quiet", inside, str(release)],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                raise OpsError(
                    f"release {version} of {model} cannot be copied out of the models volume",
                    details=done.stderr.strip()[-1000:],
                    remedy="./scripts/status",
                )
            volume.link(model).symlink_to(Path("..") / release.relative_to(volume.root) / "model")
        yield volume.root


def program(folder: Path, name: str, command: List[str], cwd: Path) -> None:
    """Write the program ``name``, which runs ``command`` in ``cwd`` with its own arguments after it."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f'#!/bin/sh\ncd {shlex.quote(str(cwd))} && exec {shlex.join(command)} "$@"\n', "utf-8")
    path.chmod(0o755)
