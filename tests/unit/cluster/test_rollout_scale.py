"""10, 100 and 1,000 simulated nodes: what docs/scale.md says, and what the rollout's own decisions take."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from support.simulated_nodes import Cluster, quiet
from support.stack import ROOT

from cluster.rollout import document as documents
from cluster.rollout import driver as driving
from cluster.rollout import start

OLD, NEW = "sha256:old", "sha256:new"
PAGE = ROOT / "docs" / "scale.md"
# nodes, at once; as in the page's tables.
CASES = [(10, 1), (100, 1), (100, 10), (1000, 1), (1000, 20), (1000, 100)]


def rolled(nodes: int, at_once: int, **wrong: int) -> tuple[Cluster, dict[str, Any]]:
    cluster = Cluster([f"n{i:04d}" for i in range(nodes)], OLD)
    for name in [f"n{i:04d}" for i in wrong.values()]:
        cluster.nodes[name].wrong = {NEW}
    driver = cluster.driver()
    driver.lease.take(quiet)
    document = start.begin(driver, cluster, "m", "m", start.Wish(NEW, at_once=at_once), quiet)
    assert document is not None
    return cluster, driver.run(document)


def words(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def row(nodes: int, at_once: int) -> str:
    """A line of the page's table."""
    cluster, done = rolled(nodes, at_once)
    assert done["state"] == documents.DONE
    assert cluster.everywhere(NEW)
    assert cluster.unproven() == []
    assert cluster.most_busy <= at_once
    busiest = f"{cluster.moved / 1e9:.1f} GB"
    bad, gone = rolled(nodes, at_once, bad=nodes // 2)
    assert gone["state"] == documents.GONE_BACK
    assert bad.everywhere(OLD)
    touched = len([n for n in bad.nodes.values() if any(live == NEW for _, live, _ in n.history)])
    return f"| {nodes:,} | {at_once} | {words(cluster.now)} | {busiest} | {touched} | {cluster.writes:,} |"


@pytest.mark.parametrize(("nodes", "at_once"), CASES)
def test_the_page_says_what_the_simulation_gives(nodes: int, at_once: int) -> None:
    lines = PAGE.read_text("utf-8").splitlines()
    [written] = [line for line in lines if re.match(rf"\| {nodes:,} \| {at_once} \|", line)]
    assert written == row(nodes, at_once)


def test_a_thousand_nodes_take_little_of_the_driver_s_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    spent = [0.0]
    real = driving.decide

    def timed(*args: Any) -> Any:
        began = time.perf_counter()
        try:
            return real(*args)
        finally:
            spent[0] += time.perf_counter() - began

    monkeypatch.setattr(driving, "decide", timed)
    cluster, done = rolled(1000, 1)
    assert done["state"] == documents.DONE
    assert cluster.unproven() == []
    assert 0 < spent[0] < 10
