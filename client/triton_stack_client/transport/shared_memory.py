"""System shared memory: a request's tensors in /dev/shm, where client and server share a host.

Each request in flight has a slot: a file that client and server both map, big enough for the model's
largest batch, inputs first and outputs behind them. Slots are reused. Whoever ends, and however, gives
them back: ``region_guard.py``, a process beside this one, unregisters and removes what a crash leaves.

A request that ends without an answer (a timeout, a cancelled task) leaves its slot in doubt: the server may
still write to it, and a server older than 2.50 that is told to unregister memory in use unmaps it and dies
of the next write. So such a slot is abandoned: its file goes at once, another takes its place, and it is
unregistered after a later answer, once that is safe. Pages that the server maps stay until then.
"""

from __future__ import annotations

import ipaddress
import mmap
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from triton_stack_client.contract import Contract
from triton_stack_client.errors import ClientError, ServerError
from triton_stack_client.transport.address import Address
from triton_stack_client.transport.protocol import NAMES

FOLDER = Path("/dev/shm")  # noqa: S108  (Linux's own place, and the one Triton opens)
MODES = ("auto", "system", "off")
_ALIGN = 64
_GUARD = "triton_stack_client.transport.region_guard"
# From this version on (container 24.09) Triton never unmaps a region that a request uses.
_PROTECTS = (2, 50)
_MARK = 8  # bytes at the start of each output that tell whether the server has written it
_SETTLE = 1.0  # seconds from the first byte of an answer to its last, at most
_GUARD_SECONDS = 5.0  # for the guard to end, when there is nothing that keeps it
_MOST_ABANDONED = 8  # beyond, tensors travel with the request until the server has answered some


class Slot:
    """Room for one request's tensors.

    Attributes:
        region: its name in /dev/shm and on the server.
        size: bytes.
        registered: whether the server has it registered, as far as we know.
    """

    def __init__(self, contract: Contract) -> None:
        self.region = f"triton-client-{os.getpid()}-{secrets.token_hex(6)}"
        self.registered = False
        self._mark = secrets.token_bytes(_MARK)
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
        fd = os.open(FOLDER / self.region, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            os.posix_fallocate(fd, 0, end)  # a full /dev/shm is an error now, not a SIGBUS later
            self._map = mmap.mmap(fd, end)
        except OSError:
            self.remove()
            raise
        finally:
            os.close(fd)

    def lend(
        self, module: Any, inputs: Mapping[str, np.ndarray], outputs: list[str]
    ) -> tuple[list[Any], list[Any]]:
        """Copy the inputs in; tritonclient's inputs and requested outputs that point there."""
        tensors, wanted = [], []
        for name, array in inputs.items():
            start, _ = self._places[name]
            np.frombuffer(self._map, array.dtype, array.size, start).reshape(array.shape)[...] = array
            tensor = module.InferInput(name, list(array.shape), NAMES[array.dtype.name])
            tensor.set_shared_memory(self.region, array.nbytes, start)
            tensors.append(tensor)
        self._marked = [self._places[name] for name in outputs]
        for start, size in self._marked:
            self._map[start : start + min(size, _MARK)] = self._mark[:size]
        for name in outputs:
            start, size = self._places[name]
            output = module.InferRequestedOutput(name)
            output.set_shared_memory(self.region, size, start)
            wanted.append(output)
        return tensors, wanted

    def take(self, answer: Any, name: str) -> np.ndarray:
        """A copy of an output of the answer."""
        output = answer.get_output(name)
        shape = [int(n) for n in (output["shape"] if isinstance(output, dict) else output.shape)]
        start, _ = self._places[name]
        view = np.frombuffer(self._map, self._types[name], int(np.prod(shape)), start)
        return np.array(view.reshape(shape))

    def answered(self) -> bool:
        """Whether the server has written every output of the last request, and has had time to finish."""
        if any(self._map[a : a + min(n, _MARK)] == self._mark[:n] for a, n in self._marked):
            return False
        if self._written_at is None:
            self._written_at = time.monotonic()
        return time.monotonic() - self._written_at > _SETTLE

    def remove(self) -> None:
        """Remove the file; the memory goes when the last one has unmapped it."""
        (FOLDER / self.region).unlink(missing_ok=True)


class Slots:
    """The slots of one model object.

    Args:
        mode: "off", "system", or "auto": system where the server is on this host and takes it.
        where: the server.

    Raises:
        ClientError: there is no such mode.
    """

    def __init__(self, mode: str, where: Address) -> None:
        if mode not in MODES:
            raise ClientError(f'shared memory "{mode}": it is one of {", ".join(MODES)}')
        self._must = mode == "system"
        self._where = where
        self._on = self._must or (mode == "auto" and _on_this_host(where.host))
        self._lock = threading.Lock()
        self._free: list[Slot] = []
        self._all: list[Slot] = []
        self._abandoned: list[Slot] = []
        self._protected: bool | None = None  # whether the server keeps what a request uses; None: not known
        self._guard: subprocess.Popen[bytes] | None = None

    def borrow(self, contract: Contract) -> Slot | None:
        """A slot of one's own; None where tensors travel with the request. Raises ClientError ("system")."""
        with self._lock:
            if not self._on:
                return None
            if self._free:
                return self._free.pop()
            free = [str(t) for t in (*contract.inputs, *contract.outputs) if -1 in t.dims]
            if free:  # a slot is made for the largest request, and nobody knows how large an answer gets
                reason = f"shared memory needs tensors of a fixed size, unlike {', '.join(free)}"
                self._off(reason, ValueError(reason))
                return None
            if len(self._abandoned) >= _MOST_ABANDONED:
                return None
            try:
                slot = Slot(contract)
            except OSError as e:
                self._off(f"{FOLDER} has no room for a request: {e.strerror}", e)
                return None
            self._guard_too(slot.region)
            self._all.append(slot)
            return slot

    def give_back(self, slot: Slot | None, *, clean: bool = True) -> None:
        """Let others have it; not ``clean`` when the server may still be writing to it."""
        if slot is None:
            return
        with self._lock:
            if clean:
                self._free.append(slot)
            else:
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
                self._tell("-", slot.region)

    def refused(self, slot: Slot, e: ServerError) -> Slot | None:
        """The server would not register it: go on without (mode "auto"), or raise."""
        if not e.refused or e.retriable:
            raise e
        self._off(f"the server cannot share memory with us: {e.found}", e)
        slot.remove()
        return None

    def registered(self) -> list[Slot]:
        """What the server has registered and no request uses."""
        return [
            s for s in self._all if s.registered and (s not in self._abandoned or s in self.reclaimable())
        ]

    def close(self) -> None:
        """Remove every file; the guard unregisters what is still ``registered``, and ends."""
        left = {s.region for s in self.registered()}
        for slot in self._all:
            slot.remove()
        guard, self._guard = self._guard, None
        if guard is not None and guard.stdin is not None:
            try:
                guard.stdin.writelines(f"-{s.region}\n".encode() for s in self._all if s.region not in left)
                guard.stdin.close()
            except OSError:
                pass  # it was killed; nothing else can be done from here
            with suppress(subprocess.TimeoutExpired):  # it may wait for requests that are still running
                guard.wait(_GUARD_SECONDS)
        self._all, self._free, self._abandoned = [], [], []

    def _off(self, found: str, cause: Exception) -> None:
        if self._must:
            raise ClientError(found, remedy="--shared-memory auto or off") from cause
        self._on = False

    def _guard_too(self, region: str) -> None:
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

    def _tell(self, sign: str, region: str) -> None:
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.write(f"{sign}{region}\n".encode())
            self._guard.stdin.flush()


def protects(metadata: Mapping[str, Any]) -> bool:
    """Whether a server with this metadata keeps memory that a request uses when told to unregister it."""
    numbers = str(metadata.get("version", "")).split(".")[:2]
    return all(n.isdigit() for n in numbers) and tuple(map(int, numbers)) >= _PROTECTS


def forgotten(slot: Slot | None, e: ServerError) -> None:
    """Mark the slot for registering anew when that is what the error asks for: the server was restarted."""
    if slot is not None and e.refused and "shared memory region" in e.found:
        slot.registered = False
        e.retriable = True


def _on_this_host(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
