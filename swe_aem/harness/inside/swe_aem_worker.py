"""What a harness's file imports: `Conversation`, and the sandbox behind it. Standard library only.

    from swe_aem_worker import Conversation

    def converse(conversation: Conversation) -> str: ...

Conversations of one process run in threads; whatever a harness keeps in globals is shared between them.
"""

import base64
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

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
    model: str
    max_turns: int
    max_context_tokens: int
    max_response_tokens: int
    options: dict[str, Any]
    sandbox: Sandbox = field(repr=False)
    over: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set when the conversation is over and its result is not needed any more."""
