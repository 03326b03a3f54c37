"""`WorkerPool`: the worker processes of a rollout, started when needed, filled evenly, and replaced when lost."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from swe_aem.core import Deadline, Sandbox
from swe_aem.core.scratch import scratch_directory
from swe_aem.errors import HarnessError, UserError
from swe_aem.harness.config import HarnessConfig
from swe_aem.harness.environment import interpreter
from swe_aem.harness.spec import HarnessSpec
from swe_aem.harness.worker_process import HostConversation, WorkerProcess


class WorkerPool:
    """The worker processes of one harness. Use as an async context manager. Entering starts one process, so that a
    broken harness raises `UserError` at once."""

    def __init__(self, spec: HarnessSpec, config: HarnessConfig) -> None:
        self.workers: list[WorkerProcess] = []
        self._spec, self._config = spec, config
        self._python = interpreter(spec, config.pins)
        self._most = config.workers or os.cpu_count() or 1
        self._numbers = itertools.count(1)
        self._starting = asyncio.Lock()
        self._lifetimes = AsyncExitStack()

    async def __aenter__(self) -> "WorkerPool":
        self.scratch = self._lifetimes.enter_context(scratch_directory("harness"))
        try:
            await self._worker()
        except BaseException as error:
            await self.__aexit__()
            if isinstance(error, HarnessError):
                raise UserError(f"the harness {self._spec.name} does not start: {error}") from error
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await asyncio.gather(*(worker.close() for worker in self.workers))
        await self._lifetimes.aclose()

    @asynccontextmanager
    async def conversation(
        self, start: Mapping[str, Any], sandbox: Sandbox, deadline: Deadline, *, inside: bool = False
    ) -> AsyncIterator[HostConversation]:
        """A conversation in one of the processes, whose agent may run `inside` of the sandbox; raises `HarnessError` if
        none can be started."""
        worker = await self._worker()
        try:
            opened = HostConversation(sandbox, deadline, inside=inside)
            async with worker.conversation(f"c{next(self._numbers)}", start, opened) as conversation:
                yield conversation
        finally:
            if worker.retired and not worker.conversations:
                await worker.close()
                if worker in self.workers:
                    self.workers.remove(worker)

    async def _worker(self) -> WorkerProcess:
        """The least busy process, or a new one if all are full and the limit allows it."""
        async with self._starting:
            usable = [worker for worker in self.workers if not worker.retired]
            idlest = min(usable, key=lambda worker: len(worker.conversations), default=None)
            if idlest and (len(idlest.conversations) < self._config.conversations or len(usable) >= self._most):
                return idlest
            worker = await WorkerProcess.start(self._spec, self._python, self.scratch, next(self._numbers))
            self.workers.append(worker)
            return worker
