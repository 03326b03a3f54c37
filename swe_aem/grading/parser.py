"""`SwebenchParser`: starts and asks the process that holds swebench (`swe_aem.grading.worker`)."""

import asyncio
import contextlib
import json
import os
import sys
import tempfile
from typing import IO, Any

from pydantic import Field

from swe_aem.core import AnswerKey, TestStatus
from swe_aem.core.base import Frozen
from swe_aem.errors import GraderError
from swe_aem.grading.markers import CODE_MARKER, END_MARKER, START_MARKER, marker_problem

START_TIMEOUT_S = 120.0
REQUEST_TIMEOUT_S = 60.0
REPORT_TIMEOUT_S = 10.0
"""Limit for one log, in seconds. Ordinary logs take milliseconds, and other grades wait meanwhile."""
_LINE_BYTES = 256 << 20


class ParseTimeout(GraderError):
    """A log kept the parser busy beyond its limit. The code under evaluation wrote that log."""


class EvaluationReport(Frozen):
    """Results of the tests, read from the output of a test command."""

    found: bool
    """Did the log show test results that agree with the exit code?"""
    resolved: bool = False
    fail_to_pass: dict[str, TestStatus] = Field(default_factory=dict)
    pass_to_pass: dict[str, TestStatus] = Field(default_factory=dict)
    fail_to_pass_fraction: float = 0.0
    pass_to_pass_fraction: float = 0.0


class SwebenchParser:
    """Owns one worker process. Requests go through one at a time; a worker that died is started again."""

    def __init__(self, command: tuple[str, ...] = (sys.executable, "-m", "swe_aem.grading.worker")) -> None:
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._errors: IO[bytes] | None = None
        self._lock = asyncio.Lock()
        self._warm_up: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "SwebenchParser":
        self._warm_up = asyncio.create_task(self._start_early())
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._warm_up is not None:
            self._warm_up.cancel()
            await asyncio.gather(self._warm_up, return_exceptions=True)
        await self._stop()

    async def script(self, key: AnswerKey) -> str:
        """The evaluation script as swebench builds it from the answer key; raises `GraderError`."""
        return (await self._ask({"op": "prepare", "row": _row(key)}))["script"]

    async def check(self, key: AnswerKey) -> tuple[str, ...]:
        """Problems that keep a task from being graded, one sentence each; empty if none. Raises `GraderError`."""
        answer = await self._ask({"op": "check", "row": _row(key)})
        problem = marker_problem(answer["script"])
        return (*answer["problems"], *([problem] if problem else []))

    async def report(self, key: AnswerKey, body: str, test_exit_code: int | None) -> EvaluationReport:
        """Read the output `body` of the test command with the task's parser; raises `ParseTimeout`, `GraderError`.

        swebench's own markers are put around it here, so the body must not contain any.
        """
        code = f"{CODE_MARKER}: {test_exit_code}\n" if test_exit_code is not None else ""
        log = f"{START_MARKER}\n{body}\n{END_MARKER}\n{code}"
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", errors="replace", suffix=".log") as file:
            file.write(log)
            file.flush()
            request = {"op": "report", "row": _row(key), "log_path": file.name}
            answer = await self._ask(request, REPORT_TIMEOUT_S)
        return EvaluationReport.model_validate(answer)

    async def _ask(self, request: dict[str, Any], timeout_s: float = REQUEST_TIMEOUT_S) -> dict[str, Any]:
        async with self._lock:
            process = await self._running()
            assert process.stdin is not None
            try:
                async with asyncio.timeout(timeout_s):
                    process.stdin.write(json.dumps(request).encode() + b"\n")
                    await process.stdin.drain()
                    answer = await self._read(process)
            except TimeoutError:
                await self._stop()
                raise ParseTimeout(f"the log parser took more than {timeout_s:.0f} s") from None
            except OSError as error:  # it ended while it was written to
                last_words = self._last_words()
                await self._stop()
                raise GraderError(f"the process that parses logs ended: {last_words or error}") from None
            except BaseException:
                await self._stop()  # the next request would take the pending answer for its own
                raise
        if "error" in answer:
            raise GraderError(f"swebench failed on {request['op']}: {answer['error']}")
        return answer

    async def _read(self, process: asyncio.subprocess.Process) -> dict[str, Any]:
        assert process.stdout is not None
        line = await process.stdout.readline()
        if not line:
            raise GraderError(f"the process that parses logs ended: {self._last_words()}")
        try:
            return json.loads(line)
        except ValueError:
            raise GraderError(f"the process that parses logs answered {line[:200]!r}: {self._last_words()}") from None

    async def _start_early(self) -> None:
        with contextlib.suppress(GraderError):  # the first request tries again and reports
            async with self._lock:
                await self._running()

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        await self._stop()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed by _stop)
        process = self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._errors,
            limit=_LINE_BYTES,
            env={**os.environ, "PYTHONUTF8": "1", "HF_HUB_OFFLINE": "1"},
            start_new_session=True,  # a Ctrl-C is handled by the orchestrator alone
        )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._read(process)
        except TimeoutError:
            await self._stop()
            raise GraderError(f"swebench did not load within {START_TIMEOUT_S:.0f} s") from None
        except BaseException:
            await self._stop()
            raise
        return process

    async def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await asyncio.shield(process.wait())
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    def _last_words(self) -> str:
        if self._errors is None:
            return ""
        self._errors.seek(0)
        return self._errors.read()[-2000:].decode("utf-8", "replace").strip()


def _row(key: AnswerKey) -> dict[str, Any]:
    return {
        "instance_id": key.task_id,
        "image": "",
        "repo": key.repo,
        "version": key.version,
        "FAIL_TO_PASS": list(key.fail_to_pass),
        "PASS_TO_PASS": list(key.pass_to_pass),
        "log_parser": key.log_parser,
        "eval_type": key.eval_type,
        "eval_script": key.eval_script,
        "expected": key.expected,
    }
