"""`SharedWork`: work that several callers wait for at once, and that none of them owns."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class SharedWork(Generic[T]):
    """Runs the work of a key once for all who ask for it meanwhile. A caller that is cancelled leaves it running.

    An async context manager: what still runs when it is left is cancelled, and has ended afterwards.
    """

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Task[T]] = {}

    async def __aenter__(self) -> "SharedWork[T]":
        return self

    async def __aexit__(self, *exc: object) -> None:
        running = list(self._running.values())
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    async def of(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """What the running work of the key returns or raises; `work` is begun if there is none."""
        if key not in self._running:
            self._running[key] = asyncio.create_task(self._run(key, work))
        return await asyncio.shield(self._running[key])

    async def _run(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        try:
            return await work()
        finally:
            del self._running[key]
