"""`RecordingSandbox`: keeps the calls that an agent makes to its sandbox, so that they can be made again elsewhere."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from swe_aem.agent import SANDBOX_GRACE_S, answering
from swe_aem.core import ExecResult, LimitHits, Sandbox, Tree, TreeChange
from swe_aem.errors import SandboxDead
from swe_aem.rollout.agent_clock import AgentClock

LONGEST_PAUSE_S = 5.0
"""A pause between two calls is repeated up to this length: what was left running may need it."""


@dataclass(frozen=True)
class Call:
    """One call to a sandbox."""

    make: Callable[[Sandbox], Awaitable[object]]
    timeout_s: float
    """How long it may take by itself."""
    pause_s: float
    """Seconds since the call before it had ended."""


@dataclass
class Recording:
    """The calls that were made to one sandbox, in order."""

    calls: list[Call] = field(default_factory=list)
    ended_s: float = field(default_factory=time.monotonic)
    """When the latest call ended, on the monotonic clock."""
    lost: SandboxDead | None = None
    """What the latest call raised, if it found the sandbox dead."""
    unanswered: bool = False
    """Did the latest call find the sandbox dead, or was it given up because the sandbox did not answer?"""

    @property
    def lost_at(self) -> int:
        """Number of the call that found the sandbox dead; one past the last if none did."""
        return len(self.calls) - int(self.unanswered)

    async def replay(self, sandbox: Sandbox) -> int | None:
        """Make the calls again in a fresh sandbox; returns the number of the call that found it dead, which is one past
        the last if it died after all of them, and None if it lives."""
        for number, call in enumerate(self.calls):
            await asyncio.sleep(min(call.pause_s, LONGEST_PAUSE_S))
            try:
                async with answering(sandbox, call.timeout_s):
                    await call.make(sandbox)
            except SandboxDead:
                return number
            except (OSError, ValueError):
                pass  # a call that fails is a result
        return None if await sandbox.alive() else len(self.calls)


class RecordingSandbox:
    """The sandbox of an agent, every call of which is kept in `recording`."""

    def __init__(
        self,
        sandbox: Sandbox,
        clock: AgentClock | None = None,
        ended: Callable[[float, float], None] = lambda wall_s, starved_s: None,
    ) -> None:
        """`clock` counts the commands; `ended` is told of each how long it ran, and how long it was starved of
        processors."""
        self._clock = clock or AgentClock(math.inf)
        self._ended = ended
        self.id = sandbox.id
        self.private_dir, self.layer = sandbox.private_dir, sandbox.layer
        self.settle_command = sandbox.settle_command
        self.recording = Recording()
        self.sandbox = sandbox
        self._known = LimitHits()

    async def run(
        self,
        command: str,
        *,
        timeout_s: float,
        wall_s: float | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        max_output_bytes: int = 10_000,
    ) -> ExecResult:
        """Run a bash command line, as `Sandbox.run` says."""

        def make(sandbox: Sandbox) -> Awaitable[ExecResult]:
            return sandbox.run(
                command, timeout_s=timeout_s, wall_s=wall_s, cwd=cwd, env=env, max_output_bytes=max_output_bytes
            )

        async with self._kept(make, wall_s or timeout_s):
            with self._clock.command(timeout_s) as starved:
                result = await make(self.sandbox)
                starved(result.starved_s)
        self._known = result.limit_hits
        self._ended(result.wall_s, result.starved_s)
        return result

    async def read_file(self, path: str, *, max_bytes: int = 64 << 20) -> bytes:
        """Content of a regular file, as `Sandbox.read_file` says."""

        def make(sandbox: Sandbox) -> Awaitable[bytes]:
            return sandbox.read_file(path, max_bytes=max_bytes)

        async with self._kept(make, SANDBOX_GRACE_S):
            return await make(self.sandbox)

    async def write_file(self, path: str, data: bytes) -> None:
        """Replace or create a file, as `Sandbox.write_file` says."""

        def make(sandbox: Sandbox) -> Awaitable[None]:
            return sandbox.write_file(path, data)

        async with self._kept(make, SANDBOX_GRACE_S):
            await make(self.sandbox)

    async def settle(self) -> int:
        """End every process that any command started."""

        def make(sandbox: Sandbox) -> Awaitable[int]:
            return sandbox.settle()

        async with self._kept(make, SANDBOX_GRACE_S):
            return await make(self.sandbox)

    async def list_tree(self, root: str, *, max_entries: int = 500_000) -> Tree:
        """List everything below a directory; not recorded, for it changes nothing."""
        return await self.sandbox.list_tree(root, max_entries=max_entries)

    async def read_tree(
        self, root: str, paths: Sequence[str], *, max_bytes: int = 64 << 20, max_total_bytes: int = 1 << 30
    ) -> list[bytes | None]:
        """Contents of regular files; not recorded, for it changes nothing."""
        return await self.sandbox.read_tree(root, paths, max_bytes=max_bytes, max_total_bytes=max_total_bytes)

    async def change_tree(self, root: str, changes: Sequence[TreeChange]) -> None:
        """Change paths below a directory, as `Sandbox.change_tree` says."""

        def make(sandbox: Sandbox) -> Awaitable[None]:
            return sandbox.change_tree(root, changes)

        async with self._kept(make, SANDBOX_GRACE_S):
            await make(self.sandbox)

    async def read_output(self, *, offset: int = 0, max_bytes: int = 64 << 20) -> bytes:
        """All that the last command wrote; not recorded, for it changes nothing."""
        return await self.sandbox.read_output(offset=offset, max_bytes=max_bytes)

    async def limit_hits(self) -> LimitHits:
        """What the sandbox's limits did to it so far."""
        return await self.sandbox.limit_hits()

    async def hit_its_limits(self) -> bool:
        """Did its own limits do something to it since the last command that ended?"""
        return await self.limit_hits() != self._known

    async def peak_memory_bytes(self) -> int | None:
        """The most memory that the sandbox has held so far."""
        return await self.sandbox.peak_memory_bytes()

    async def alive(self) -> bool:
        """Can a command be run?"""
        return await self.sandbox.alive()

    async def close(self) -> None:
        """End the sandbox."""
        await self.sandbox.close()

    @asynccontextmanager
    async def _kept(self, make: Callable[[Sandbox], Awaitable[object]], timeout_s: float) -> AsyncIterator[None]:
        """A block that makes the call; it is kept before it begins, for it may be the last one."""
        recording = self.recording
        recording.lost, recording.unanswered = None, False
        recording.calls.append(Call(make, timeout_s, time.monotonic() - recording.ended_s))
        try:
            yield
        except SandboxDead as error:
            recording.lost, recording.unanswered = error, True
            raise
        except asyncio.CancelledError:
            recording.unanswered = True
            raise
        finally:
            recording.ended_s = time.monotonic()
