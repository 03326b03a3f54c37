"""`StartGate`: a sandbox backend that starts only so many sandboxes at once, each within a limit."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager, nullcontext

from swe_aem.core import Deadline, Sandbox, SandboxBackend, SandboxInfo, SandboxSpec, bounded
from swe_aem.errors import InfrastructureError, StartError

logger = logging.getLogger(__name__)


class PhaseTimer:
    """Adds up the seconds of each phase of a trajectory and tells which one begins and ends."""

    def __init__(
        self, on_phase: Callable[[str], None], on_end: Callable[[str, float, float], None] = lambda *_: None
    ) -> None:
        """`on_phase` is told of a phase that begins, `on_end` of one that has ended: its name, when it began on the
        monotonic clock, and its seconds."""
        self.seconds: dict[str, float] = {}
        self._on_phase, self._on_end = on_phase, on_end
        self._began = time.monotonic()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time of the body as `name`, however it ends."""
        self._on_phase(name)
        began = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - began
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds
            self._on_end(name, began, seconds)

    def restart(self) -> None:
        """Drop the phases of a failed attempt; `total` still counts from the first one."""
        self.seconds.clear()

    def result(self) -> dict[str, float]:
        """Seconds per phase, and `total` since the trajectory began, failed attempts included."""
        return {**self.seconds, "total": time.monotonic() - self._began}


class StartGate:
    """A `SandboxBackend` in front of another one. Agents and graders wait in the same queue to start a sandbox."""

    def __init__(self, backend: SandboxBackend, *, starting: int | asyncio.Semaphore, start_limit_s: float) -> None:
        """At most `starting` sandboxes start at once, or as many as a semaphore that gates share lets; each within
        `start_limit_s` seconds."""
        self.name = backend.name
        self._backend = backend
        self._slots = asyncio.Semaphore(starting) if isinstance(starting, int) else starting
        self._start_limit_s = start_limit_s

    async def __aenter__(self) -> "StartGate":
        """Nothing: the backend belongs to whoever opened it."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Nothing, likewise."""

    def open(self, spec: SandboxSpec, timer: PhaseTimer | None = None) -> AbstractAsyncContextManager[Sandbox]:
        """Wait for a free slot, start the sandbox, free the slot, and yield the sandbox.

        Raises `StartError` if the start takes longer than the limit. `timer` gets the phases `queue` and `start`.
        """
        return self._in_turn(_ended_late(self._backend.open(spec)), timer)

    def make_layer(self, spec: SandboxSpec) -> AbstractAsyncContextManager[Sandbox]:
        """The backend's `make_layer`, whose sandbox starts as others do; its end, which keeps the layer, may fail."""
        return self._in_turn(self._backend.make_layer(spec), None)

    @asynccontextmanager
    async def _in_turn(
        self, opening: AbstractAsyncContextManager[Sandbox], timer: PhaseTimer | None
    ) -> AsyncIterator[Sandbox]:
        async with AsyncExitStack() as stack:
            with timer.phase("queue") if timer else nullcontext():
                await self._slots.acquire()
            try:
                with timer.phase("start") if timer else nullcontext():
                    async with bounded("starting a sandbox", Deadline.after(self._start_limit_s), StartError):
                        sandbox = await stack.enter_async_context(opening)
            finally:
                self._slots.release()
            yield sandbox

    async def answers(self) -> bool:
        """Does the backend answer?"""
        return await self._backend.answers()

    async def image_digest(self, image: str) -> str:
        """The backend's digest of an image."""
        return await self._backend.image_digest(image)

    async def has_layer(self, spec: SandboxSpec) -> bool | None:
        """Whether the backend has a layer."""
        return await self._backend.has_layer(spec)

    async def ls(self) -> list[SandboxInfo]:
        """The backend's sandboxes."""
        return await self._backend.ls()

    async def prune(self, *, everything: bool = False) -> list[str]:
        """Prune the backend."""
        return await self._backend.prune(everything=everything)

    def shell_command(self, sandbox: Sandbox) -> list[str]:
        """The backend's command line for a prompt in a sandbox."""
        return self._backend.shell_command(sandbox)


@asynccontextmanager
async def _ended_late(opened: AbstractAsyncContextManager[Sandbox]) -> AsyncIterator[Sandbox]:
    """The sandbox, whose end may fail: what was done in it is done, and `prune` removes it later."""
    done = False
    try:
        async with opened as sandbox:
            yield sandbox
            done = True
    except InfrastructureError as error:
        if not done:
            raise
        logger.warning("a sandbox did not end well: %s; `swe-aem sandbox prune` tries again", error)
