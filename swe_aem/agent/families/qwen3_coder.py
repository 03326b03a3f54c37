"""The renderer of Qwen3-Coder: the library's of a Qwen3 with the same tags, without thinking."""

from typing import Any

from renderers import prime_qwen3
from renderers.configs import BaseRendererConfig

_OF_TOOLS = (
    ("call a function ONLY", "call a tool ONLY"),
    ("\nThis is the value for the second parameter\nthat can span\nmultiple lines\n", "\nvalue_2\n"),
    (
        "an inner <function=...></function> block must be nested within <tool_call></tool_call> XML tags",
        "the tool calling block MUST begin with an opening <tool_call> tag and end with a closing </tool_call> tag.",
    ),
)
"""Where the revision of the template that speaks of tools differs from the one that speaks of functions."""


class Qwen3CoderConfig(BaseRendererConfig):
    """Settings of Qwen3-Coder."""

    name: str = "qwen3-coder"
    tools_are: str = "functions"
    """What the model's revision of the template calls the tools that it lists: functions or tools."""
    _internal_fields = frozenset({"tools_are"})


class Qwen3CoderRenderer(prime_qwen3.PrimeQwen3Renderer):
    """Tools and calls as tags; an assistant message has no thinking."""

    config_class = Qwen3CoderConfig

    def __init__(self, tokenizer: Any, config: Qwen3CoderConfig | None = None) -> None:
        super().__init__(tokenizer, config)  # type: ignore[arg-type]
        self._tools_are = (config or Qwen3CoderConfig()).tools_are

    def render(self, messages: list[Any], *, tools: list[Any] | None = None, **options: Any) -> Any:
        """The library's rendering, without the reasoning of earlier assistant messages."""
        said = [{key: one for key, one in message.items() if key != "reasoning_content"} for message in messages]
        if tools and self._tools_are != "functions":
            said, tools = self._with_tools(said, tools), None
        return super().render(said, tools=tools, **options)  # type: ignore[arg-type]

    def _with_tools(self, messages: list[dict[str, Any]], tools: list[Any]) -> list[dict[str, Any]]:
        """The messages with the tools in the system message, as the revision that speaks of tools has them."""
        header, footer = prime_qwen3._TOOLS_HEADER.replace("functions", self._tools_are), prime_qwen3._TOOLS_FOOTER
        for functions, other in _OF_TOOLS:
            footer = footer.replace(functions, other)
        listed = "".join(map(prime_qwen3._tool_definition, tools))
        has_system = messages[0]["role"] == "system"
        content = messages[0]["content"] if has_system else prime_qwen3._DEFAULT_TOOL_SYSTEM
        system = {"role": "system", "content": f"{content}{header}{listed}{footer}"}
        return [system, *(messages[1:] if has_system else messages)]
