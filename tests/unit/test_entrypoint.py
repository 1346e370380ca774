"""triton/entrypoint with a tritonserver that only says how it was called."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.stack import ROOT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    server = tmp_path / "bin" / "tritonserver"
    server.parent.mkdir()
    server.write_text('#!/bin/sh\nfor word; do echo "$word"; done\n')
    server.chmod(0o755)
    return server.parent


def called(folder: Path, *args: str, **environ: str) -> list[str]:
    env = {"PATH": f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin", **environ}
    argv = [str(ROOT / "triton" / "entrypoint"), *args]
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=True).stdout.splitlines()


def test_each_argument_arrives_as_one_word_and_after_ours(folder: Path) -> None:
    mine = ["--log-file=/tmp/my log", "--backend-config=python,a=b c", "*", ""]
    assert called(folder, *mine)[-4:] == mine


def test_paths_with_blanks_stay_whole(folder: Path) -> None:
    words = called(folder, MODEL_REPOSITORY="/my models/repository", TRITON_BACKENDS="/my backends")
    assert "--model-repository=/my models/repository" in words
    assert "--backend-directory=/my backends" in words


def test_the_server_is_called_what_it_is_told_to_be(folder: Path) -> None:
    assert "--id=node-a" in called(folder, TRITON_ID="node-a")
    assert not any(word.startswith("--id") for word in called(folder, TRITON_ID=""))


HELP = """
  --grpc-infer-allocation-pool-size <integer>
  --http-thread-count <integer>
  --pinned-memory-pool-byte-size <integer>
  --cuda-memory-pool-byte-size <<integer>:<integer>>
"""


def helps(folder: Path, text: str = HELP) -> None:
    """Let the server know these options."""
    server = folder / "tritonserver"
    server.write_text(f"#!/bin/sh\n[ \"$1\" = --help ] && {{ cat <<'END'\n{text}END\nexit 0; }}\n"
                      'for word; do echo "$word"; done\n')  # fmt: skip


def test_numbers_of_the_server_become_its_options(folder: Path) -> None:
    helps(folder)
    words = called(
        folder, GRPC_ALLOCATION_POOL="64", HTTP_THREADS="16", PINNED_POOL_MB="512", CUDA_POOL_MB="128"
    )
    assert {
        "--grpc-infer-allocation-pool-size=64",
        "--http-thread-count=16",
        "--pinned-memory-pool-byte-size=536870912",
        "--cuda-memory-pool-byte-size=0:134217728",
    } <= set(words)


def test_what_is_empty_is_left_to_triton(folder: Path) -> None:
    helps(folder)
    assert not [w for w in called(folder, HTTP_THREADS="", TRITON_ARGS="") if "thread" in w or "pool" in w]


def test_an_option_that_this_server_lacks_is_left_out_in_words(folder: Path) -> None:
    helps(folder)
    env = {"PATH": f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin", "COPY_THREADS": "4"}
    done = subprocess.run(
        [str(ROOT / "triton" / "entrypoint")], env=env, capture_output=True, text=True, check=True
    )
    assert "buffer-manager" not in done.stdout
    assert "has no --buffer-manager-thread-count: COPY_THREADS=4 is ignored" in done.stderr


def test_more_options_come_after_ours_and_before_the_arguments(folder: Path) -> None:
    words = called(folder, "--log-verbose=2", TRITON_ARGS="--log-verbose=1  --model-control-mode=none *")
    assert words[-4:] == ["--log-verbose=1", "--model-control-mode=none", "*", "--log-verbose=2"]


def test_without_an_address_triton_listens_everywhere_as_a_container_must(folder: Path) -> None:
    assert not [word for word in called(folder) if "address" in word]
    words = called(folder, BIND_ADDRESS="127.0.0.1")
    assert {"--http-address=127.0.0.1", "--grpc-address=127.0.0.1"} <= set(words)
    assert "--metrics-address=127.0.0.1" not in words, "this server knows no such option"


SMI = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa)
  MIG 3g.20gb     Device  0: (UUID: MIG-1111)
  MIG 3g.20gb     Device  1: (UUID: MIG-2222)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bbbb)
"""


def several(
    folder: Path, claims: Path, count: int, start: int = 0, **environ: str
) -> list[subprocess.Popen[str]]:
    """Entrypoints that run at the same time: ``start`` of them, or ``count``."""
    (folder / "tritonserver").write_text(
        '#!/bin/sh\necho "GPU=${CUDA_VISIBLE_DEVICES:-none} $*"\nexec sleep 60\n'
    )
    claims.mkdir(exist_ok=True)
    path = os.pathsep.join([str(folder), "/usr/bin", "/bin"])
    env = {"PATH": path, "TRITON_COUNT": str(count), "GPU_CLAIMS": str(claims), **environ}
    started = []
    for _ in range(start or count):
        argv = [str(ROOT / "triton" / "entrypoint")]
        started.append(
            subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    return started


def first_line(process: subprocess.Popen[str]) -> tuple[str, str]:
    """The GPU and the id that a server was started with; empty where it was not."""
    assert process.stdout is not None
    words = process.stdout.readline().split()
    ids = [word[5:] for word in words if word.startswith("--id=")]
    return (words[0][4:], ids[0]) if words else ("", "")


def end(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize("lock", ["flock", "python3"])
def test_each_of_several_servers_takes_a_gpu_of_its_own(folder: Path, tmp_path: Path, lock: str) -> None:
    smi = folder / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\ncat <<'END'\n{SMI}END\n")
    smi.chmod(0o755)
    if lock == "python3":  # an image without util-linux
        for program in ("sh", "cat", "tr", "seq", "sleep"):
            place = shutil.which(program)
            assert place
            (folder / program).symlink_to(place)
        (folder / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        (folder / "python3").chmod(0o755)
    environ = {"TRITON_ID": "node"} | ({"PATH": str(folder)} if lock == "python3" else {})
    running = several(folder, tmp_path / "claims", 3, **environ)
    try:
        found = sorted(first_line(process) for process in running)
        assert found == [("GPU-bbbb", "node-gpu2"), ("MIG-1111", "node-gpu0"), ("MIG-2222", "node-gpu1")]
        [fourth] = several(folder, tmp_path / "claims", 3, start=1, **environ)
        _, words = fourth.communicate(timeout=10)
        assert fourth.returncode == 1
        assert "each of the 3 GPUs is taken" in words
        end(running[:1])
        running += several(folder, tmp_path / "claims", 3, start=1, **environ)
        assert first_line(running[-1]) in found, "it takes the GPU of the one that has ended"
    finally:
        end(running)


def test_without_a_gpu_each_takes_a_number(folder: Path, tmp_path: Path) -> None:
    (folder / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    (folder / "nvidia-smi").chmod(0o755)
    running = several(folder, tmp_path / "claims", 2)
    try:
        assert sorted(first_line(p) for p in running) == [("none", "triton-gpu0"), ("none", "triton-gpu1")]
    finally:
        end(running)


def test_the_gpus_to_take_may_be_named(folder: Path, tmp_path: Path) -> None:
    running = several(folder, tmp_path / "claims", 2, TRITON_GPUS="3, MIG-GPU-a/1/0")
    try:
        found = sorted(first_line(process) for process in running)
        assert found == [("3", "triton-gpu0"), ("MIG-GPU-a/1/0", "triton-gpu1")]
    finally:
        end(running)


def test_a_server_that_is_told_to_stop_answers_on_for_the_time_it_takes_to_be_seen(folder: Path) -> None:
    server = folder / "tritonserver"
    server.write_text("#!/bin/sh\ntrap 'echo told; exit 7' TERM\necho up\nwhile :; do sleep 0.05; done\n")
    env = {"PATH": f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin", "DRAIN_SECS": "1"}
    argv = [str(ROOT / "triton" / "entrypoint")]
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "up\n"
        begun = time.monotonic()
        running.terminate()
        assert running.stdout.readline() == "told\n"
        assert time.monotonic() - begun >= 1
        assert running.wait(10) == 7, "the server's own exit code"


@pytest.mark.timeout(60)
def test_a_signal_that_comes_as_the_server_starts_is_not_missed(folder: Path) -> None:
    server = folder / "tritonserver"
    server.write_text("#!/bin/sh\ntrap 'exit 7' TERM\nkill -TERM $PPID\nwhile :; do sleep 0.01; done\n")
    (folder / "sleep").write_text("#!/bin/sh\nexec /bin/sleep 0.01\n")  # a second for each would be long
    (folder / "sleep").chmod(0o755)
    env = {"PATH": f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin", "DRAIN_SECS": "1"}
    for _ in range(50):
        running = subprocess.Popen([str(ROOT / "triton" / "entrypoint")], env=env)
        assert running.wait(10) == 7
