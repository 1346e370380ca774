"""Shared memory: a request's tensors in /dev/shm, where client and server share a host, or on a shared GPU.

Each request in flight has a slot: a file that client and server both map, or an allocation on the GPU that
both have open, big enough for the model's largest batch, inputs first and outputs behind them. Slots are
reused. Whoever ends, and however, gives them back: ``region_guard.py``, a process beside this one,
unregisters and removes what a crash leaves; what is left of both, the next client removes.

A request that ends without an answer (a timeout, a cancelled task) leaves its slot in doubt: the server may
still write to it, and a server older than 2.50 that is told to unregister memory in use unmaps it and dies
of the next write. So such a slot is abandoned: its file goes at once, another takes its place, and it is
unregistered after a later answer, once that is safe. Pages that the server maps, and a GPU's memory, stay
until then.
"""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from triton_stack_client.contract import Contract
from triton_stack_client.errors import ClientError, ContractError, ServerError
from triton_stack_client.transport import cuda_driver, cuda_memory, dlpack
from triton_stack_client.transport.address import Address
from triton_stack_client.transport.cuda_driver import CudaError
from triton_stack_client.transport.cuda_memory import CudaMemory, DeviceArray
from triton_stack_client.transport.dlpack import GpuArray
from triton_stack_client.transport.slot import Call, Slot
from triton_stack_client.transport.system_memory import FOLDER, SystemMemory

MODES = ("auto", "cuda", "system", "off")
_GUARD = "triton_stack_client.transport.region_guard"
# From this version on (container 24.09) Triton never unmaps a region that a request uses.
_PROTECTS = (2, 50)
_GUARD_SECONDS = 5.0  # for the guard to end, when there is nothing that keeps it
_MOST_ABANDONED = 8  # beyond, tensors travel with the request until the server has answered some


class Slots:
    """The slots of one model object.

    Args:
        mode: "off", "system", "cuda", or "auto": cuda where the server is on this host and uses a GPU that
            this process sees too, else system where it is on this host; and neither where it is not taken.
        where: the server.

    Raises:
        ClientError: there is no such mode.
    """

    def __init__(self, mode: str, where: Address) -> None:
        if mode not in MODES:
            raise ClientError(f'shared memory "{mode}": it is one of {", ".join(MODES)}')
        self._mode = mode
        self._must = mode in ("system", "cuda")
        self._where = where
        # What is tried, the best first.
        self._kinds = [mode] if self._must else []
        if mode == "auto" and _on_this_host(where.host):
            self._kinds = ["cuda", "system"]
        self._gpu: tuple[cuda_driver.Context, int] | None = None  # and its number in the server
        self._arrays: list[DeviceArray] = []
        self._lock = threading.Lock()
        self._free: list[Slot] = []
        self._all: list[Slot] = []
        self._abandoned: list[Slot] = []
        self._protected: bool | None = None  # whether the server keeps what a request uses; None: not known
        self._guard: subprocess.Popen[bytes] | None = None

    def call(
        self, contract: Contract, inputs: Mapping[str, Any], into: Mapping[str, DeviceArray] | None
    ) -> Call:
        """A request, checked against the contract.

        Raises:
            ContractError: an array does not fit the model, or the memory that it lies in.
            ClientError: shared memory of the kind that was asked for by name cannot be had.
        """
        arrays = contract.check(self.given(inputs))
        count = next(iter(arrays.values())).shape[0]
        into = into or {}
        cuda_memory.fit(into, {t.name: ((count, *t.dims), t.numpy) for t in contract.outputs})
        slot = self.borrow(contract)
        if slot is None and (into or any(isinstance(a, GpuArray) for a in arrays.values())):
            raise cuda_memory.unavailable("requests without an answer hold all that may be shared")
        if slot is not None:
            slot.into = into
        return Call(arrays, [t.name for t in contract.outputs], slot, slot, into)

    def borrow(self, contract: Contract) -> Slot | None:
        """A slot of one's own; None where tensors travel with the request.

        Raises:
            ClientError: there is none of the kind that was asked for by name.
        """
        with self._lock:
            if not self._kinds:
                return None
            if self._free:
                return self._free.pop()
            free = [str(t) for t in (*contract.inputs, *contract.outputs) if -1 in t.dims]
            if free:  # a slot is made for the largest request, and nobody knows how large an answer gets
                reason = f"shared memory needs tensors of a fixed size, unlike {', '.join(free)}"
                for kind in list(self._kinds):
                    self._off(kind, reason, ValueError(reason))
                return None
            if len(self._abandoned) >= _MOST_ABANDONED:
                return None
            slot = self._make(contract)
            if slot is not None:
                self._guard_too(slot)
                self._all.append(slot)
            return slot

    def _make(self, contract: Contract) -> Slot | None:
        """A slot of the best kind that can be had."""
        while self._kinds:
            kind = self._kinds[0]
            try:
                return Slot(contract, self._cuda_memory if kind == "cuda" else SystemMemory)
            except CudaError as e:
                self._off(kind, f"GPU memory cannot be shared with the server: {e}", e)
            except OSError as e:
                self._off(kind, f"{FOLDER} has no room for a request: {e.strerror}", e)
        return None

    def _cuda_memory(self, _: str, size: int) -> CudaMemory:
        return CudaMemory(*self._shared_gpu(), size)

    def _shared_gpu(self) -> tuple[cuda_driver.Context, int]:
        if "cuda" not in self._kinds:
            raise CudaError(f'this is shared memory "{self._mode}"')
        if self._gpu is None:
            ordinal, device = cuda_memory.shared_gpu(self._where, sure=self._mode == "auto")
            self._gpu = cuda_driver.context(ordinal), device
        return self._gpu

    def array(self, contract: Contract, name: str, count: int) -> DeviceArray:
        """GPU memory for ``count`` samples of a tensor; see ``Model.device_array``."""
        tensor = next((t for t in (*contract.inputs, *contract.outputs) if t.name == name), None)
        if tensor is None or -1 in tensor.dims or not 1 <= count <= contract.max_batch:
            known = ", ".join(str(t) for t in (*contract.inputs, *contract.outputs))
            raise ContractError(
                f'{contract.model} has no tensor "{name}" of {count} samples',
                expected=f"n from 1 to {contract.max_batch}, and fixed sizes: {known}",
            )
        with self._lock:
            try:
                gpu, device = self._shared_gpu()
                array = DeviceArray(gpu, device, (count, *tensor.dims), tensor.numpy)
            except CudaError as e:
                raise cuda_memory.unavailable(e) from e
            self._guard_too(array)
            self._arrays.append(array)
            return array

    def given(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs, with other libraries' arrays on the GPU as what can be checked and copied.

        Raises:
            ContractError: one lies on a GPU, and GPU memory is not shared with the server.
        """
        found = dict(inputs)
        for name, array in inputs.items():
            if not dlpack.on_gpu(array):
                continue
            try:
                gpu, _ = self._shared_gpu()
            except CudaError as e:
                raise ContractError(
                    f"{name} lies on a GPU, and GPU memory is not shared with the server: {e}",
                    remedy='shared_memory="cuda", or copy it to a NumPy array',
                ) from e
            found[name] = dlpack.foreign(name, array, gpu)
        for array in found.values():
            if isinstance(array, DeviceArray):
                array.memory.gpu.wait_for_all()  # a framework may still be writing to it
        return found

    def give_back(self, slot: Slot | None, *, clean: bool = True, arrays: Iterable[DeviceArray] = ()) -> None:
        """Let others have it; not ``clean`` when the server may still use it and the request's ``arrays``."""
        if slot is None:
            return
        slot.into = {}
        for array in arrays:
            array.in_doubt = not clean
        with self._lock:
            if clean:
                if slot.memory.kind not in self._kinds:  # refused: there are to be no more of these
                    return
                self._free.append(slot)
            else:
                if slot.memory.kind == "system":
                    slot.remove()
                self._abandoned.append(slot)

    @property
    def asks_version(self) -> bool:
        """Whether the server's version has to be told to ``version`` before anything abandoned can go."""
        return bool(self._abandoned) and self._protected is None

    def version(self, metadata: Mapping[str, Any]) -> None:
        """The server's own metadata, which says how old it is."""
        self._protected = protects(metadata)

    def reclaimable(self) -> list[Slot]:
        """Abandoned slots that may be unregistered now. The server may refuse while it still uses one."""
        with self._lock:
            return [s for s in self._abandoned if self._protected or s.answered()]

    def drop(self, slot: Slot) -> None:
        """Forget a slot that the server has unregistered; what it took in memory is free."""
        with self._lock:
            if slot in self._abandoned:
                self._abandoned.remove(slot)
                self._all.remove(slot)
                slot.registered = False
                self._tell("-", slot)
                slot.remove()

    def refused(self, region: Slot | DeviceArray, e: ServerError) -> Slot | None:
        """The server would not register it: go on without (mode "auto"), or raise."""
        if not e.refused or e.retriable:
            raise e
        if isinstance(region, DeviceArray):
            raise cuda_memory.unavailable(e.found) from e
        self._off(region.memory.kind, f"the server cannot share memory with us: {e.found}", e)
        region.remove()
        return None

    def registered(self) -> list[Slot | DeviceArray]:
        """What the server has registered and no request uses."""
        slots = [
            s for s in self._all if s.registered and (s not in self._abandoned or s in self.reclaimable())
        ]
        arrays = [a for a in self._arrays if a.registered and (self._protected or not a.in_doubt)]
        return [*slots, *arrays]

    def close(self) -> None:
        """Remove every file; the guard unregisters what is still ``registered``, and ends."""
        left = {s.region for s in self.registered()}
        every: list[Slot | DeviceArray] = [*self._all, *self._arrays]
        for region in every:
            region.memory.remove(registered=region.registered)
        guard, self._guard = self._guard, None
        if guard is not None and guard.stdin is not None:
            try:
                guard.stdin.writelines(_line("-", r) for r in every if not _stays(r, left))
                guard.stdin.close()
            except OSError:
                pass  # it was killed; nothing else can be done from here
            with suppress(subprocess.TimeoutExpired):  # it may wait for requests that are still running
                guard.wait(_GUARD_SECONDS)
        self._all, self._free, self._abandoned, self._arrays = [], [], [], []

    def _off(self, kind: str, found: str, cause: Exception) -> None:
        """No more of this kind; raises ClientError where it was asked for by name."""
        if self._must:
            raise ClientError(found, remedy="--shared-memory auto or off") from cause
        self._kinds = [k for k in self._kinds if k != kind]

    def _guard_too(self, region: Slot | DeviceArray) -> None:
        if self._guard is None:
            root = str(Path(__file__).resolve().parents[2])
            self._guard = subprocess.Popen(
                [sys.executable, "-m", _GUARD, self._where.protocol, self._where.host_port],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])},
                start_new_session=True,  # a Ctrl-C is ours, and it must outlive us
            )
        self._tell("+", region)

    def _tell(self, sign: str, region: Slot | DeviceArray) -> None:
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.write(_line(sign, region))
            self._guard.stdin.flush()


def protects(metadata: Mapping[str, Any]) -> bool:
    """Whether a server with this metadata keeps memory that a request uses when told to unregister it."""
    numbers = str(metadata.get("version", "")).split(".")[:2]
    return all(n.isdigit() for n in numbers) and tuple(map(int, numbers)) >= _PROTECTS


def forgotten(regions: Iterable[Slot | DeviceArray], e: ServerError) -> None:
    """Mark them for registering anew when that is what the error asks for: the server was restarted."""
    if e.refused and "shared memory region" in e.found:
        for region in regions:
            region.registered = False
            e.retriable = True


def _stays(region: Slot | DeviceArray, left: set[str]) -> bool:
    """Whether the guard has still to unregister it."""
    return region.region in left or (region.memory.kind == "cuda" and region.registered)


def _line(sign: str, region: Slot | DeviceArray) -> bytes:
    """What the guard reads."""
    return f"{sign}{region.memory.kind} {region.region}\n".encode()


def _on_this_host(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
