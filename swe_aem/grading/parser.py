"""`SwebenchParser`: starts and asks the processes that hold swebench (`swe_aem.grading.worker`)."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from swe_aem.core import AnswerKey
from swe_aem.errors import GraderError
from swe_aem.grading.log_file import LogFile, LogReading
from swe_aem.grading.markers import marker_problem
from swe_aem.grading.worker_process import COMMAND, REQUEST_CPU_S, ParseFailure, ParseTimeout, Worker

__all__ = ["ParseFailure", "ParseTimeout", "SwebenchParser"]

READ_CPU_S = 30.0
"""Processor seconds for one log. Ordinary logs take milliseconds, 64 MiB of them some seconds."""
MOST_WORKERS = 4
PATIENCE_S = 2.0
"""How long a request waits for a process that is busy with another one before a further process is started."""


class SwebenchParser:
    """Owns the worker processes: one, and up to `MOST_WORKERS` while logs are slow to read.

    A process answers one request at a time; one that died is started again.
    """

    def __init__(self, command: tuple[str, ...] = COMMAND) -> None:
        self._command = command
        self._idle: list[Worker] = []
        self._workers: list[Worker] = []
        self._changed = asyncio.Condition()
        self._warm_up: asyncio.Task[None] | None = None

    @property
    def pids(self) -> list[int]:
        """The processes that run now."""
        return [worker.pid for worker in self._workers if worker.pid is not None]

    async def __aenter__(self) -> "SwebenchParser":
        self._warm_up = asyncio.create_task(self._start_early())
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._warm_up is not None:
            self._warm_up.cancel()
            await asyncio.gather(self._warm_up, return_exceptions=True)
        for worker in self._workers:
            await worker.stop()

    async def script(self, key: AnswerKey) -> str:
        """The evaluation script as swebench builds it from the answer key; raises `GraderError`."""
        return (await self._ask("prepare", key))["script"]

    async def check(self, key: AnswerKey) -> tuple[str, ...]:
        """Problems that keep a task from being graded, one sentence each; empty if none. Raises `GraderError`."""
        answer = await self._ask("check", key)
        problem = marker_problem(answer["script"])
        return (*answer["problems"], *([problem] if problem else []))

    async def read(self, key: AnswerKey, log: LogFile, *, with_results: bool = True) -> LogReading:
        """What an evaluation left; see `log_reading.read_log`. Where signed records decide, what swebench's parser says
        of the log is read afterwards: its failure costs `LogReading.official` and nothing else.

        Raises `ParseFailure` if the parser fails on a log that decides, or passes its limit; `GraderError`.
        """
        file = log.model_dump(mode="json")
        answer = await self._ask("read", key, READ_CPU_S, log=file, with_results=with_results)
        reading = LogReading.model_validate(answer)
        if not reading.signed:
            return reading
        with contextlib.suppress(GraderError):
            found = await self._ask("official", key, READ_CPU_S, log=file)
            return LogReading.model_validate({**answer, "official": found["report"]})
        return reading

    async def _ask(self, op: str, key: AnswerKey, cpu_s: float = REQUEST_CPU_S, **options: Any) -> dict[str, Any]:
        request = {
            "op": op,
            "key": key.model_dump(mode="json", exclude={"files", "gold_files"}),
            **options,
        }
        async with self._worker() as worker:
            return await worker.ask(request, cpu_s)

    @asynccontextmanager
    async def _worker(self) -> AsyncIterator[Worker]:
        """A process for one request."""
        worker = await self._take()
        try:
            yield worker
        finally:
            async with self._changed:
                self._idle.append(worker)
                self._changed.notify()

    async def _take(self) -> Worker:
        began_s = time.monotonic()
        async with self._changed:
            while not self._idle:
                waited = time.monotonic() - began_s >= PATIENCE_S
                starting = any(worker.is_starting for worker in self._workers)
                if not self._workers or (waited and not starting and len(self._workers) < MOST_WORKERS):
                    self._workers.append(worker := Worker(self._command))
                    return worker
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), PATIENCE_S)
            return self._idle.pop()

    async def _start_early(self) -> None:
        with contextlib.suppress(GraderError):  # the first request tries again and reports
            async with self._worker() as worker:
                await worker.start()
