"""A served model as an object: what people import into their own services.

    from triton_stack_client import Model

    with Model("resnet50", url="grpc://127.0.0.1:8001") as model:
        probabilities = model.predict(pixels)  # uint8 [n, 224, 224, 3] -> float32 [n, 1000]

``AsyncModel`` is the same for asyncio. Both ask the server for the model's contract once, check arrays
against it before anything travels, and keep their connection.

A prediction changes nothing on the server, so a request that it has not answered (it is not there, it
is restarting, it swaps the model) is sent again until ``timeout`` has passed; a refusal never is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np

from triton_stack_client.contract import Contract
from triton_stack_client.errors import ServerError
from triton_stack_client.transport import address
from triton_stack_client.transport import shared_memory as system_memory
from triton_stack_client.transport.cuda_memory import DeviceArray
from triton_stack_client.transport.protocol import Arrays, AsyncConnection, Connection
from triton_stack_client.transport.slot import Call, Slot

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0  # seconds between two tries


class _Tries:
    """One call's deadline, and the growing pauses between its tries."""

    def __init__(self, timeout: float) -> None:
        self._deadline = time.monotonic() + timeout
        self._pause = _FIRST_PAUSE

    @property
    def left(self) -> float:
        """Seconds until the deadline, never quite none."""
        return max(self._deadline - time.monotonic(), 0.001)

    def pause(self, e: ServerError) -> float:
        """Seconds to wait before the next try; raises ``e`` when there is to be none."""
        pause = self._pause
        if not e.retriable or time.monotonic() + pause > self._deadline:
            raise e
        self._pause = min(pause * 2, _LONGEST_PAUSE)
        return pause


class Model:
    """A model on a server, blocking.

    Args:
        name: the model's name on the server.
        url: ``http://host:port``, ``grpc://host:port`` or ``host:port``; by default TRITON_HOST with
            HTTP_PORT or GRPC_PORT.
        protocol: "http" or "grpc" (the default), where ``url`` does not say.
        version: a version number; the live one by default, whatever it is at each request.
        timeout: seconds for each call, tries included.
        shared_memory: "off", "system" (client and server share /dev/shm), "cuda" (they share a GPU's memory)
            or "auto" (the best of them that can be had).

    A gRPC model may be shared by threads, an HTTP model belongs to one.

    Raises:
        ClientError: the URL cannot be read, or tritonclient is not installed for the protocol.
    """

    def __init__(
        self,
        name: str,
        *,
        url: str | None = None,
        protocol: str | None = None,
        version: int | None = None,
        timeout: float = 60.0,
        shared_memory: str = "off",
    ) -> None:
        where = address.resolve(url, protocol)
        self.name = name
        self._version = version
        self._timeout = timeout
        self._connection = Connection(where.protocol, where.host_port, timeout)
        self._contract: Contract | None = None
        self._slots = system_memory.Slots(shared_memory, where)

    @property
    def contract(self) -> Contract:
        """Inputs, outputs and limits, asked from the server once.

        Raises:
            ServerError: no answer within the timeout, or the server does not know the model.
            ContractError: the model is of a kind this client cannot speak to.
        """
        if self._contract is None:
            tries = _Tries(self._timeout)
            while self._contract is None:
                try:
                    metadata = self._connection.metadata(self.name, self._version)
                    config = self._connection.config(self.name, self._version)
                    self._contract = Contract.of(metadata, config)
                except ServerError as e:
                    time.sleep(tries.pause(e))
        return self._contract

    def predict(self, batch: Any) -> np.ndarray:
        """Run one batch through a model with one input and one output.

        Args:
            batch: [n, *dims] in the input's own dtype, 1 <= n <= contract.max_batch; NumPy's, or on a GPU as
                for ``infer``.

        Returns:
            [n, *dims] in the output's dtype.

        Raises:
            ContractError: the array does not fit, or the model has several inputs or outputs.
            ServerError: no answer within the timeout, or the server refused the request.
        """
        given, got = self.contract.single()
        return self.infer({given.name: batch})[got.name]

    def infer(self, inputs: Mapping[str, Any], *, into: Mapping[str, DeviceArray] | None = None) -> Arrays:
        """Run one batch: every input by name to every output by name; see ``predict``.

        Where GPU memory is shared with the server, an input may lie on that GPU, of any library that speaks
        DLPack or ``__cuda_array_interface__``: it is copied once within the GPU. What lies in a
        ``device_array`` is not copied at all.

        Args:
            into: outputs that are to stay on the GPU, and where; the others are returned.
        """
        call = self._slots.call(self.contract, inputs, into)
        clean = False
        try:
            answer = self._request(call)
        except ServerError as e:
            clean = e.refused
            raise
        else:
            clean = True
        finally:
            self._slots.give_back(call.slot, clean=clean, arrays=call.device_arrays)
        self._reclaim()
        return answer

    def device_array(self, name: str, count: int) -> DeviceArray:
        """GPU memory for ``count`` samples of an input or output, which the server has open too.

        It is the model's until ``close``. With ``shared_memory`` "cuda", or "auto" where a GPU is shared.

        Raises:
            ContractError: the model has no such tensor, or takes no such batch.
            ClientError: GPU memory cannot be shared with the server.
        """
        return self._slots.array(self.contract, name, count)

    def _reclaim(self) -> None:
        """Unregister what earlier requests left in doubt, where that is safe by now."""
        try:
            if self._slots.asks_version:
                self._slots.version(self._connection.server())
            for slot in self._slots.reclaimable():
                self._connection.unregister(slot.region, slot.memory.kind)
                self._slots.drop(slot)
        except ServerError:
            pass  # it is still in use, or the server has gone: there will be another answer

    def _request(self, call: Call) -> Arrays:
        tries = _Tries(self._timeout)
        while True:
            try:
                for region in call.unregistered():
                    self._register(call, region)
                return self._connection.infer(
                    self.name, self._version, call.inputs, call.outputs, timeout=tries.left, slot=call.used
                )
            except ServerError as e:
                system_memory.forgotten(call.regions, e)
                time.sleep(tries.pause(e))

    def _register(self, call: Call, region: Slot | DeviceArray) -> None:
        try:
            self._connection.register(region)
        except ServerError as e:
            self._slots.refused(region, e)
            call.used = None
        else:
            region.registered = True

    def close(self) -> None:
        """Give shared memory back and close the connection."""
        self._reclaim()
        for slot in self._slots.registered():
            try:
                self._connection.unregister(slot.region, slot.memory.kind)
            except ServerError:
                continue  # the guard tries again after us
            slot.registered = False
        self._slots.close()
        self._connection.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncModel:
    """A model on a server, for asyncio; see ``Model`` for the arguments and the errors.

    Any number of calls may be in flight at once, all over the same connection.
    """

    def __init__(
        self,
        name: str,
        *,
        url: str | None = None,
        protocol: str | None = None,
        version: int | None = None,
        timeout: float = 60.0,
        shared_memory: str = "off",
    ) -> None:
        self.name = name
        self._where = address.resolve(url, protocol)
        self._version = version
        self._timeout = timeout
        self._open: AsyncConnection | None = None
        self._contract: Contract | None = None
        self._slots = system_memory.Slots(shared_memory, self._where)

    @property
    def _connection(self) -> AsyncConnection:
        if self._open is None:  # not in __init__: it needs the running event loop
            self._open = AsyncConnection(self._where.protocol, self._where.host_port, self._timeout)
        return self._open

    async def contract(self) -> Contract:
        """See ``Model.contract``."""
        if self._contract is None:
            tries = _Tries(self._timeout)
            while self._contract is None:
                try:
                    metadata = await self._connection.metadata(self.name, self._version)
                    config = await self._connection.config(self.name, self._version)
                    self._contract = Contract.of(metadata, config)
                except ServerError as e:
                    await asyncio.sleep(tries.pause(e))
        return self._contract

    async def predict(self, batch: Any) -> np.ndarray:
        """See ``Model.predict``."""
        given, got = (await self.contract()).single()
        return (await self.infer({given.name: batch}))[got.name]

    async def infer(
        self, inputs: Mapping[str, Any], *, into: Mapping[str, DeviceArray] | None = None
    ) -> Arrays:
        """See ``Model.infer``."""
        call = self._slots.call(await self.contract(), inputs, into)
        clean = False
        try:
            answer = await self._request(call)
        except ServerError as e:
            clean = e.refused
            raise
        else:
            clean = True
        finally:
            self._slots.give_back(call.slot, clean=clean, arrays=call.device_arrays)
        await self._reclaim()
        return answer

    async def device_array(self, name: str, count: int) -> DeviceArray:
        """See ``Model.device_array``."""
        return self._slots.array(await self.contract(), name, count)

    async def _reclaim(self) -> None:
        """See ``Model._reclaim``."""
        try:
            if self._slots.asks_version:
                self._slots.version(await self._connection.server())
            for slot in self._slots.reclaimable():
                await self._connection.unregister(slot.region, slot.memory.kind)
                self._slots.drop(slot)
        except ServerError:
            pass

    async def _request(self, call: Call) -> Arrays:
        tries = _Tries(self._timeout)
        while True:
            try:
                for region in call.unregistered():
                    await self._register(call, region)
                return await self._connection.infer(
                    self.name, self._version, call.inputs, call.outputs, timeout=tries.left, slot=call.used
                )
            except ServerError as e:
                system_memory.forgotten(call.regions, e)
                await asyncio.sleep(tries.pause(e))

    async def _register(self, call: Call, region: Slot | DeviceArray) -> None:
        try:
            await self._connection.register(region)
        except ServerError as e:
            self._slots.refused(region, e)
            call.used = None
        else:
            region.registered = True

    async def close(self) -> None:
        """Give shared memory back and close the connections."""
        if self._open is not None:
            await self._reclaim()
        for slot in self._slots.registered():
            try:
                await self._connection.unregister(slot.region, slot.memory.kind)
            except ServerError:
                continue  # the guard tries again after us
            slot.registered = False
        self._slots.close()
        if self._open is not None:
            await self._open.close()

    async def __aenter__(self) -> AsyncModel:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
