"""A sandbox that starts in the background, so that nobody waits for it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from swe_aem.core import Sandbox, SandboxBackend, SandboxSpec
from swe_aem.core.shared_work import ended

logger = logging.getLogger(__name__)


class PrestartedSandbox:
    """Opens a sandbox in a task of its own when the context is entered; closes it when the context is left.

    The task both enters and leaves the backend's context, and leaving waits for it even if it is cancelled meanwhile,
    so that no sandbox outlives this object.
    """

    def __init__(
        self,
        backend: SandboxBackend,
        spec: SandboxSpec,
        choose: Callable[[SandboxSpec], Awaitable[SandboxSpec]] | None = None,
    ) -> None:
        """`choose` may change the spec before the start, e.g. to one with a kept layer."""
        self._backend = backend
        self._spec = spec
        self._choose = choose
        self._opened: asyncio.Future[Sandbox] = asyncio.get_running_loop().create_future()
        self._done = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "PrestartedSandbox":
        self._task = asyncio.create_task(self._hold())
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._task is not None
        self._done.set()
        if not self._opened.done():
            self._task.cancel()
        try:
            await ended(self._task)
        finally:
            if self._opened.done() and not self._opened.cancelled():
                self._opened.exception()  # a failed start that nobody asked for is not reported
        if not self._task.cancelled() and (failure := self._task.exception()) is not None:
            # A failed end must not take a verdict back: the work is done, and `prune` removes the sandbox later.
            logger.warning("a sandbox of %s did not end well", self._spec.image, exc_info=failure)

    async def ready(self) -> Sandbox:
        """The sandbox, as soon as it has started; raises what its start raised (`StartError`, `UserError`)."""
        return await asyncio.shield(self._opened)

    async def _hold(self) -> None:
        try:
            spec = await self._choose(self._spec) if self._choose else self._spec
            async with self._backend.open(spec) as sandbox:
                self._opened.set_result(sandbox)
                await self._done.wait()
        except asyncio.CancelledError:
            self._opened.cancel()
            raise
        except Exception as error:
            if self._opened.done():
                raise  # the end failed, not the start
            self._opened.set_exception(error)
