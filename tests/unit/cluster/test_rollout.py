"""The real rollout on simulated nodes: canaries, failures, silence, pauses, drivers that die or meet."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.simulated_nodes import Cluster, quiet

from cluster.errors import ClusterError
from cluster.rollout import document as documents
from cluster.rollout import start
from cluster.rollout.compare import compare
from cluster.rollout.driver import TAG, Driver
from cluster.rollout.lease import HeldError, LostLeaseError
from cluster.rollout.views import View
from cluster.state.store import Document

OLD, NEW, NEWER = "sha256:old", "sha256:new", "sha256:newer"
NAMES = ["a", "b", "c", "d", "e"]


def begun(cluster: Cluster, driver: Driver, target: str = NEW, **wish: Any) -> Document:
    driver.lease.take(quiet)
    found = start.begin(driver, cluster, "m", "m", start.Wish(target, **wish), quiet)
    assert found is not None
    return found


def rolled(cluster: Cluster, target: str = NEW, **wish: Any) -> Document:
    driver = cluster.driver()
    done = driver.run(begun(cluster, driver, target, **wish))
    driver.lease.release()
    return done


def order(cluster: Cluster, digest: str = NEW) -> list[str]:
    """The nodes in the order in which they came to serve it."""
    when = {n.name: t for n in cluster.nodes.values() for t, live, _ in n.history if live == digest}
    return sorted(when, key=lambda name: when[name])


def test_a_canary_goes_first_and_the_others_follow_one_by_one() -> None:
    cluster = Cluster(NAMES, OLD)
    done = rolled(cluster, first=["c"])
    assert done["state"] == documents.DONE
    assert order(cluster) == ["c", "a", "b", "d", "e"]
    assert cluster.everywhere(NEW)
    assert cluster.releases["m", "live"] == NEW
    assert cluster.most_busy == 1
    when = {n: cluster.nodes[n].history[-1][0] for n in NAMES}
    assert when["a"] - when["c"] >= 60, "the canary was observed"
    assert cluster.unproven() == []


def test_several_at_once_are_no_more_than_asked_for() -> None:
    cluster = Cluster(NAMES, OLD)
    assert rolled(cluster, canary=1, at_once=3)["state"] == documents.DONE
    assert cluster.most_busy == 3


def test_a_release_that_is_right_on_the_canary_and_wrong_elsewhere_goes_back_everywhere() -> None:
    cluster = Cluster(NAMES, OLD)
    cluster.nodes["c"].wrong = {NEW}
    done = rolled(cluster)
    assert done["state"] == documents.GONE_BACK
    assert "c: answers differ" in done["reason"]
    assert cluster.everywhere(OLD)
    assert cluster.releases["m", "live"] == OLD
    assert order(cluster) == ["a", "b"], "nobody after it was asked"


def test_so_many_may_fail_as_the_operator_allows() -> None:
    cluster = Cluster(NAMES, OLD)
    cluster.nodes["c"].wrong = {NEW}
    done = rolled(cluster, max_failed=1)
    assert done["state"] == documents.DONE
    assert "without c" in done["log"][-1]["what"]
    assert [n for n in NAMES if cluster.nodes[n].live == OLD] == ["c"]
    cluster.nodes["c"].wrong = set()
    again = start.change(cluster, "m", cluster.driver(), start.resumed, cluster.sleep)
    assert (again["state"], again["attempt"], again["without"]) == (documents.DONE, 2, [])
    cluster.sleep(100)
    assert cluster.everywhere(NEW)
    assert all(len(cluster.nodes[n].history) == len(cluster.nodes["c"].history) for n in NAMES), "once each"


def test_where_every_canary_fails_it_goes_back_whatever_may_fail() -> None:
    cluster = Cluster(NAMES, OLD)
    cluster.nodes["a"].wrong = cluster.nodes["b"].wrong = {NEW}
    done = rolled(cluster, canary=2, max_failed=3)
    assert done["state"] == documents.GONE_BACK
    assert done["reason"].startswith("every canary failed: a: answers differ")
    assert order(cluster) == []
    cluster = Cluster(NAMES, OLD)
    cluster.nodes["a"].wrong = {NEW}
    assert rolled(cluster, canary=2, max_failed=1)["state"] == documents.DONE


@pytest.mark.parametrize(("requests", "said"), [(99, True), (100, False)])
def test_too_few_requests_to_compare_are_told(requests: int, said: bool) -> None:
    cluster = Cluster(NAMES, OLD)
    cluster.nodes["a"].metrics = {"requests": requests, "failures": 0}
    words = [entry["what"] for entry in rolled(cluster)["log"]]
    assert any(f"had {requests} requests: too few" in text for text in words) == said


def test_a_node_that_dies_in_its_turn_fails_and_one_that_died_before_is_passed_over() -> None:
    cluster = Cluster(NAMES, OLD)
    cluster.nodes["d"].dead = 100.0
    done = rolled(cluster)
    assert done["state"] == documents.DONE
    assert done["skipped"] == ["d"]
    cluster = Cluster(NAMES, OLD)
    driver = cluster.driver()
    document = begun(cluster, driver)

    def dies(tag: str) -> None:
        if tag == TAG and cluster.read("m", TAG)[1]["allowed"][-1:] == ["c"]:  # type: ignore[index]
            cluster.nodes["c"].dead = cluster.now

    cluster.on_write = dies
    done = driver.run(document)
    assert done["state"] == documents.GONE_BACK
    assert "c: it has not been heard of" in done["reason"]
    assert cluster.everywhere(OLD)


def test_nodes_that_are_long_gone_are_left_out() -> None:
    cluster = Cluster(NAMES, OLD)
    cluster.nodes["a"].dead = 0.0
    done = rolled(cluster)
    assert done["order"] == ["b", "c", "d", "e"]
    with pytest.raises(ClusterError, match="no node reports"):
        rolled(Cluster([], OLD))
    with pytest.raises(ClusterError, match="there is no such node"):
        rolled(Cluster(NAMES, OLD), first=["z"])


def test_the_first_rollout_of_all_has_nothing_to_go_back_to() -> None:
    cluster = Cluster(NAMES, None)
    assert rolled(cluster)["state"] == documents.DONE
    cluster = Cluster(NAMES, None)
    cluster.nodes["a"].wrong = {NEW}
    assert rolled(cluster)["state"] == documents.GONE_BACK
    assert cluster.everywhere(None)


def test_a_node_that_takes_too_long_fails() -> None:
    cluster = Cluster(NAMES, OLD, proof=5000.0)
    driver = cluster.driver(node_secs=600.0)
    done = driver.run(begun(cluster, driver))
    assert "it was not there after" in done["reason"]


def test_what_is_live_everywhere_is_not_rolled_out() -> None:
    cluster = Cluster(NAMES, OLD)
    driver = cluster.driver()
    assert start.begin(driver, cluster, "m", "m", start.Wish(OLD), quiet) is None


def test_a_second_rollout_goes_back_to_the_first_one() -> None:
    cluster = Cluster(NAMES, OLD)
    rolled(cluster)
    cluster.nodes["b"].wrong = {NEWER}
    done = rolled(cluster, NEWER)
    assert (done["previous"], done["state"]) == (NEW, documents.GONE_BACK)
    assert cluster.everywhere(NEW)


def test_it_can_be_tried_again() -> None:
    cluster = Cluster(NAMES, OLD)
    cluster.nodes["c"].wrong = {NEW}
    assert rolled(cluster)["state"] == documents.GONE_BACK
    cluster.nodes["c"].wrong = set()
    driver = cluster.driver()
    again = start.change(cluster, "m", driver, start.resumed, cluster.sleep)
    assert (again["state"], again["attempt"], again["allowed"]) == (documents.RUNNING, 2, [])
    driver.lease.take(quiet)
    assert driver.run(again)["state"] == documents.DONE
    assert cluster.everywhere(NEW)


def test_a_paused_one_goes_no_further_and_can_go_on_or_back() -> None:
    for how, end in ((start.resumed, documents.DONE), (start.backwards, documents.GONE_BACK)):
        cluster = Cluster(NAMES, OLD)
        document = rolled(cluster, hold=True)
        assert document["state"] == documents.PAUSED
        assert order(cluster) == ["a"]
        cluster.sleep(1000)
        assert order(cluster) == ["a"]
        driver = cluster.driver()
        document = start.change(cluster, "m", driver, how, cluster.sleep)
        driver.lease.take(quiet)
        assert driver.run(document)["state"] == end
        assert cluster.everywhere(NEW if end == documents.DONE else OLD)


def test_a_pause_beside_a_driver_stops_it() -> None:
    cluster = Cluster(NAMES, OLD)
    driver = cluster.driver()
    document = begun(cluster, driver)
    other = cluster.driver()
    paused: list[Document] = []

    def act(tag: str) -> None:
        if tag == TAG and not paused and len(cluster.read("m", TAG)[1]["allowed"]) == 2:  # type: ignore[index]
            paused.append({})
            cluster.write("m", TAG, documents.pause(other.current(), "by an operator"))

    cluster.on_write = act
    # The driver's own write was the last one; an operator's `change` sees that and writes again.
    cluster._at(3.0, lambda: cluster.write("m", TAG, start.paused(other.current())) and None)  # type: ignore[arg-type]
    assert driver.run(document)["state"] == documents.PAUSED


def test_the_end_of_a_rollout_has_no_way_back() -> None:
    cluster = Cluster(NAMES, OLD)
    rolled(cluster)
    for how in (start.backwards, start.resumed):
        with pytest.raises(ClusterError, match="done"):
            start.change(cluster, "m", cluster.driver(), how, cluster.sleep)
    assert (
        start.change(cluster, "m", cluster.driver(), start.paused, cluster.sleep)["state"] == documents.DONE
    )


def test_two_rollouts_at_once_are_one_and_a_refusal() -> None:
    cluster = Cluster(NAMES, OLD)
    first, second = cluster.driver(), cluster.driver()
    begun(cluster, first)
    cluster._at(1.0, first.lease.beat)
    with pytest.raises(HeldError, match="is driven by"):
        second.lease.take(quiet)
    with pytest.raises(ClusterError, match="is running"):
        start.begin(second, cluster, "m", "m", start.Wish(NEWER), quiet)


def test_a_driver_that_has_lost_its_lease_stops() -> None:
    cluster = Cluster(NAMES, OLD)
    first, second = cluster.driver(), cluster.driver()
    document = begun(cluster, first)
    second.lease.take(quiet)  # the first one does not beat: it seems dead
    with pytest.raises(LostLeaseError):
        first.run(document)
    assert second.run(second.current())["state"] == documents.DONE


def test_a_registry_that_is_away_is_waited_for() -> None:
    cluster = Cluster(NAMES, OLD)
    said: list[str] = []
    driver = cluster.driver(said.append)
    document = begun(cluster, driver)
    cluster.away = (cluster.now + 100, cluster.now + 400)
    assert driver.run(document)["state"] == documents.DONE
    assert len([s for s in said if "does not answer" in s]) == 1
    assert len([s for s in said if "is back" in s]) == 1


@pytest.mark.parametrize("broken", [{}, {"id": "x"}, {"state": "flying"}])
def test_a_document_that_somebody_has_broken_is_told(broken: Document) -> None:
    cluster = Cluster(NAMES, OLD)
    document = begun(cluster, cluster.driver())
    cluster.write("m", TAG, {**document, **broken} if "state" in broken else broken)
    with pytest.raises(ClusterError, match="cannot be used"):
        cluster.driver().current()
    assert rolled(cluster)["state"] == documents.DONE, "another rollout takes its place"


FEW = {"requests": 50, "failures": 25, "probes": 0, "probe_p99_ms": None}
GOOD = {"requests": 1000, "failures": 0, "probes": 12, "probe_p99_ms": 10.0, "probe_slowest_ms": [9.0, 10.0]}


@pytest.mark.parametrize(
    ("canary", "words"),
    [
        (GOOD, ""),
        ({**GOOD, "failures": 9}, ""),
        ({**GOOD, "failures": 30}, "3.0% of 1000 requests failed"),
        (FEW, ""),
        ({**GOOD, "probe_p99_ms": 19.0, "probe_slowest_ms": [19.0] * 12}, ""),
        ({**GOOD, "probe_p99_ms": 500.0, "probe_slowest_ms": [9.0, 400.0, 500.0]}, ""),  # 2 of 12: 0.6 %
        (
            {**GOOD, "probe_slowest_ms": [9.0, 31.0, 32.0, 33.0]},  # 3 of 12: 0.02 %
            "3 of 12 golden requests took more than 20.0 ms; elsewhere the p99 is 10.0 ms",
        ),
        ({**GOOD, "probes": 1, "probe_slowest_ms": [500.0]}, ""),
        ({**GOOD, "probes": 500, "probe_slowest_ms": [31.0] * 11}, ""),
        ({**GOOD, "probes": 500, "probe_slowest_ms": [31.0] * 14}, "14 of 500"),
        ({**GOOD, "probes": 200_000, "probe_slowest_ms": [31.0] * 9_000}, "9000 of 200000"),
        ({"requests": 1000, "probe_p99_ms": 500.0}, ""),  # an agent that counts no probes
        ({}, ""),
    ],
)
def test_a_canary_is_compared_with_the_others(canary: dict[str, Any], words: str) -> None:
    others = [View(0.0, metrics=GOOD), View(0.0, metrics={})]
    assert compare([View(0.0, metrics=canary)], others).startswith(words)
    assert bool(compare([View(0.0, metrics=canary)], others)) is bool(words)


def test_a_canary_that_fails_requests_sends_the_rollout_back() -> None:
    cluster = Cluster(NAMES, OLD)
    for node in cluster.nodes.values():
        node.metrics = dict(GOOD)
    cluster.nodes["a"].metrics = {**GOOD, "failures": 200}
    done = rolled(cluster)
    assert done["state"] == documents.GONE_BACK
    assert "20.0% of 1000 requests failed" in done["reason"]


class Died(BaseException):
    """A driver is killed."""


@settings(max_examples=60, deadline=None)
@given(
    wrong=st.sets(st.sampled_from(NAMES), max_size=2),
    deaths=st.lists(st.integers(1, 25), max_size=4),
    canary=st.integers(1, 3),
    at_once=st.integers(1, 3),
    max_failed=st.integers(0, 1),
)
def test_whenever_the_driver_is_killed_the_next_one_ends_it_the_same_way(
    wrong: set[str], deaths: list[int], canary: int, at_once: int, max_failed: int
) -> None:
    cluster = Cluster(NAMES, OLD)
    for name in wrong:
        cluster.nodes[name].wrong = {NEW}
    document = begun(cluster, cluster.driver(), canary=canary, at_once=at_once, max_failed=max_failed)
    for steps in [*deaths, 0]:
        left = [steps]

        def write(tag: str, left: list[int] = left) -> None:
            _checked(cluster, canary)
            left[0] -= 1
            if left[0] == 0:
                raise Died

        cluster.on_write = write
        try:
            driver = cluster.driver()
            driver.lease.take(quiet)
            document = driver.run(driver.current())
            break
        except Died:
            continue
    shown = not set(NAMES[:canary]) <= wrong  # by one canary at least
    expected = documents.DONE if shown and len(wrong) <= max_failed else documents.GONE_BACK
    assert document["state"] == expected
    assert cluster.unproven() == []
    if expected == documents.GONE_BACK:
        assert cluster.everywhere(OLD)
    else:
        assert {n for n in NAMES if cluster.nodes[n].live == OLD} == wrong
        assert cluster.releases["m", "live"] == NEW


def _checked(cluster: Cluster, canary: int) -> None:
    """Nobody is allowed the target before the canaries have come to their end."""
    found = cluster.read("m", TAG)
    if found is None or len(found[1]["allowed"]) <= canary or found[1]["state"] != documents.RUNNING:
        return
    for name in found[1]["order"][:canary]:
        node = cluster.nodes[name]
        assert node.live == NEW or node.report["failed"] == NEW
