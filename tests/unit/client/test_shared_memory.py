"""What decides when shared memory may be unregistered: the server's version, and its answer in the memory."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from triton_stack_client.contract import Contract
from triton_stack_client.transport import slot as slots
from triton_stack_client.transport import system_memory
from triton_stack_client.transport.shared_memory import protects
from triton_stack_client.transport.slot import Slot

METADATA = {
    "name": "m",
    "versions": ["1"],
    "inputs": [{"name": "x", "datatype": "UINT8", "shape": [-1, 4]}],
    "outputs": [{"name": n, "datatype": "FP32", "shape": [-1, size]} for n, size in (("y", 1), ("z", 8))],
}


@pytest.mark.parametrize(
    ("version", "safe"),
    [("2.28.0", False), ("2.49.0", False), ("2.50.0", True), ("2.51.0", True), ("3.0.0", True), ("", False)],
)
def test_older_servers_are_known_to_unmap_what_is_in_use(version: str, safe: bool) -> None:
    assert protects({"version": version}) is safe


class Tensor:
    """tritonclient's InferInput and InferRequestedOutput, as far as a slot uses them."""

    def __init__(self, *_: Any) -> None:
        pass

    def set_shared_memory(self, *_: Any) -> None:
        """The server is not there."""


def test_a_slot_is_answered_when_every_output_was_written_some_time_ago(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system_memory, "FOLDER", tmp_path)
    now = [100.0]
    monkeypatch.setattr(slots, "time", SimpleNamespace(monotonic=lambda: now[0]))
    slot = Slot(Contract.of(METADATA, {"max_batch_size": 2}))
    module = SimpleNamespace(InferInput=Tensor, InferRequestedOutput=Tensor)
    slot.lend(module, {"x": np.ones((1, 4), np.uint8)}, ["y", "z"])
    server = np.memmap(tmp_path / slot.region, np.uint8)
    assert not slot.answered()
    starts = {name: start for name, (start, _) in slot._places.items()}
    server[starts["y"] : starts["y"] + 4] = 0  # one sample of one number: shorter than a mark
    now[0] += 100
    assert not slot.answered(), "z is not written yet"
    server[starts["z"] : starts["z"] + 32] = 0
    assert not slot.answered(), "the last byte may still be on its way"
    now[0] += 2
    assert slot.answered()
