"""TensorRT's timing cache: kept from build to build, and never the reason that a build fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.engine.timing_cache import TimingCache
from builder.errors import CrashError, EngineError

GPU = {"version": "8.5.1", "gpu": {"name": "NVIDIA H100 80GB HBM3"}}
NAME = "timing-8.5.1-NVIDIA_H100_80GB_HBM3.cache"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def writes(work: Path, content: bytes, log: str = "") -> tuple[list[str], TimingCacheBuild]:
    calls: list[str] = []
    return calls, TimingCacheBuild(work, content, log, calls)


class TimingCacheBuild:
    """What trtexec does with the file it is given."""

    def __init__(self, work: Path, content: bytes, log: str, calls: list[str]) -> None:
        self.work, self.content, self.log, self.calls = work, content, log, calls
        self.saw: list[bytes] = []
        self.fails_on = b""

    def __call__(self, cache: str) -> tuple[list[str], str]:
        self.calls.append(cache)
        if cache:
            file = self.work / cache
            before = file.read_bytes() if file.exists() else b""
            self.saw.append(before)
            if self.fails_on and before == self.fails_on:
                raise EngineError("the engine was not built")
            file.write_bytes(self.content)
        return [cache], self.log


def test_a_second_build_starts_with_what_the_first_one_kept(tmp_path: Path, work: Path) -> None:
    _, build = writes(work, b"one")
    TimingCache(tmp_path, GPU, work).around(build)
    assert (tmp_path / NAME).read_bytes() == b"one"
    other = tmp_path / "work2"
    other.mkdir()
    _, build = writes(other, b"two")
    TimingCache(tmp_path, GPU, other).around(build)
    assert build.saw == [b"one"]
    assert (tmp_path / NAME).read_bytes() == b"two"
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == [NAME], "nothing half written stays"


def test_each_version_and_gpu_has_its_own(tmp_path: Path, work: Path) -> None:
    TimingCache(tmp_path, GPU, work).around(writes(work, b"one")[1])
    (work / "timing.cache").unlink()
    for identity in ({**GPU, "version": "8.6.1"}, {**GPU, "gpu": {"name": "NVIDIA L4"}}):
        _, build = writes(work, b"other")
        TimingCache(tmp_path, identity, work).around(build)
        (work / "timing.cache").unlink()
        assert build.saw == [b""]
    assert (tmp_path / NAME).read_bytes() == b"one"


def test_a_build_that_fails_with_a_kept_cache_is_tried_without(
    tmp_path: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / NAME).write_bytes(b"broken")
    _, build = writes(work, b"good")
    build.fails_on = b"broken"
    TimingCache(tmp_path, GPU, work).around(build)
    assert build.saw == [b"broken", b""]
    assert (tmp_path / NAME).read_bytes() == b"good"
    assert "once more without it" in capsys.readouterr().err


def test_a_build_that_fails_without_one_is_tried_once(tmp_path: Path, work: Path) -> None:
    calls: list[str] = []

    def build(cache: str) -> tuple[list[str], str]:
        calls.append(cache)
        raise EngineError("no memory")

    with pytest.raises(EngineError, match="no memory"):
        TimingCache(tmp_path, GPU, work).around(build)
    assert len(calls) == 1


def test_where_trtexec_crashes_with_one_there_is_none_from_then_on(
    tmp_path: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[str] = []

    def build(cache: str) -> tuple[list[str], str]:
        calls.append(cache)
        if cache:
            raise CrashError("the engine was not built (trtexec exit code -6)")
        return [cache], ""

    TimingCache(tmp_path, GPU, work).around(build)
    assert calls == ["timing.cache", ""]
    assert "exit code -6" in capsys.readouterr().err
    TimingCache(tmp_path, GPU, work).around(build)
    assert calls[2:] == [""], "the second build does not crash first"


def test_a_crash_without_one_is_the_build_s_own(tmp_path: Path, work: Path) -> None:
    def build(cache: str) -> tuple[list[str], str]:
        raise CrashError(f"killed with {cache!r}")

    with pytest.raises(CrashError, match="killed with ''"):
        TimingCache(tmp_path, GPU, work).around(build)
    assert not (tmp_path / NAME).exists()


def test_a_cache_that_cannot_be_kept_fails_nothing(tmp_path: Path, work: Path) -> None:
    _, build = writes(work, b"one")
    argv, _ = TimingCache(tmp_path / "not there", GPU, work).around(build)
    assert argv == ["timing.cache"]


def test_without_a_gpu_s_name_or_a_folder_there_is_none(tmp_path: Path, work: Path) -> None:
    for folder, identity in ((None, GPU), (tmp_path, {"version": "8.5.1", "gpu": None})):
        calls, build = writes(work, b"")
        TimingCache(folder, identity, work).around(build)
        assert calls == [""]
