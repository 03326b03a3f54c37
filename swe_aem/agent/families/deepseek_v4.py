"""The renderer of DeepSeek V4: the library's, which also answers several calls at once."""

from typing import Any

from renderers import deepseek_v4
from renderers.base import RenderedTokens
from renderers.configs import DeepSeekV4RendererConfig


class DeepSeekV4Renderer(deepseek_v4.DeepSeekV4Renderer):
    """The library sorts the answers to several calls by the ids of these, and so refuses to follow such a response
    where it does not know them. Here answers are in the order of their calls."""

    config_class = DeepSeekV4RendererConfig

    def __init__(self, tokenizer: Any, config: DeepSeekV4RendererConfig | None = None) -> None:
        super().__init__(_Unattributed(tokenizer), config)  # type: ignore[arg-type]

    def bridge_to_next_turn(
        self,
        previous_prompt_ids: list[int],
        previous_completion_ids: list[int],
        new_messages: list[Any],
        *,
        tools: list[Any] | None = None,
    ) -> RenderedTokens | None:
        """What was said so far, closed where it was cut off, and the new messages."""
        if not new_messages or any(message["role"] == "assistant" for message in new_messages):
            return None
        said = list(previous_completion_ids)
        stops = [n for n, token in enumerate(said) if token in self.get_stop_token_ids()]
        if stops and stops[0] < len(said) - 1:
            return None
        parsed = self.parse_response(said, prompt_ids=previous_prompt_ids)
        if parsed.reasoning_complete is False:
            if stops:
                return None
            said.append(self._think_end)
        if not stops:
            said.append(self._eos)
        added = self._render(
            new_messages, tools=None, add_generation_prompt=True, add_bos=False, add_effort_prompt=False
        )
        return RenderedTokens(token_ids=[*previous_prompt_ids, *said, *added.token_ids])


class _Unattributed:
    """A tokenizer whose tokens all begin at character 0. Without offsets the library would find out by decoding, in a
    time that is quadratic in the length of the text, which message each token is of; here nothing asks for that."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, text: str, **_: Any) -> dict[str, Any]:
        ids = self._tokenizer.encode(text)
        return {"input_ids": ids, "offset_mapping": [(0, 0)] * len(ids)}
