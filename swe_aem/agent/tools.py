"""The tools of the native agent: what the model may call, and how a call is carried out in a sandbox.

`SPECS` is what the model reads. A call that does not fit its JSON schema is *malformed* (the model broke the protocol);
a tool that fails (no such file, exit code 1) is an ordinary observation.
"""

from collections.abc import Callable
from typing import Any

from swe_aem.agent.editor import Editor, EditorError
from swe_aem.core import ExecResult, Sandbox
from swe_aem.core.base import Frozen


class ToolResult(Frozen):
    """What one well-formed call did."""

    observation: str
    exit_code: int | None = None
    timed_out: bool = False


def _spec(name: str, description: str, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


SPECS: tuple[dict[str, Any], ...] = (
    _spec(
        "bash",
        "Run a bash command line in the repository's root and get its exit code and output (stdout and stderr "
        "together). Every call is a fresh shell: changes of directory and variables do not carry over. There is no "
        "input, so interactive programs do not work. Long output is cut in the middle; the whole of it stays in a file "
        "that the observation names.",
        {"command": {"type": "string", "description": "The command line. May span several lines."}},
        ["command"],
    ),
    _spec(
        "str_replace_editor",
        "View, create and edit files. `view` shows a file with line numbers, or a directory two levels deep. `create` "
        "writes a new file. `str_replace` replaces the one place where `old_str` occurs; it must match exactly, white "
        "space included, and only once. `insert` puts `new_str` after line `insert_line`.",
        {
            "command": {
                "type": "string",
                "enum": ["view", "create", "str_replace", "insert"],
                "description": "What to do.",
            },
            "path": {"type": "string", "description": "File or directory, absolute or relative to the repository."},
            "view_range": {
                "type": "array",
                "items": {"type": "integer"},
                "minItems": 2,
                "maxItems": 2,
                "description": "For `view` of a file: first and last line, from 1; -1 as last means the end.",
            },
            "file_text": {"type": "string", "description": "For `create`: the whole content."},
            "old_str": {
                "type": "string",
                "description": "For `str_replace`: the text to replace, no line numbers.",
            },
            "new_str": {
                "type": "string",
                "description": "For `str_replace`: what replaces it (left out: nothing). For `insert`: the new lines.",
            },
            "insert_line": {
                "type": "integer",
                "description": "For `insert`: the line to insert after; 0 is the top of the file.",
            },
        },
        ["command", "path"],
    ),
    _spec("submit", "Hand in the repository as it is now and end the work.", {}, []),
)

_PARAMETERS: dict[str, dict[str, Any]] = {spec["function"]["name"]: spec["function"]["parameters"] for spec in SPECS}


def call_problem(name: str, arguments: dict[str, Any]) -> str | None:
    """Why a call does not fit its schema, in words for the model; None if it does."""
    if name not in _PARAMETERS:
        return f"there is no tool {name!r}; the tools are {', '.join(_PARAMETERS)}"
    schema = _PARAMETERS[name]
    missing = [key for key in schema["required"] if key not in arguments]
    if missing:
        return f"{name} needs the argument {missing[0]!r}"
    for key, value in arguments.items():
        if key not in schema["properties"]:
            return f"{name} has no argument {key!a}; it has {', '.join(schema['properties']) or 'none'}"
        problem = _value_problem(schema["properties"][key], value)
        if problem:
            return f"the argument {key!r} of {name} {problem}"
    return None


def _value_problem(schema: dict[str, Any], value: Any) -> str | None:
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if schema["type"] == "string":
        if not isinstance(value, str):
            return "must be a string"
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            return "must not hold NUL characters or unpaired surrogates"
        if "enum" in schema and value not in schema["enum"]:
            return f"must be one of {', '.join(schema['enum'])}"
    elif schema["type"] == "integer" and not is_integer:
        return "must be an integer"
    elif schema["type"] == "array" and not _two_integers(value):
        return "must be a list of two integers"
    return None


def _two_integers(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(item) is int for item in value)


class Toolbox:
    """Carries out well-formed calls in one sandbox."""

    def __init__(
        self,
        sandbox: Sandbox,
        workdir: str,
        *,
        max_observation_bytes: int,
        render_result: Callable[[ExecResult, float], str],
    ) -> None:
        self._sandbox = sandbox
        self._max_observation_bytes = max_observation_bytes
        self._render_result = render_result
        self._editor = Editor(sandbox, workdir, max_observation_bytes=max_observation_bytes)

    async def call(self, name: str, arguments: dict[str, Any], *, timeout_s: float) -> ToolResult:
        """Do what a call without `call_problem` asks; raises `SandboxDead`."""
        if name == "submit":
            return ToolResult(observation="Submitted.")
        if name == "bash":
            return await self._bash(arguments["command"], timeout_s)
        return await self._edit(arguments, timeout_s)

    async def _bash(self, command: str, timeout_s: float) -> ToolResult:
        result = await self._sandbox.run(command, timeout_s=timeout_s, max_output_bytes=self._max_observation_bytes)
        return ToolResult(
            observation=self._render_result(result, timeout_s), exit_code=result.exit_code, timed_out=result.timed_out
        )

    async def _edit(self, arguments: dict[str, Any], timeout_s: float) -> ToolResult:
        try:
            observation = await self._editor.do(arguments, timeout_s=timeout_s)
            return ToolResult(observation=shortened(observation, self._max_observation_bytes))
        except EditorError as error:
            return ToolResult(observation=f"Error: {error}")
        except OSError as error:
            return ToolResult(observation=f"Error: {arguments['path']}: {_reason(error)}")


def shortened(text: str, max_bytes: int) -> str:
    """`text`, with its middle left out if it is longer than `max_bytes` of UTF-8."""
    data = text.encode("utf-8")
    if len(data) <= max_bytes:
        return text
    half = max_bytes // 2
    head, tail = data[:half].decode("utf-8", "ignore"), data[len(data) - half :].decode("utf-8", "ignore")
    return f"{head}\n[... {len(data) - 2 * half} bytes left out ...]\n{tail}"


def _reason(error: OSError) -> str:
    """The reason alone: messages of sandboxes differ in what else they say, observations should not."""
    for kind, reason in (
        (FileNotFoundError, "no such file or directory"),
        (IsADirectoryError, "is a directory"),
        (NotADirectoryError, "a part of the path is not a directory"),
        (PermissionError, "permission denied"),
    ):
        if isinstance(error, kind):
            return reason
    return error.strerror or str(error)
