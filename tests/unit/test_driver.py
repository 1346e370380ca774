"""Whose container is it, and does its driver still live?"""

from __future__ import annotations

import os
import subprocess
import sys

from ops.runtimes import driver
from support.stack import ROOT

SCRIPTS = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "scripts"), str(ROOT)])}
NAME = "from ops.runtimes import driver; print(driver.me(), flush=True); input()"


def test_a_driver_lives_until_it_ends() -> None:
    argv = [sys.executable, "-c", NAME]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, env=SCRIPTS, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert not driver.gone(name)
        process.kill()
        process.wait()
    assert driver.gone(name)
    assert not driver.gone(driver.me())


def test_another_process_of_the_same_number_is_not_the_driver() -> None:
    here, _, _ = driver.me().rsplit(" ", 2)
    assert driver.gone(f"{here} {os.getpid()} 1")


def test_a_driver_of_another_machine_or_namespace_is_left_alone() -> None:
    _, pid, started = driver.me().rsplit(" ", 2)
    assert not driver.gone(f"another-boot pid:[1] {pid} 1")
    for text in ("", "x", f"{pid} {started}"):
        assert not driver.gone(text)
