"""triton/entrypoint with a tritonserver that only says how it was called."""

from __future__ import annotations

import os
import subprocess
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


def test_without_an_address_triton_listens_everywhere_as_a_container_must(folder: Path) -> None:
    assert not [word for word in called(folder) if "address" in word]
    words = called(folder, BIND_ADDRESS="127.0.0.1")
    assert {"--http-address=127.0.0.1", "--grpc-address=127.0.0.1"} <= set(words)
    assert "--metrics-address=127.0.0.1" not in words, "this server knows no such option"
