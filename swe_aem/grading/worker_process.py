"""`Worker`: one child process that holds swebench (`swe_aem.grading.worker`), and the requests that it answers."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from typing import IO, Any

from swe_aem.core import WALL_PER_LIMIT
from swe_aem.errors import GraderError, HostFailed, Starved

COMMAND = (sys.executable, "-m", "swe_aem.grading.worker")
REQUEST_CPU_S = 60.0
"""Processor seconds that a request may take. Its wall time is ten times as long, on a host that others keep busy."""
_LINE_BYTES = 256 << 20


class ParseFailure(GraderError):
    """The parser failed on a log, or passed one of its limits. Whose failure that is a control has to show: the code
    under evaluation wrote that log."""


class ParseTimeout(ParseFailure):
    """A log kept the parser busy beyond its limit in processor seconds."""


class Worker:
    """Owns one process, which is started by the first request and again after it ended. One request at a time."""

    def __init__(self, command: tuple[str, ...] = COMMAND) -> None:
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._errors: IO[bytes] | None = None
        self.is_starting = False

    @property
    def pid(self) -> int | None:
        """Process id while the process runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> None:
        """Start the process unless it runs; returns when it has imported swebench. Raises `GraderError`."""
        if self.pid is not None:
            return
        await self.stop()
        self.is_starting = True
        try:
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed by stop)
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=self._errors,
                limit=_LINE_BYTES,
                env={**os.environ, "PYTHONUTF8": "1", "HF_HUB_OFFLINE": "1"},
                start_new_session=True,  # a Ctrl-C is handled by the orchestrator alone
            )
            async with asyncio.timeout(WALL_PER_LIMIT * REQUEST_CPU_S):
                await self._read(self._process)
        except TimeoutError:
            await self.stop()
            raise GraderError(f"swebench did not load within {WALL_PER_LIMIT * REQUEST_CPU_S:.0f} s") from None
        except OSError as error:
            await self.stop()
            raise HostFailed(f"the process that parses logs does not start: {error}") from error
        except BaseException:
            await self.stop()
            raise
        finally:
            self.is_starting = False

    async def ask(self, request: Mapping[str, Any], cpu_s: float = REQUEST_CPU_S) -> dict[str, Any]:
        """The process's answer; raises `ParseFailure`, `Starved`, `HostFailed`, `GraderError`.

        `cpu_s` limits the processor seconds of the process. Wall time is limited to ten times as much: a process that
        got less processor than that was starved, which is an infrastructure failure.
        """
        await self.start()
        process = self._process
        assert process is not None
        assert process.stdin is not None
        try:
            async with asyncio.timeout(WALL_PER_LIMIT * cpu_s):
                process.stdin.write(json.dumps({**request, "cpu_s": cpu_s}).encode() + b"\n")
                await process.stdin.drain()
                answer = await self._read(process)
        except TimeoutError:
            await self.stop()
            raise Starved(
                f"the process that parses logs was starved of processors: no answer in {WALL_PER_LIMIT * cpu_s:.0f} s"
            ) from None
        except (OSError, EOFError) as error:  # it ended
            last_words, code = self._last_words(), await process.wait()
            await self.stop()
            if code == -signal.SIGPROF:
                raise ParseTimeout(f"the log parser took more than {cpu_s:g} s of processor time") from None
            raise GraderError(f"the process that parses logs ended: {last_words or error or code}") from None
        except BaseException:
            await self.stop()  # the next request would take the pending answer for its own
            raise
        if "failed" in answer:
            raise ParseFailure(answer["failed"])
        if "host" in answer:
            raise HostFailed(f"{request['op']} failed on this host: {answer['host']}")
        if "error" in answer:
            raise GraderError(f"swebench failed on {request['op']}: {answer['error']}")
        return answer

    async def stop(self) -> None:
        """End the process; idempotent."""
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await asyncio.shield(process.wait())
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    async def _read(self, process: asyncio.subprocess.Process) -> dict[str, Any]:
        assert process.stdout is not None
        line = await process.stdout.readline()
        if not line:
            if self.is_starting:
                raise GraderError(f"the process that parses logs ended: {self._last_words()}")
            raise EOFError
        try:
            return json.loads(line)
        except ValueError:
            raise GraderError(f"the process that parses logs answered {line[:200]!r}: {self._last_words()}") from None

    def _last_words(self) -> str:
        if self._errors is None:
            return ""
        self._errors.seek(0)
        return self._errors.read()[-2000:].decode("utf-8", "replace").strip()
