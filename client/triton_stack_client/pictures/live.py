"""What each model's live version takes and what its classes are called, kept up to date.

A request names the version that it was made for, so labels are always those of the version that answered.
When a redeploy has taken that version away, Triton refuses the request, and it is made anew for the next one.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from triton_stack_client.classify import task
from triton_stack_client.classify.task import Task
from triton_stack_client.contract import Contract
from triton_stack_client.transport.address import Address
from triton_stack_client.transport.protocol import AsyncConnection, Connection

_FRESH_SECS = 5.0  # a server may come back with another volume, where the same number is another release


class Live:
    """The tasks of a server's models; used by one event loop.

    Only models that the server knows are kept, so their number is the server's.
    """

    def __init__(
        self, connection: AsyncConnection, where: Address, models_dir: Path | None, timeout: float
    ) -> None:
        self._connection = connection
        self._where = where
        self._models_dir = models_dir
        self._timeout = timeout
        self._known: dict[str, tuple[Task, float]] = {}
        self._asked: dict[str, asyncio.Task[Task]] = {}

    async def task(self, name: str, *, not_version: int | None = None) -> Task:
        """A model's task; never the one of ``not_version`` that was kept, but what the server says now.

        Raises:
            ContractError: the model does not classify pictures.
            ServerError: the server does not answer, or does not know the model.
        """
        if name in self._known:
            known, asked = self._known[name]
            if known.contract.version != not_version:
                if time.monotonic() - asked > _FRESH_SECS:
                    self._ask(name)
                return known
        return await asyncio.shield(self._ask(name))

    def knows(self, name: str) -> bool:
        """Whether the server was ever seen to have the model."""
        return name in self._known

    def _ask(self, name: str) -> asyncio.Task[Task]:
        """One question at a time for each model, whoever waits for the answer."""
        if name not in self._asked:
            asking = asyncio.create_task(self._find(name))
            self._asked[name] = asking
            asking.add_done_callback(lambda done: self._answered(name, done))
        return self._asked[name]

    def _answered(self, name: str, done: asyncio.Task[Task]) -> None:
        del self._asked[name]
        if not done.cancelled() and done.exception() is None:
            self._known[name] = done.result(), time.monotonic()

    async def _find(self, name: str) -> Task:
        while True:
            version = await self._version(name)
            metadata = await self._connection.metadata(name, version)
            config = await self._connection.config(name, version)
            contract = Contract.of(metadata | {"versions": [str(version)]}, config)
            found = await asyncio.to_thread(self._describe, contract)
            # Labels that the server tells are those of whatever version answered it.
            if await self._version(name) == version:
                return found

    async def _version(self, name: str) -> int:
        return max(map(int, (await self._connection.metadata(name)).get("versions", [])), default=0)

    def _describe(self, contract: Contract) -> Task:
        found = task.from_volume(self._models_dir, contract) if self._models_dir else None
        if found is not None:
            return found
        connection = Connection(self._where.protocol, self._where.host_port, self._timeout)
        try:
            return task.from_server(connection, contract)
        finally:
            connection.close()
