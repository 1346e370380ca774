"""The cause of a start that failed, out of real servers' logs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from ops.runtimes.server import cause, errors

HEAD = "1125 00:02:41.852366 664"
# Every server on a machine with no GPU says this.
NO_GPU = f"""\
W{HEAD} pinned_memory_manager.cc:273] "Unable to allocate pinned system memory, pinned memory pool will not"
I{HEAD} cuda_memory_manager.cc:117] "CUDA memory pool disabled"
Error: Failed to initialize NVML
E{HEAD} server.cc:241] "CudaDriverHelper has not been initialized."
I{HEAD} model_lifecycle.cc:472] "loading: scale:1"
"""


def test_a_machine_without_a_gpu_is_no_error() -> None:
    assert cause(NO_GPU.splitlines()) == ""
    assert errors(NO_GPU.splitlines(), 1) == NO_GPU.splitlines()[-1], "no errors: the last lines"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("bash: line 1: /my: No such file or directory", "bash: line 1: /my: No such file or directory"),
        (
            "terminate called after throwing an instance of 'std::invalid_argument'\n  what():  stol",
            "terminate called after throwing an instance of 'std::invalid_argument'",
        ),
        (
            f'E{HEAD} main.cc:1] "failed to start HTTP service: Unavailable - Socket in use"\n'
            f'I{HEAD} server.cc:1] "Waiting for in-flight requests to complete."',
            "failed to start HTTP service: Unavailable - Socket in use",
        ),
        (f'E{HEAD} a.cc:1] "first"\nE{HEAD} b.cc:2] "and so"', "and so"),
        ("error: the CPU server cannot start\n  libpython is missing", "error: the CPU server cannot start"),
    ],
)
def test_the_cause_is_the_last_error_whoever_wrote_it(words: str, expected: str) -> None:
    log = (NO_GPU + words).splitlines()
    assert cause(log) == expected
    assert expected in errors(log)
    assert "CudaDriverHelper" not in errors(log)


def test_an_error_comes_with_the_lines_that_belong_to_it() -> None:
    log = [
        "error: the CPU server cannot start",
        "  libpython is missing",
        f"I{HEAD} a.cc:1] options",
        "  info",
    ]
    assert errors(log) == "error: the CPU server cannot start\n  libpython is missing"


def test_triton_2_28_s_words_for_a_damaged_engine(sample: Callable[[str], str]) -> None:
    log = sample("tritonserver_fp16.log").splitlines()
    assert cause(log).endswith("version 2: Internal: unable to create TensorRT engine")
    assert "Engine deserialization failed." in errors(log)


def test_a_server_that_was_well_says_nothing(sample: Callable[[str], str]) -> None:
    assert cause(sample("tritonserver.log").splitlines()) == ""


def test_only_the_last_errors_are_shown() -> None:
    assert errors([f'E{HEAD} a.cc:1] "error {n}"' for n in range(50)], 2) == "error 48\nerror 49"
    assert errors([f"I{HEAD} a.cc:1] line {n}" for n in range(50)], 1).endswith("line 49")
