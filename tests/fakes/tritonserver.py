"""A FAKE tritonserver of a GPU machine: the real Triton 2.51.0 with the fake TensorRT backend.

Without a GPU Triton refuses KIND_GPU, so it serves a shadow of the repository whose configurations say
KIND_CPU instead; the shadow is made at the start and knows nothing of later releases. Run by the Python of
the CPU server's environment.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "triton" / "cpu"))

import server as cpu_server  # noqa: E402


def shadow(repository: Path) -> Path:
    copy = Path(tempfile.mkdtemp(prefix="fake-gpu-repository-"))
    for model in repository.iterdir():
        shutil.copytree(model, copy / model.name, copy_function=os.symlink)
        config = copy / model.name / "config.pbtxt"
        text = config.read_text("utf-8")
        config.unlink()
        config.write_text(text.replace("KIND_GPU", "KIND_CPU").replace("gpus: 0", ""), "utf-8")
    return copy


def main() -> None:
    wheel = cpu_server._wheel()
    assert wheel is not None
    binary = str(wheel / "bin" / "tritonserver")
    if not os.access(binary, os.X_OK):
        Path(binary).chmod(0o755)
    os.environ["LD_LIBRARY_PATH"] = cpu_server.library_path(wheel)
    args = sys.argv[1:]
    if "--help" not in args:
        backends = Path(tempfile.mkdtemp(prefix="fake-gpu-backends-")) / "backends"
        cpu_server._lay_out(wheel, backends)
        shutil.copytree(ROOT / "tests" / "fakes" / "backends", backends, dirs_exist_ok=True)
        key = "--model-repository="
        args = [f"{key}{shadow(Path(a[len(key) :]).resolve())}" if a.startswith(key) else a for a in args]
        args.append(f"--backend-directory={backends}")
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.execv(binary, [binary, *args])


if __name__ == "__main__":
    main()
