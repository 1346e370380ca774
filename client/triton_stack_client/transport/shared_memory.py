"""System shared memory: a request's tensors in /dev/shm, where client and server share a host.

Each request in flight has a slot: a file that client and server both map, big enough for the model's
largest batch, inputs first and outputs behind them. Slots are reused. Whoever ends, and however, gives
them back: ``region_guard.py``, a process beside this one, unregisters and removes what a crash leaves.
"""

from __future__ import annotations

import ipaddress
import mmap
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Mapping
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


class Slot:
    """Room for one request's tensors.

    Attributes:
        region: its name in /dev/shm and on the server.
        size: bytes.
        known: whether the server has it registered, as far as we know.
    """

    def __init__(self, contract: Contract) -> None:
        self.region = f"triton-client-{os.getpid()}-{secrets.token_hex(6)}"
        self.known = False
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
        self._on = self._must or (mode == "auto" and _here(where.host))
        self._lock = threading.Lock()
        self._free: list[Slot] = []
        self._all: list[Slot] = []
        self._watcher: subprocess.Popen[bytes] | None = None

    def borrow(self, contract: Contract) -> Slot | None:
        """A slot of one's own; None where tensors go over the wire. Raises ClientError in mode "system"."""
        with self._lock:
            if not self._on:
                return None
            if self._free:
                return self._free.pop()
            try:
                slot = Slot(contract)
            except OSError as e:
                self._off(f"{FOLDER} has no room for a request: {e.strerror}", e)
                return None
            self._watch(slot.region)
            self._all.append(slot)
            return slot

    def give_back(self, slot: Slot | None, *, clean: bool = True) -> None:
        """Let others have it; not ``clean`` when the server may still be writing to it."""
        if slot is not None and clean:
            with self._lock:
                self._free.append(slot)

    def refused(self, slot: Slot, e: ServerError) -> Slot | None:
        """The server would not register it: go on without (mode "auto"), or raise."""
        if not e.refused or e.again:
            raise e
        self._off(f"the server cannot share memory with us: {e.found}", e)
        slot.remove()
        return None

    def known(self) -> list[Slot]:
        """What the server still has registered."""
        return [s for s in self._all if s.known]

    def close(self) -> None:
        """Remove every file; the watcher unregisters what is still ``known``, and ends."""
        for slot in self._all:
            slot.remove()
        watcher, self._watcher = self._watcher, None
        if watcher is not None and watcher.stdin is not None:
            left = {s.region for s in self.known()}
            try:
                watcher.stdin.writelines(f"-{s.region}\n".encode() for s in self._all if s.region not in left)
                watcher.stdin.close()
            except OSError:
                pass  # it was killed; nothing else can be done from here
            watcher.wait()
        self._all, self._free = [], []

    def _off(self, found: str, cause: Exception) -> None:
        if self._must:
            raise ClientError(found, remedy="--shared-memory auto or off") from cause
        self._on = False

    def _watch(self, region: str) -> None:
        if self._watcher is None:
            root = str(Path(__file__).resolve().parents[2])
            self._watcher = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "triton_stack_client.transport.region_guard",
                    self._where.protocol,
                    self._where.host_port,
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])},
                start_new_session=True,  # a Ctrl-C is ours, and it must outlive us
            )
        if self._watcher.stdin is not None:
            self._watcher.stdin.write(f"+{region}\n".encode())
            self._watcher.stdin.flush()


def forgotten(slot: Slot | None, e: ServerError) -> None:
    """Mark the slot for registering anew when that is what the error asks for: the server was restarted."""
    if slot is not None and e.refused and "shared memory region" in e.found:
        slot.known = False
        e.again = True


def _here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
