"""A slot: shared memory for one request, in a file of /dev/shm or on a GPU, and the request that uses it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from triton_stack_client.contract import Contract
from triton_stack_client.transport import regions
from triton_stack_client.transport.cuda_memory import CudaMemory, DeviceArray
from triton_stack_client.transport.protocol import NAMES, Given
from triton_stack_client.transport.system_memory import SystemMemory

_ALIGN = 64
_MARK = 8  # bytes at the start of each output that tell whether the server has written it
_SETTLE = 1.0  # seconds from the first byte of an answer to its last, at most


class Slot:
    """Room for one request's tensors.

    Args:
        make: the memory, from a region's name and its size in bytes.

    Attributes:
        region: its name in /dev/shm and on the server.
        size: bytes.
        registered: whether the server has it registered, as far as we know.
        into: arrays of the caller that outputs of the request under way go to, by name.
    """

    def __init__(
        self, contract: Contract, make: Callable[[str, int], SystemMemory | CudaMemory] = SystemMemory
    ) -> None:
        self.region = regions.name()
        self.registered = False
        self.into: Mapping[str, DeviceArray] = {}
        self._mark = np.frombuffer(secrets.token_bytes(_MARK), np.uint8)
        self._marked: list[tuple[int, int]] = []
        self._written_at: float | None = None
        self._places: dict[str, tuple[int, int]] = {}
        end = 0
        for tensor in (*contract.inputs, *contract.outputs):
            size = tensor.nbytes(contract.max_batch)
            self._places[tensor.name] = (end, size)
            end += -(-size // _ALIGN) * _ALIGN
        self.size = end
        self._types = {t.name: t.numpy for t in contract.outputs}
        self.memory = make(self.region, end)

    def lend(
        self, module: Any, inputs: Mapping[str, Given], outputs: list[str]
    ) -> tuple[list[Any], list[Any]]:
        """Copy the inputs in; tritonclient's inputs and requested outputs that point there.

        What lies in memory of its own that the server has open (``DeviceArray``) is not copied.
        """
        tensors, wanted = [], []
        for name, array in inputs.items():
            region, start = self.region, self._places[name][0]
            if isinstance(array, DeviceArray):
                region, start = array.region, 0
            else:
                self.memory.write(start, array)
            tensor = module.InferInput(name, list(array.shape), NAMES[array.dtype.name])
            tensor.set_shared_memory(region, array.nbytes, start)
            tensors.append(tensor)
        self._marked = [self._places[name] for name in outputs if name not in self.into]
        for start, size in self._marked:
            self.memory.write(start, self._mark[:size])
        self.memory.settle()
        for name in outputs:
            region, (start, size) = self.region, self._places[name]
            if name in self.into:
                region, start, size = self.into[name].region, 0, self.into[name].nbytes
            output = module.InferRequestedOutput(name)
            output.set_shared_memory(region, size, start)
            wanted.append(output)
        return tensors, wanted

    def take(self, answer: Any, name: str) -> np.ndarray:
        """A copy of an output of the answer."""
        output = answer.get_output(name)
        shape = [int(n) for n in (output["shape"] if isinstance(output, dict) else output.shape)]
        start, _ = self._places[name]
        return self.memory.read(start, self._types[name], int(np.prod(shape))).reshape(shape)

    def answered(self) -> bool:
        """Whether the server has written every output of the last request, and has had time to finish."""
        for start, size in self._marked:
            mark = self._mark[:size]
            if np.array_equal(self.memory.read(start, mark.dtype, mark.size), mark):
                return False
        if self._written_at is None:
            self._written_at = time.monotonic()
        return time.monotonic() - self._written_at > _SETTLE

    def remove(self) -> None:
        """Give the memory back as far as that can be: it goes when the last one has given it up."""
        self.memory.remove(registered=self.registered)


@dataclass
class Call:
    """One request, with the shared memory that it uses.

    Attributes:
        inputs, outputs: arrays by name, and the names of what is asked for.
        slot: what was borrowed, and is to be given back.
        used: the slot, unless the server would not have it.
        into: where outputs are to go that stay on the GPU.
    """

    inputs: dict[str, Given]
    outputs: list[str]
    slot: Slot | None
    used: Slot | None
    into: Mapping[str, DeviceArray]

    @property
    def device_arrays(self) -> list[DeviceArray]:
        """The caller's arrays that the server reads and writes where they are."""
        return [a for a in (*self.inputs.values(), *self.into.values()) if isinstance(a, DeviceArray)]

    @property
    def regions(self) -> list[Slot | DeviceArray]:
        """All the memory that the server has to have open."""
        return [*([self.used] if self.used is not None else []), *self.device_arrays]

    def unregistered(self) -> list[Slot | DeviceArray]:
        """What the server does not have open yet."""
        return [r for r in self.regions if not r.registered]
