"""Policies that play a fixed list of responses, for tests, baselines and replays.

`gold` solves a task with its gold patch, `noop` submits at once, `replay` repeats what a stored trajectory sampled. At
its end a script submits. `params.max_tokens` does not cut a scripted response, because half a gold patch is of no use.
"""

import base64
import posixpath
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from swe_aem.core import Completion, SamplingParams, TaskRecord, Trajectory
from swe_aem.core.base import Frozen

_PATCH_FILE = "/tmp/gold.patch"
_APPLY = (
    f"git apply --whitespace=nowarn {_PATCH_FILE} && "
    f"{{ git apply --cached --whitespace=nowarn {_PATCH_FILE} || true; }}"
)
"""Into the index too: a new file that is ignored counts only where the index has it."""


class AssistantRenderer(Protocol):
    """The part of a renderer that scripts use (`swe_aem.agent.TurnRenderer` is one)."""

    def render_assistant(self, message: dict[str, Any]) -> list[int]:
        """The token ids that a model would sample for `message`, stop token included."""
        ...


class ScriptTools(Frozen):
    """The tools through which a script acts if the agent is a harness."""

    shell: str
    """The tool that runs a command line."""
    finish: tuple[str, dict[str, Any]] | None
    """The tool that ends the work, and its arguments; None where a response that calls no tool ends it."""
    command: dict[str, Any] = {"command": "{command}"}
    """The arguments of `shell`, with `{command}` where the command line stands."""

    def run(self, command: str) -> dict[str, Any]:
        """The arguments with which `shell` runs a command line."""
        return {name: command if value == "{command}" else value for name, value in self.command.items()}


class ScriptedPolicy:
    """Plays responses in order. One instance plays one trajectory; make a new one for every attempt."""

    def __init__(self, name: str, script: Sequence[Completion], ending: Completion) -> None:
        self.name = name
        self._script = tuple(script)
        self._ending = ending
        self._played = 0

    async def sample(self, prompt_ids: Sequence[int], params: SamplingParams, *, trajectory_id: str) -> Completion:
        """The next response of the script, whatever the prompt; the ending once there is none left."""
        completion = self._script[self._played] if self._played < len(self._script) else self._ending
        self._played += 1
        return completion

    async def close(self) -> None:
        """Nothing to release."""


def scripted(
    name: str, messages: Sequence[dict[str, Any]], renderer: AssistantRenderer, tools: ScriptTools | None = None
) -> ScriptedPolicy:
    """Plays assistant messages, each with log-probability 0 for every token."""
    return ScriptedPolicy(name, [_said(message, renderer) for message in messages], _submission(renderer, tools))


def gold(record: TaskRecord, renderer: AssistantRenderer, tools: ScriptTools | None = None) -> ScriptedPolicy:
    """Applies the task's gold patch through the tools, or runs its gold command, and submits."""
    if tools is not None:
        solve = tools.run(_piped(_solution(*_gold_script(record))))
        return scripted("gold", [call("I run the known solution.", tools.shell, solve)], renderer, tools)
    if record.key.gold_command:
        solve = {"command": _solution(record.key.gold_files, record.key.gold_command)}
        return scripted("gold", [call("I run the known solution.", "bash", solve)], renderer)
    create = {"command": "create", "path": _PATCH_FILE, "file_text": _gold_patch(record)}
    apply = {"command": f"{_APPLY} && rm {_PATCH_FILE}"}
    messages = [
        call("I write down the known solution.", "str_replace_editor", create),
        call("I apply it.", "bash", apply),
    ]
    return scripted("gold", messages, renderer)


def _gold_patch(record: TaskRecord) -> str:
    patch = record.key.gold_patch
    return patch if patch.endswith("\n") else f"{patch}\n"  # git calls a patch without a last line end corrupt


def _gold_script(record: TaskRecord) -> tuple[Mapping[str, bytes], str]:
    """Files, and the command that solves the task with them."""
    if record.key.gold_command:
        return record.key.gold_files, record.key.gold_command
    return {_PATCH_FILE: _gold_patch(record).encode("utf-8", "surrogateescape")}, _APPLY


def _piped(script: str) -> str:
    """The script as one command, because harnesses differ in how they treat several lines."""
    return f"base64 -d <<'END' | bash\n{base64.encodebytes(script.encode()).decode()}END"


def _solution(files: Mapping[str, bytes], command: str) -> str:
    """A command line that writes the files, runs the command, and removes them."""
    writes = [
        f"mkdir -p {shlex.quote(posixpath.dirname(path))}\n"
        f"base64 -d >{shlex.quote(path)} <<'END'\n{base64.encodebytes(content).decode()}END"
        for path, content in files.items()
    ]
    return "\n".join([*writes, command, f"rm -rf {shlex.join(files)}"])


def noop(renderer: AssistantRenderer, tools: ScriptTools | None = None) -> ScriptedPolicy:
    """Submits at once."""
    return scripted("noop", [], renderer, tools)


def replay(trajectory: Trajectory, renderer: AssistantRenderer) -> ScriptedPolicy:
    """Repeats the exact response ids and log-probabilities of a trajectory, and then submits."""
    script = [
        Completion(
            token_ids=trajectory.token_ids[response.start : response.end],
            logprobs=response.logprobs,
            finish_reason=response.finish_reason,
            version=response.version,
        )
        for response in trajectory.responses
    ]
    return ScriptedPolicy(trajectory.model, script, _submission(renderer))


def call(content: str, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """An assistant message with one tool call."""
    function = {"name": tool, "arguments": arguments}
    return {"role": "assistant", "content": content, "tool_calls": [{"type": "function", "function": function}]}


def _submission(renderer: AssistantRenderer, tools: ScriptTools | None = None) -> Completion:
    if tools is not None and tools.finish is None:
        return _said({"role": "assistant", "content": "I submit."}, renderer)
    tool, arguments = tools.finish if tools and tools.finish else ("submit", {})
    return _said(call("I submit.", tool, arguments), renderer)


def _said(message: dict[str, Any], renderer: AssistantRenderer) -> Completion:
    ids = renderer.render_assistant(message)
    return Completion(token_ids=tuple(ids), logprobs=(0.0,) * len(ids), finish_reason="stop")
