"""The leash between a driver and the builder it has started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ops.runtimes import driver
from support.stack import ROOT

HELD = "from models_volume import leash; leash.hold(); print('up', flush=True); import time; time.sleep(30)"
# A shell's background job, as a test run may be, inherits a SIGINT that is ignored.
DRIVER = """
import os, signal, subprocess, sys
from ops.runtimes import driver
signal.signal(signal.SIGINT, signal.default_int_handler)
with driver.leash() as stdin:
    subprocess.run([sys.executable, "-c", sys.argv[1]], stdin=stdin, env={**os.environ, **driver.LEASH})
"""
ENV = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "scripts"), str(ROOT)])}


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_builder_ends_with_its_driver_however_that_one_ends(how: signal.Signals) -> None:
    code = HELD.replace("'up'", "__import__('os').getpid()")
    argv = [sys.executable, "-c", DRIVER, code]
    with subprocess.Popen(argv, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as p:
        assert p.stdout is not None
        pid = int(p.stdout.readline())
        p.send_signal(how)
        assert gone(pid)


def test_the_end_of_the_leash_is_the_end_of_the_builder() -> None:
    with driver.leash() as stdin:
        process = subprocess.Popen(
            [sys.executable, "-c", HELD],
            stdin=stdin,
            stdout=subprocess.PIPE,
            env={**ENV, **driver.LEASH},
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        assert process.poll() is None
    assert process.wait(5) == -signal.SIGKILL
    process.stdout.close()


def test_a_builder_that_nobody_holds_does_not_look_at_its_standard_input() -> None:
    code = "from models_volume import leash; leash.hold(); import time; time.sleep(0.3); print('there')"
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, env=ENV, capture_output=True, check=True)
    assert done.stdout == b"there\n"
