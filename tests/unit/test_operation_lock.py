"""One operation at a time; one that has a set-up of its own waits for another's."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import pytest
from ops import operation_lock
from ops.errors import OpsError
from ops.settings import Settings, load


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return dataclasses.replace(load({}), models_dir=tmp_path)


class Holder(threading.Thread):
    """Another `up`: at its set-up until ``made``, then at its work until ``done``."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.began, self.made, self.works, self.done = (threading.Event() for _ in range(4))
        self._settings = settings

    def run(self) -> None:
        with operation_lock.held(self._settings, "up", setup=self._set_up):
            self.works.set()
            self.done.wait(20)

    def _set_up(self) -> None:
        self.began.set()
        self.made.wait(20)


def test_a_second_up_says_that_it_waits_for_the_first_s_set_up_and_both_get_their_turn(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    waits = threading.Event()
    monkeypatch.setattr(operation_lock.console, "progress", lambda text: (said.append(text), waits.set()))
    first = Holder(settings)
    first.start()
    assert first.began.wait(10)
    order = []

    def second() -> None:
        with operation_lock.held(settings, "up", setup=lambda: order.append("set-up")):
            order.append("work")

    other = threading.Thread(target=second)
    other.start()
    assert waits.wait(10)
    first.made.set()
    assert first.works.wait(10), "the first one is not kept from its work"
    other.join(0.5)
    assert order == [], "the second waits until the first is done with everything"
    first.done.set()
    first.join(10)
    other.join(10)
    assert order == ["set-up", "work"]
    assert [text.startswith("waiting for the set-up of up by ") for text in said] == [True]


def test_others_are_refused_at_once_also_during_a_set_up(settings: Settings) -> None:
    first = Holder(settings)
    first.start()
    assert first.began.wait(10)
    with pytest.raises(OpsError, match="another operation is under way: set-up of up by"):
        operation_lock.held(settings, "redeploy").__enter__()
    first.made.set()
    assert first.works.wait(10)
    with pytest.raises(OpsError, match="another operation is under way: up by"):
        operation_lock.held(settings, "up", setup=lambda: None).__enter__()
    first.done.set()
    first.join(10)
    with operation_lock.held(settings, "redeploy"):
        pass
