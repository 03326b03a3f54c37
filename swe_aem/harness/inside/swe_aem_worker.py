"""What a harness's file imports: `Conversation`, and the sandbox behind it. Standard library only.

    from swe_aem_worker import Conversation

    def converse(conversation: Conversation) -> str: ...

Conversations of one process run in threads; whatever a harness keeps in globals is shared between them.
"""

import base64
import shlex
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

AGENT_HOME = "/var/tmp/.swe-aem-agent"
"""A directory in the sandbox for what an agent that runs there writes: its settings, sessions and logs."""
_INSTRUCTION = """Fix this issue in {workdir}. Nobody can answer questions. Leave tests as they are, and commit nothing.

{statement}
"""
_ENDLESS_S = 1e6
_CANNOT_RUN = (125, 126, 127)

Ask = Callable[[str, dict[str, Any]], Any]
"""(method, arguments) to the reply of the rollout's process."""


class Over(RuntimeError):
    """The conversation is over, and its sandbox refuses further calls."""


@dataclass(frozen=True)
class Ran:
    """The result of a command. `output` is stdout and stderr together, with the middle left out if `output_bytes`, the
    length of the whole, is larger."""

    exit_code: int
    output: bytes
    output_bytes: int
    output_path: str
    timed_out: bool

    @property
    def text(self) -> str:
        """The output as text."""
        return self.output.decode("utf-8", "replace")


class Sandbox:
    """The trajectory's sandbox. Every call waits for its result; it raises `Over` once the conversation is over."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def run(
        self,
        command: str,
        *,
        timeout_s: float = 60.0,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        max_output_bytes: int = 1 << 20,
    ) -> Ran:
        """Run a bash command line in a fresh shell without input; `cwd` is the repository if not given. At the timeout
        everything that it started is killed, and the exit code is 124."""
        arguments = {"command": command, "timeout_s": timeout_s, "cwd": cwd, "env": dict(env or {})}
        reply = self._ask("run", {**arguments, "max_output_bytes": max_output_bytes})
        return Ran(**{**reply, "output": base64.b64decode(reply["output"])})

    def read_file(self, path: str, *, max_bytes: int = 64 << 20) -> bytes:
        """Content of a regular file; raises `OSError`."""
        return base64.b64decode(self._ask("read_file", {"path": path, "max_bytes": max_bytes}))

    def write_file(self, path: str, data: bytes) -> None:
        """Replace or create a file and its parent directories; keeps mode and links. Raises `OSError`."""
        self._ask("write_file", {"path": path, "data": base64.b64encode(data).decode()})


@dataclass(frozen=True)
class Conversation:
    """One trajectory to play. `converse` returns `submitted`, `turn_limit`, `context_limit` or `malformed`; an
    exception is an infrastructure failure, and the trajectory is tried again."""

    id: str
    statement: str
    """The issue."""
    workdir: str
    """The repository in the sandbox."""
    base_commit: str
    """The commit that the work starts from."""
    base_url: str
    """URL of this trajectory's policy for OpenAI's clients; Anthropic's take it without the `/v1`. Any key is accepted.
    Requests are refused once the trajectory is over. With `inside = true` in the head it leads there from the sandbox,
    in a command that begins with `forward`."""
    forward: str
    """What a command begins with that reaches `base_url` from the sandbox, a program with its path and arguments after
    it; empty without `inside = true`."""
    packages: str
    """Where the sandbox sees the packages of the npm registry that the head names: `packages`/NAME is the package NAME.
    Empty without any."""
    model: str
    max_turns: int
    max_context_tokens: int
    max_response_tokens: int
    options: dict[str, Any]
    sandbox: Sandbox = field(repr=False)
    over: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set when the conversation is over and its result is not needed any more."""

    @property
    def instruction(self) -> str:
        """The issue as a task, for an agent with prompts of its own."""
        return _INSTRUCTION.format(workdir=self.workdir, statement=self.statement)

    def run_inside(self, program: str, *arguments: str, env: Mapping[str, str], said: str) -> Ran:
        """Run an agent's program in the sandbox until it ends, in the repository, with the gateway at `base_url` and
        the text `said` as its input. It may take as long as the trajectory. Raises `RuntimeError` with its last words
        if it fails."""
        given = f"{AGENT_HOME}/input"
        self.sandbox.write_file(given, said.encode())
        command = f"exec {self.forward} {shlex.join([program, *arguments])} <{given}"
        done = self.sandbox.run(command, timeout_s=_ENDLESS_S, env=env)
        if done.exit_code:
            raise RuntimeError(f"{program} ended with exit code {done.exit_code}: {_why(done)}")
        return done


def _why(done: Ran) -> str:
    """The last words of a program that failed, and what to do about it where it could not be run at all."""
    words = done.text.strip()[-2000:]
    if done.exit_code in _CANNOT_RUN or "GLIBC_" in words:
        words += (
            " (the program does not run in this image, whose C library is another or older than it was built for: see "
            "`ldd --version` there, and take a newer image, or by harness.pins an older version of the package)"
        )
    return words
