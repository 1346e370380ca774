"""The stack in surroundings that are not the developer's: odd paths, a proxy."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from support.models import write_scale
from support.stack import ROOT, Stack, free_ports

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
ODD = "a 'b\" $HOME & (c), ü;*"


def checkout(folder: Path) -> Path:
    """A copy of the repository's files in ``folder``."""
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, files):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.mark.timeout(120)
def test_blanks_and_signs_in_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A colon or a semicolon in the path of the checkout is refused; test_checks.py.
    root = checkout(tmp_path / ODD.replace(";", ""))
    environments = tmp_path / "my environments"
    environments.symlink_to(Path(Stack(tmp_path).env.get("VENVS_DIR") or ROOT / ".venvs"))
    monkeypatch.setattr("support.stack.ROOT", root)
    stack = Stack(tmp_path / ODD, VENVS_DIR=str(environments))
    try:
        stack.up(write_scale(tmp_path / "my specs"))
        redeployed = stack.run("redeploy", "--model", write_scale(tmp_path / "my specs", factor=3))
        assert redeployed.returncode == 0, redeployed.stdout + redeployed.stderr
        assert stack.status()["models"][0]["live"] == 2
        stack.stop()
    finally:
        stack.kill()


@pytest.mark.timeout(120)
def test_a_proxy_in_the_environment_is_not_asked_for_our_own_server(stack: Stack, tmp_path: Path) -> None:
    (closed,) = free_ports(1)
    for name in ("no_proxy", "NO_PROXY"):
        stack.env.pop(name, None)
    stack.env.update(dict.fromkeys(PROXIES, f"http://127.0.0.1:{closed}"))
    stack.up(write_scale(tmp_path / "spec"))
    assert stack.status()["models"][0]["ready"] is True
    done = stack.run("redeploy", "--model", write_scale(tmp_path / "spec", factor=3))
    assert done.returncode == 0, done.stdout + done.stderr
