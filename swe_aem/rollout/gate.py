"""`Gate`: a sandbox backend that starts only so many sandboxes at once, each within a limit."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext

from swe_aem.core import Deadline, Sandbox, SandboxBackend, SandboxInfo, SandboxSpec, bounded
from swe_aem.errors import StartError
from swe_aem.rollout.timings import Timings


class Gate:
    """A `SandboxBackend` in front of another one. Agent and grading sandboxes queue for the same places."""

    def __init__(self, backend: SandboxBackend, *, starting: int, start_limit_s: float) -> None:
        self.name = backend.name
        self._backend = backend
        self._places = asyncio.Semaphore(starting)
        self._start_limit_s = start_limit_s

    @asynccontextmanager
    async def open(self, spec: SandboxSpec, timings: Timings | None = None) -> AsyncIterator[Sandbox]:
        """Wait for a place, start the sandbox, give the place back, and yield; a start beyond the limit is a
        `StartError`. `timings` gets the phases `queue` and `start`."""
        async with AsyncExitStack() as stack:
            with timings.phase("queue") if timings else nullcontext():
                await self._places.acquire()
            try:
                with timings.phase("start") if timings else nullcontext():
                    async with bounded("starting a sandbox", Deadline.after(self._start_limit_s), StartError):
                        sandbox = await stack.enter_async_context(self._backend.open(spec))
            finally:
                self._places.release()
            yield sandbox

    async def image_digest(self, image: str) -> str:
        """As the backend behind."""
        return await self._backend.image_digest(image)

    async def ls(self) -> list[SandboxInfo]:
        """As the backend behind."""
        return await self._backend.ls()

    async def prune(self, *, everything: bool = False) -> list[str]:
        """As the backend behind."""
        return await self._backend.prune(everything=everything)

    def shell_command(self, sandbox: Sandbox) -> list[str]:
        """As the backend behind."""
        return self._backend.shell_command(sandbox)
