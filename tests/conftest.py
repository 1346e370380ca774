"""Fixtures for every test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.stack import Stack

if TYPE_CHECKING:
    from support.digits import Digits

SAMPLES = Path(__file__).parent / "samples"
SHM = Path("/dev/shm")  # noqa: S108  (where clients put it)
# What is quickest to fail comes first, and what takes the machine for itself last.
ORDER = ("contract", "unit", "gpu", "native", "docker")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests by their folders."""
    here = Path(__file__).parent
    items.sort(key=lambda item: ORDER.index(item.path.relative_to(here).parts[0]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Where the time went: each part, and the files that take long. CI has a limit."""
    parts: Counter[str] = Counter()
    files: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                file = report.nodeid.partition("::")[0]
                parts[file.split("/")[1]] += report.duration
                files[file] += report.duration
    long = [(file, seconds) for file, seconds in files.most_common() if seconds >= 20]
    if long:
        terminalreporter.section("time by part and file")
        for name, seconds in [*parts.most_common(), *long]:
            terminalreporter.write_line(f"{seconds:6.0f} s  {name}")


@pytest.fixture
def sample() -> Callable[[str], str]:
    """Read a recorded output of trtexec 8.5.1 or Triton 2.28.0 (tests/samples/README.md)."""
    return lambda name: (SAMPLES / name).read_text("utf-8")


@pytest.fixture
def client_memory() -> Callable[[], set[str]]:
    """The shared memory that clients have made since the test began; others' on this machine is theirs."""

    def found() -> set[str]:
        return {path.name for path in SHM.glob("triton-client-*")}

    before = found()
    return lambda: found() - before


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A native CPU stack of the test's own, gone at its end."""
    stack = Stack(tmp_path / "models")
    yield stack
    stack.kill()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that failed shows what its server said."""
    report = yield
    stack = getattr(item, "funcargs", {}).get("stack")
    if report.failed and isinstance(stack, Stack):
        report.sections.append(("triton.log", stack.log()))
    return report


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    """The digits model, trained once (support/digits.py)."""
    from support import digits as module  # scikit-learn takes a while to import

    return module.train(tmp_path_factory.mktemp("digits"))
