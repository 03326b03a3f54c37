"""The renderers of Kimi K2 and K2.5: the library's, with call ids as the format has them.

Kimi writes the id of each call itself, `functions.NAME:NUMBER` with a number that runs through the conversation, and
what answers a call repeats it. Ids of an API mean nothing to it, so that messages get the ids of the format here.
"""

from collections.abc import Sequence
from typing import Any

from renderers import kimi_k2, kimi_k25
from renderers.configs import BaseRendererConfig


class KimiK2Config(BaseRendererConfig):
    """Kimi K2 has no settings of its own."""

    name: str = "kimi-k2"


class KimiK25Config(BaseRendererConfig):
    """Settings of Kimi K2.5."""

    name: str = "kimi-k2.5"
    thinking: bool = True
    _template_fields = frozenset({"thinking"})


class KimiK2Renderer(kimi_k2.KimiK2Renderer):
    """Kimi K2 with its own call ids."""

    config_class = KimiK2Config

    def render(self, messages: list[Any], **options: Any) -> Any:
        """The library's rendering of the messages with the format's ids."""
        return super().render(with_own_ids(messages), **options)  # type: ignore[arg-type]


class KimiK25Renderer(kimi_k25.KimiK25Renderer):
    """Kimi K2.5 with its own call ids."""

    config_class = KimiK25Config

    def __init__(self, tokenizer: Any, config: KimiK25Config | None = None) -> None:
        given = config or KimiK25Config()
        made = kimi_k25.KimiK25RendererConfig(thinking=given.thinking, thinking_retention=given.thinking_retention)
        super().__init__(tokenizer, made)

    def render(self, messages: list[Any], **options: Any) -> Any:
        """The library's rendering of the messages with the format's ids."""
        return super().render(with_own_ids(messages), **options)  # type: ignore[arg-type]


def with_own_ids(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages with the ids that the format gives their calls, in calls and in what answers them."""
    own: dict[str, str] = {}
    number = 0
    renamed = []
    for message in messages:
        calls = []
        for call in message.get("tool_calls") or ():
            own_id = f"functions.{call['function']['name']}:{number}"
            number += 1
            if call.get("id"):
                own[call["id"]] = own_id
            calls.append({**call, "id": own_id})
        given = message.get("tool_call_id", "")
        answer = {"tool_call_id": own.get(given, given)} if message["role"] == "tool" else {}
        renamed.append({**message, **({"tool_calls": calls} if calls else {}), **answer})
    return renamed
