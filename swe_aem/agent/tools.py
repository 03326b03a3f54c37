"""The tools of the native agent: what the model may call, and how a call is carried out in a sandbox.

A `Tool` holds both: its schema, which the model reads (`SPECS`), and the function that carries a call out. A value that
does not fit the schema and can be read without loss is converted (`"3"` or 3.0 for an integer, `"[1, 20]"` for a list,
null for an optional argument that is left out), for what the model meant is certain. A call that still does not fit is
*malformed* (the model broke the protocol); a tool that fails (no such file, exit code 1) is an ordinary observation.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from swe_aem.agent.editor import Editor, EditorCommand, EditorError
from swe_aem.core import ExecResult, Sandbox
from swe_aem.core.base import Frozen

_EXACT = 2**53
"""Up to here every integer is a JSON number of its own."""


class ToolResult(Frozen):
    """What one well-formed call did."""

    observation: str
    exit_code: int | None = None
    timed_out: bool = False


@dataclass(frozen=True)
class Parameter:
    """One parameter of a tool."""

    schema: Mapping[str, Any]
    """Its JSON schema, as the model reads it."""
    problem: Callable[[Any], str | None]
    """Why a value does not fit the schema, in words that follow the parameter's name; None if it does."""
    convert: Callable[[Any], Any] = lambda value: value
    """A value that does not fit, as the one that it stands for without loss; itself where there is none."""


class FittedCall(NamedTuple):
    """Arguments that fit their tool's schema."""

    arguments: dict[str, Any]
    converted: int
    """How many of them did not fit as they were written."""


def text(description: str, choices: tuple[str, ...] = ()) -> Parameter:
    """A string; one of `choices` if there are any."""

    def problem(value: Any) -> str | None:
        if not isinstance(value, str):
            return "must be a string"
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            return "must not hold NUL characters or unpaired surrogates"
        if choices and value not in choices:
            return f"must be one of {', '.join(choices)}"
        return None

    schema = {"type": "string", "enum": list(choices)} if choices else {"type": "string"}
    return Parameter({**schema, "description": description}, problem, _as_text)


def integer(description: str) -> Parameter:
    """An integer; booleans do not count as integers."""
    return Parameter(
        {"type": "integer", "description": description},
        lambda value: None if type(value) is int else "must be an integer",
        _as_integer,
    )


def integer_pair(description: str) -> Parameter:
    """A list of two integers."""

    def problem(value: Any) -> str | None:
        fits = isinstance(value, list) and len(value) == 2 and all(type(item) is int for item in value)
        return None if fits else "must be a list of two integers"

    schema = {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}
    return Parameter({**schema, "description": description}, problem, _as_integers)


def _as_text(value: Any) -> Any:
    """The digits of an integer. Other numbers have several forms, and which one was written is not known."""
    return str(value) if type(value) is int else value


def _as_integer(value: Any) -> Any:
    """The integer that a number without a fraction is, or that a JSON text holds."""
    number = _from_json(value) if isinstance(value, str) else value
    if isinstance(number, float | Decimal):
        exact = Decimal(number)
        if not exact.is_finite() or exact.copy_abs() > _EXACT or exact != exact.to_integral_value():
            return value
        return int(exact)
    return number if type(number) is int else value


def _as_integers(value: Any) -> Any:
    """The list that a JSON text holds, and its items as integers."""
    items = _from_json(value) if isinstance(value, str) else value
    return [_as_integer(item) for item in items] if isinstance(items, list) else value


def _from_json(text: str) -> Any:
    """What a JSON text holds, fractions with all their digits; the text itself if it is none."""
    try:
        return json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError, ArithmeticError):
        return text


@dataclass(frozen=True)
class Tool:
    """One tool: its schema, and what carries out a call that fits it."""

    name: str
    description: str
    carry_out: Callable[["Toolbox", Mapping[str, Any], float, float], Awaitable[ToolResult]]
    """(toolbox, arguments that fit, timeout in seconds) to the result."""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    required: tuple[str, ...] = ()

    @property
    def spec(self) -> dict[str, Any]:
        """The tool in OpenAI's form, as the model reads it."""
        properties = {name: dict(parameter.schema) for name, parameter in self.parameters.items()}
        parameters = {"type": "object", "properties": properties, "required": list(self.required)}
        function = {
            "name": self.name,
            "description": self.description,
            "parameters": {**parameters, "additionalProperties": False},
        }
        return {"type": "function", "function": function}

    def fit(self, arguments: Mapping[str, Any]) -> FittedCall:
        """Arguments that fit the schema, those that can be converted included; raises `ValueError` with the problem, in
        words for the model."""
        missing = [key for key in self.required if key not in arguments]
        if missing:
            raise ValueError(f"{self.name} needs the argument {missing[0]!r}")
        fitted: dict[str, Any] = {}
        converted = 0
        for key, value in arguments.items():
            if key not in self.parameters:
                known = ", ".join(self.parameters) or "none"
                raise ValueError(f"{self.name} has no argument {key!a}; it has {known}")
            parameter = self.parameters[key]
            if parameter.problem(value) is None:
                fitted[key] = value
                continue
            converted += 1
            if value is None and key not in self.required:
                continue
            fitted[key] = parameter.convert(value)
            if problem := parameter.problem(fitted[key]):
                raise ValueError(f"the argument {key!r} of {self.name} {problem}")
        return FittedCall(fitted, converted)

    def problem(self, arguments: Mapping[str, Any]) -> str | None:
        """Why arguments do not fit the schema, in words for the model; None if they do."""
        try:
            self.fit(arguments)
        except ValueError as error:
            return str(error)
        return None


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

    async def call(
        self, name: str, arguments: Mapping[str, Any], *, timeout_s: float, wall_s: float | None = None
    ) -> ToolResult:
        """Carry out a call without a `call_problem`, which is for the model; raises `ValueError` if there is one, and
        `SandboxDead`. `timeout_s` and `wall_s` limit a command as in `Sandbox.run`."""
        fitted = fit_call(name, arguments)
        return await TOOLS[name].carry_out(self, fitted.arguments, timeout_s, wall_s or timeout_s)

    async def submit(self, arguments: Mapping[str, Any], timeout_s: float, wall_s: float) -> ToolResult:
        """Answer the call that ends the work."""
        return ToolResult(observation="Submitted.")

    async def bash(self, arguments: Mapping[str, Any], timeout_s: float, wall_s: float) -> ToolResult:
        """Run a command line."""
        result = await self._sandbox.run(
            arguments["command"], timeout_s=timeout_s, wall_s=wall_s, max_output_bytes=self._max_observation_bytes
        )
        return ToolResult(
            observation=self._render_result(result, timeout_s), exit_code=result.exit_code, timed_out=result.timed_out
        )

    async def edit(self, arguments: Mapping[str, Any], timeout_s: float, wall_s: float) -> ToolResult:
        """View or edit a file; what cannot be done as asked is an observation."""
        try:
            observation = await self._editor.do(arguments, timeout_s=timeout_s)
            return ToolResult(observation=shortened(observation, self._max_observation_bytes))
        except EditorError as error:
            return ToolResult(observation=f"Error: {error}")
        except OSError as error:
            return ToolResult(observation=f"Error: {arguments['path']}: {_reason(error)}")


_ALL = (
    Tool(
        "bash",
        "Run a bash command line in the repository's root and get its exit code and output (stdout and stderr "
        "together). Every call is a fresh shell: changes of directory and variables do not carry over. There is no "
        "input, so interactive programs do not work. Long output is cut in the middle; the whole of it stays in a file "
        "that the observation names.",
        Toolbox.bash,
        {"command": text("The command line. May span several lines.")},
        required=("command",),
    ),
    Tool(
        "str_replace_editor",
        "View, create and edit files. `view` shows a file with line numbers, or a directory two levels deep. `create` "
        "writes a new file. `str_replace` replaces the one place where `old_str` occurs; it must match exactly, white "
        "space included, and only once. `insert` puts `new_str` after line `insert_line`.",
        Toolbox.edit,
        {
            "command": text("What to do.", tuple(command.value for command in EditorCommand)),
            "path": text("File or directory, absolute or relative to the repository."),
            "view_range": integer_pair("For `view` of a file: first and last line, from 1; -1 as last means the end."),
            "file_text": text("For `create`: the whole content."),
            "old_str": text("For `str_replace`: the text to replace, no line numbers."),
            "new_str": text("For `str_replace`: what replaces it (left out: nothing). For `insert`: the new lines."),
            "insert_line": integer("For `insert`: the line to insert after; 0 is the top of the file."),
        },
        required=("command", "path"),
    ),
    Tool("submit", "Hand in the repository as it is now and end the work.", Toolbox.submit),
)

TOOLS: Mapping[str, Tool] = {tool.name: tool for tool in _ALL}
"""Every tool by its name."""

SPECS: tuple[dict[str, Any], ...] = tuple(tool.spec for tool in _ALL)
"""The tools as the model reads them."""


def fit_call(name: str, arguments: Mapping[str, Any]) -> FittedCall:
    """A call's arguments as its tool takes them; raises `ValueError` with the problem, in words for the model."""
    if name not in TOOLS:
        raise ValueError(f"there is no tool {name!r}; the tools are {', '.join(TOOLS)}")
    return TOOLS[name].fit(arguments)


def call_problem(name: str, arguments: Mapping[str, Any]) -> str | None:
    """Why a call is malformed, in words for the model; None if it is not."""
    try:
        fit_call(name, arguments)
    except ValueError as error:
        return str(error)
    return None


def shortened(text: str, max_bytes: int) -> str:
    """`text`, with its middle left out if it is longer than `max_bytes` of UTF-8."""
    data = text.encode("utf-8")
    if len(data) <= max_bytes:
        return text
    half = max_bytes // 2
    head, tail = data[:half].decode("utf-8", "ignore"), data[len(data) - half :].decode("utf-8", "ignore")
    return f"{head}\n[... {len(data) - 2 * half} bytes left out ...]\n{tail}"


def _reason(error: OSError) -> str:
    """The bare reason. The rest of such a message differs between sandbox backends, and observations must not."""
    for kind, reason in (
        (FileNotFoundError, "no such file or directory"),
        (IsADirectoryError, "is a directory"),
        (NotADirectoryError, "a part of the path is not a directory"),
        (PermissionError, "permission denied"),
    ):
        if isinstance(error, kind):
            return reason
    return error.strerror or str(error)
