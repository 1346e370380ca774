"""Start the CPU server: Triton 2.51.0 out of the nvidia-pytriton wheel, with our onnxruntime backend.

Run by the Python of an environment that holds triton/requirements.txt; becomes triton/entrypoint. The
Python backend's stub is particular: it takes its packages from the first python3 on PATH, wants the
shared libpython, and must be a writable file of the server's own user, because Triton runs chmod on it
at every load. So the backends are laid out anew, in BACKENDS_DIR, at every start.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import List, NoReturn

import leftovers

HERE = Path(__file__).resolve().parent


def missing() -> List[str]:
    """What keeps the CPU server from running here, one remedy each; empty when nothing does."""
    found = []
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if not any(_load(name) for name in _libpython()):
        found.append(
            f"the shared library libpython{version}.so.1.0 is missing, which Triton's Python backend needs: "
            f"apt-get install libpython{version}, or use a Python built with --enable-shared"
        )
    wheel = _wheel()
    if wheel is None:
        found.append(
            "nvidia-pytriton is not installed: pip install --require-hashes -r triton/requirements.txt"
        )
    elif not (wheel / "python_backend_stubs" / version).is_dir():
        stubs = sorted(p.name for p in (wheel / "python_backend_stubs").iterdir())
        found.append(f"nvidia-pytriton has no Python backend for Python {version}: it has {', '.join(stubs)}")
    found += [
        f"{package} is not installed: pip install --require-hashes -r triton/requirements.txt"
        for package in ("numpy", "onnxruntime")
        if importlib.util.find_spec(package) is None
    ]
    return found


def _wheel() -> Path | None:
    spec = importlib.util.find_spec("pytriton")  # found, never imported: its own code is not used
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / "tritonserver"


def _libpython() -> List[str]:
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    return [str(Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib") / name), name]


def _load(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def library_path(wheel: Path) -> str:
    """LD_LIBRARY_PATH for the server: the wheel's libraries, and this Python's own for the stub."""
    libraries = [str(wheel.parents[1] / "nvidia_pytriton.libs"), sysconfig.get_config_var("LIBDIR")]
    return os.pathsep.join(filter(None, [*libraries, os.environ.get("LD_LIBRARY_PATH")]))


def _lay_out(wheel: Path, backends: Path) -> None:
    shutil.rmtree(backends, ignore_errors=True)
    shutil.copytree(wheel / "backends", backends)
    stub = wheel / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copytree(stub, backends / "python", dirs_exist_ok=True)
    for path in (backends / "python").iterdir():
        if path.is_file():  # a wheel carries no executable bits
            path.chmod(0o755)
    shutil.copytree(HERE / "backend", backends / "onnxruntime", dirs_exist_ok=True)


def _one_word(path: Path, folder: Path) -> str:
    """``path`` as the server, running in ``folder``, may be given it: as it is, or relative.

    Triton starts the stub through a shell, with both paths unquoted: after a blank in one of them the stub
    does not start, and the server hangs before it listens. Natively both folders are in MODELS_DIR, and their
    names below it are plain.
    """
    for name in (str(path), os.path.relpath(path, folder)):
        if re.fullmatch(r"[\w./+@%=-]+", name, re.ASCII):
            return name
    sys.exit(
        f"error: Triton's Python backend cannot be given the path {path}: use one without blanks and signs"
    )


def main() -> NoReturn:
    """Lay out the backends, set the environment, become the entrypoint."""
    problems = missing()
    wheel = _wheel()
    if problems or wheel is None:
        sys.exit("error: the CPU server cannot start\n" + "\n".join(f"  {p}" for p in problems))
    backends = Path(os.environ.get("BACKENDS_DIR") or "/tmp/triton-backends")  # noqa: S108  (a container's tmpfs)
    repository = Path(os.environ.get("MODEL_REPOSITORY") or "/models/repository")
    leftovers.remove(backends)
    _lay_out(wheel, backends)
    server = wheel / "bin" / "tritonserver"
    if not os.access(server, os.X_OK):
        server.chmod(0o755)
    entrypoint = HERE.parent / "entrypoint"
    env = {
        **os.environ,
        "PATH": os.pathsep.join(
            [str(Path(sys.executable).parent), str(server.parent), os.environ.get("PATH", "")]
        ),
        "LD_LIBRARY_PATH": library_path(wheel),
        "TRITON_BACKENDS": _one_word(backends, backends.parent),
        "MODEL_REPOSITORY": _one_word(repository, backends.parent),
    }
    os.chdir(backends.parent)
    os.execve(entrypoint, [str(entrypoint), *sys.argv[1:]], env)  # noqa: S606  (a list, no shell)


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit("\n".join(missing()) or 0)
    main()
