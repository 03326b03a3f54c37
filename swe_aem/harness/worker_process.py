"""`WorkerProcess`: starts a worker process, exchanges messages with it, and ends it. `inside/main.py` runs in it."""

import asyncio
import base64
import contextlib
import errno
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from swe_aem.agent import answering
from swe_aem.core import WALL_PER_LIMIT, Deadline, Sandbox, Stop
from swe_aem.errors import HarnessError, HarnessRaised, SandboxDead
from swe_aem.harness.spec import INSIDE, HarnessSpec

START_S = 180.0
"""Seconds that a process may take to import its harness."""
OVER_GRACE_S = 10.0
"""Seconds that a conversation may take to end once told so; after that its process gets no further conversations."""
HARNESS_STOPS = tuple(stop for stop in Stop if stop is not Stop.SANDBOX_DEAD)
"""What a harness may say of how it ended; whether its sandbox is dead, only its calls tell."""
_END_S = 2.0
_LONGEST_LINE_BYTES = 256 << 20


class HostConversation:
    """One trajectory in a worker process, and the sandbox that it acts in."""

    def __init__(self, sandbox: Sandbox, deadline: Deadline, *, inside: bool = False) -> None:
        """`inside`: the agent itself is a command in the sandbox. That asks the policy while it runs, so that it ends
        with the conversation; any other command has a time limit, and may take no more than the deadline leaves."""
        self.done: asyncio.Future[Stop] = asyncio.get_running_loop().create_future()
        """How the harness ended it, or the failure that ended it."""
        self.calls: set[asyncio.Task[None]] = set()
        """Calls into the sandbox that are running."""
        self.over = False
        """True once no further call into the sandbox is allowed."""
        self._sandbox, self._deadline, self._inside = sandbox, deadline, inside

    def fail(self, error: Exception) -> None:
        """End it with `error`, which is raised where `done` is awaited; only the first end has an effect."""
        if not self.done.done():
            self.done.set_exception(error)
            self.done.exception()  # marks it as retrieved: possibly nothing awaits it any more

    async def answer(self, method: str, arguments: Mapping[str, Any]) -> Any:
        """Carry out a call of the harness in the sandbox.

        Raises `OSError` and `ValueError`, which are raised in the harness too, `SandboxDead`, and `HarnessError` for an
        unknown method.
        """
        match method:
            case "run":
                return await self._run(**arguments)
            case "read_file":
                return base64.b64encode(await self._sandbox.read_file(**arguments)).decode()
            case "write_file":
                return await self._sandbox.write_file(arguments["path"], base64.b64decode(arguments["data"]))
            case _:
                raise HarnessError(f"the sandbox has no method {method!r}: it has run, read_file and write_file")

    async def _run(self, command: str, timeout_s: float, **options: Any) -> dict[str, Any]:
        limit_s = timeout_s if self._inside else min(timeout_s, self._deadline.remaining_s())
        wall_s = WALL_PER_LIMIT * limit_s
        try:
            async with answering(self._sandbox, wall_s):
                done = await self._sandbox.run(command, timeout_s=limit_s, wall_s=wall_s, **options)
        except ValueError as error:  # NUL characters or unpaired surrogates, which no command line can hold
            said = base64.b64encode(f"{error}\n".encode("utf-8", "replace")).decode()
            return {"exit_code": 126, "output": said, "output_bytes": 0, "output_path": "", "timed_out": False}
        return {
            "exit_code": done.exit_code,
            "output": base64.b64encode(done.head + done.tail).decode(),
            "output_bytes": done.output_bytes,
            "output_path": done.output_path,
            "timed_out": done.timed_out,
        }


class WorkerProcess:
    """A live worker process. `start` makes it, and the caller of `start` closes it."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.conversations: dict[str, HostConversation] = {}
        self.retired = False
        """True if it gets no further conversations: it has ended, or a conversation in it does not end."""
        self.pid = process.pid
        self._process, self._log = process, log
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, spec: HarnessSpec, python: Path, scratch: Path, number: int) -> "WorkerProcess":
        """A process that has imported its harness; raises `HarnessError` if that fails."""
        log = scratch / f"worker-{number}.log"
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
        environment |= {"HOME": str(scratch), "TMPDIR": str(scratch)}
        with log.open("wb") as complaints:
            process = await asyncio.create_subprocess_exec(
                str(python), str(INSIDE / "main.py"), str(spec.file),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=complaints,
                env={**environment, **spec.environment},
                cwd=scratch,
                start_new_session=True,
                limit=_LONGEST_LINE_BYTES,
            )  # fmt: skip
        worker = cls(process, log)
        try:
            async with asyncio.timeout(START_S):
                await asyncio.shield(worker._ready)
        except TimeoutError as error:
            await worker.close()
            raise HarnessError(f"the harness {spec.name} did not start within {START_S:g} s") from error
        except BaseException:
            await worker.close()
            raise
        return worker

    @asynccontextmanager
    async def conversation(
        self, id: str, start: Mapping[str, Any], conversation: HostConversation
    ) -> AsyncIterator[HostConversation]:
        """A conversation for the length of an `async with`; afterwards nothing of it touches the sandbox."""
        self.conversations[id] = conversation
        try:
            self._send({"start": {"id": id, **start}})
            yield conversation
        finally:
            conversation.over = True
            try:
                await self._end(id, conversation)
            finally:
                self.conversations.pop(id, None)

    async def close(self) -> None:
        """End the process and everything that it started, within a few seconds."""
        self.retired = True
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            async with asyncio.timeout(_END_S):
                await self._process.wait()
        except TimeoutError:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        await self._process.wait()
        await asyncio.wait({self._listening})

    async def _end(self, id: str, conversation: HostConversation) -> None:
        """Stop the calls into the sandbox, tell the process that the conversation is over, and wait for it to end."""
        for call in conversation.calls:
            call.cancel()
        if conversation.calls:
            await asyncio.wait(conversation.calls)
        if conversation.done.done() and not isinstance(conversation.done.exception(), SandboxDead):
            return
        ended = conversation.done = asyncio.get_running_loop().create_future()
        self._send({"over": id})
        _, waiting = await asyncio.wait({ended}, timeout=OVER_GRACE_S)
        self.retired = self.retired or bool(waiting)
        conversation.fail(HarnessError("the conversation did not end"))

    def _send(self, message: dict[str, Any]) -> None:
        if self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def _listen(self) -> None:
        """Handle the messages of the process until it ends; then fail its conversations."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            self._take(json.loads(line))
        self.retired = True
        code = await self._process.wait()
        lost = HarnessError(f"process {self.pid} of the harness ended with code {code}: {self._last_words()}")
        if not self._ready.done():
            self._ready.set_exception(lost)
        for conversation in self.conversations.values():
            conversation.fail(lost)

    def _take(self, message: dict[str, Any]) -> None:
        if "ready" in message:
            self._ready.set_result(None)
        elif conversation := self.conversations.get(message.get("id") or message.get("done", "")):
            if "call" in message and conversation.over:
                self._send({"reply": message["call"], "error": [None, "the conversation is over"]})
            elif "call" in message:
                call = asyncio.create_task(self._answer(conversation, message))
                conversation.calls.add(call)
                call.add_done_callback(conversation.calls.discard)
            elif message["error"] is not None:
                conversation.fail(HarnessRaised(f"the harness failed: {message['error']}"))
            elif message["end"] not in HARNESS_STOPS:
                known = ", ".join(HARNESS_STOPS)
                conversation.fail(HarnessError(f"converse returned {message['end']}, none of {known}"))
            elif not conversation.done.done():
                conversation.done.set_result(Stop(message["end"]))

    async def _answer(self, conversation: HostConversation, message: dict[str, Any]) -> None:
        reply: dict[str, Any] = {"reply": message["call"]}
        try:
            reply["value"] = await conversation.answer(message["method"], message["arguments"])
        except ValueError as error:
            reply["error"] = [errno.EINVAL, str(error)]
        except OSError as error:
            reply["error"] = [error.errno or errno.EIO, error.strerror or str(error)]
        except asyncio.CancelledError:
            reply["error"] = [None, "the conversation is over"]
        except Exception as error:  # the trajectory ends with it, and the harness is told so
            conversation.fail(error)
            reply["error"] = [None, str(error)]
        self._send(reply)

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            return self._log.read_text(errors="replace").strip()[-1000:]
        return ""
