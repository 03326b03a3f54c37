"""The renderer of Qwen3-Coder: the library's of a Qwen3 with the same tags, without thinking."""

from typing import Any

from renderers.configs import BaseRendererConfig
from renderers.prime_qwen3 import PrimeQwen3Renderer


class Qwen3CoderConfig(BaseRendererConfig):
    """Qwen3-Coder has no settings of its own."""

    name: str = "qwen3-coder"


class Qwen3CoderRenderer(PrimeQwen3Renderer):
    """Tools and calls as tags; an assistant message has no thinking."""

    config_class = Qwen3CoderConfig

    def render(self, messages: list[Any], **options: Any) -> Any:
        """The library's rendering, without the reasoning of earlier assistant messages."""
        said = [{key: one for key, one in message.items() if key != "reasoning_content"} for message in messages]
        return super().render(said, **options)  # type: ignore[arg-type]
