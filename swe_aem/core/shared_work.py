"""`SharedWork`: work that several callers wait for at once, and that none of them owns. `ended`: the end of a task."""

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


async def ended(task: asyncio.Task[None]) -> None:
    """Wait until a task has ended, however often the caller is cancelled meanwhile; only then is the cancellation
    raised. What the task raised is not."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
