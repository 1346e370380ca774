"""What bench has measured is never lost: not to a full disk, not to an interrupt, not to a failing server."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from triton_stack_client.bench import results
from triton_stack_client.bench.baseline import Figure
from triton_stack_client.bench.kept import Kept
from triton_stack_client.bench.perf import PARTS, Point
from triton_stack_client.bench.run import Plan, run
from triton_stack_client.errors import ClientError

FACTS: dict[str, Any] = {
    "model": "m", "version": 1, "when": "now", "baseline": "trtexec 8", "weights": "w", "untrained": False,
    "machine": {"cpu": "c", "cores": 2, "memory_gib": 8.0, "gpus": [], "system": "Linux"},
    "versions": {"triton": "2.28.0", "perf_analyzer": "2.47"}, "engine": "tensorrt 8",
}  # fmt: skip


def point(concurrency: int) -> Point:
    parts = dict.fromkeys(PARTS.values(), 1.0)
    return Point("grpc", 1, concurrency, True, 100.0 * concurrency, 5, 6, 7, 8, parts, ["perf_analyzer"])


class Perf:
    """perf_analyzer, until it fails."""

    def __init__(self, fails_at: int, how: BaseException) -> None:
        self._fails_at, self._how = fails_at, how

    def measure(self, way: str, batch: int, concurrency: int, **_: object) -> Point:
        if concurrency == self._fails_at:
            raise self._how
        return point(concurrency)


class Local:
    """A baseline that takes no time."""

    name, version = "trtexec", "8"

    def round(self, batch: int, seconds: float) -> None:
        """Nothing to do."""

    def figure(self, batch: int) -> Figure:
        return Figure(batch, 200.0, 5.0, 6.0, ["trtexec"])


def bench(
    folder: Path, perf: Perf, *, concurrency: tuple[int, ...] = (2, 4, 8), as_json: bool = False
) -> Kept:
    folder.mkdir()
    plan = Plan(["grpc"], [1], list(concurrency), 1.0, 1, 1.0, 1, 1)
    kept = Kept(folder, as_json=as_json)
    with kept.whatever_happens():
        found = run(plan, None, perf, Local(), {}, dict(FACTS), kept.take)  # type: ignore[arg-type]
        kept.take(found)
    return kept


@pytest.mark.parametrize("how", [KeyboardInterrupt(), ClientError("perf_analyzer failed")])
def test_a_run_that_ends_early_keeps_its_points(
    tmp_path: Path, how: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(type(how)):
        bench(tmp_path / "run", Perf(8, how))
    assert [p.concurrency for p in results.load(tmp_path / "run").points] == [2, 4]
    assert "2 of 3 points were measured; they are in " in capsys.readouterr().err
    assert "This run ended early: 2 of 3 points were measured." in (tmp_path / "run/report.html").read_text()
    assert len((tmp_path / "run/results.csv").read_text().splitlines()) == 1 + 1 + 2


def test_a_run_that_measured_nothing_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ClientError):
        bench(tmp_path / "run", Perf(2, ClientError("it does not start")))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("as_json", [False, True])
def test_a_full_disk_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    def full(self: Path, text: str, encoding: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    kept = bench(tmp_path / "run", Perf(0, ClientError("")), as_json=as_json)
    assert kept.problem == "No space left on device"
    out, err = capsys.readouterr()
    assert "next: free some space, or name another folder: --out DIR" in err
    if as_json:
        (tmp_path / "printed").mkdir()
        with (tmp_path / "printed" / "results.json").open("w") as file:
            file.write(out)
        assert [p.concurrency for p in results.load(tmp_path / "printed").points] == [2, 4, 8]
    else:
        assert [line.split(",")[:3] for line in out.splitlines()[2:]] == [["grpc", "1", c] for c in "248"]


def test_a_disk_with_room_again_has_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, calls = results.write, []

    def sometimes(path: Path, text: str) -> None:
        calls.append(path)
        if len(calls) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, text)

    monkeypatch.setattr(results, "write", sometimes)
    kept = bench(tmp_path / "run", Perf(0, ClientError("")))
    assert kept.problem == ""
    assert len(results.load(tmp_path / "run").points) == 3
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "report.html",
        "results.csv",
        "results.json",
    ]
    assert "unfinished" not in results.load(tmp_path / "run").facts


def test_a_run_without_a_single_client_has_a_report(tmp_path: Path) -> None:
    bench(tmp_path / "run", Perf(0, ClientError("")), concurrency=(4, 8))
    assert "Every point" in (tmp_path / "run" / "report.html").read_text()
