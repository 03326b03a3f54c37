"""Settings of policies that answer chat messages: any API that resembles OpenAI's, and what litellm reaches."""

from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any

from pydantic import ConfigDict, Field, field_validator

from swe_aem.core import ChatPolicy
from swe_aem.core.base import Frozen
from swe_aem.policy.api_key import refuse_key_in_fields, refuse_key_in_url

_Usd = Annotated[float, Field(ge=0)]
_OWN_FIELDS = frozenset(
    {"model", "messages", "tools", "temperature", "top_p", "seed", "stream", "n", "max_tokens", "max_completion_tokens"}
)
"""Fields of a request that other settings decide, or that would change what comes back."""


class Price(Frozen):
    """US dollars for a million tokens."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    input_usd: _Usd
    """Price of prompt tokens."""
    output_usd: _Usd
    """Price of sampled tokens."""
    cached_usd: _Usd | None = None
    """Price of prompt tokens that were read from a cache; that of the others if not given."""

    def cost_usd(self, prompt_tokens: int, completion_tokens: int, cached_tokens: int) -> float:
        """The price of one response; `cached_tokens` are part of `prompt_tokens`."""
        cached_usd = self.input_usd if self.cached_usd is None else self.cached_usd
        fresh_usd = (prompt_tokens - cached_tokens) * self.input_usd
        return (fresh_usd + cached_tokens * cached_usd + completion_tokens * self.output_usd) / 1e6


class ChatRequests(Frozen):
    """What requests to every chat API have in common."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    model: Annotated[str, Field(min_length=1)]
    """The name by which the API knows the model."""
    price: Price | None = None
    """What tokens cost. If not given, costs are those that the API reports, and otherwise unknown."""
    extra_body: dict[str, Any] = {}
    """Further fields of each request, e.g. {reasoning_effort: high}."""
    request_timeout_s: Annotated[float, Field(gt=0)] = 1800.0
    """Seconds that one response may take."""
    attempts: Annotated[int, Field(ge=1)] = 6
    """Attempts per response while the API fails or its answers are lost. Waiting for a rate limit is no attempt."""
    backoff_s: Annotated[float, Field(gt=0)] = 1.0
    """Seconds before the second attempt, where the API does not say how long; doubled for each further one, at most a
    minute."""
    patience_s: Annotated[float, Field(gt=0)] = 1800.0
    """Seconds of a rate limit after which the run ends."""

    @field_validator("extra_body")
    @classmethod
    def _is_not_ours(cls, value: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted(value.keys() & _OWN_FIELDS):
            raise ValueError(f"{', '.join(taken)} cannot be set here: settings of the run decide it")
        refuse_key_in_fields(value)
        return value


class ChatConfig(ChatRequests):
    """Settings of a policy behind a chat API."""

    url: Annotated[str, Field(pattern="^https?://")]
    """Address of the API, as clients of OpenAI have it in OPENAI_BASE_URL, e.g. https://api.openai.com/v1. One without
    a path gets /v1."""
    api_key_env: str | None = "OPENAI_API_KEY"
    """The environment variable that holds the key; without one, requests carry none."""

    @field_validator("url")
    @classmethod
    def _holds_no_key(cls, value: str) -> str:
        refuse_key_in_url(value)
        return value

    def opened(self) -> AbstractAsyncContextManager[ChatPolicy]:
        """The policy for the length of an `async with`. Raises `UserError` if the API cannot be used."""
        from swe_aem.policy.chat import open_chat

        return open_chat(self)


class LitellmConfig(ChatRequests):
    """Settings of a policy that litellm reaches."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    api_key_env: str | None = None
    """The environment variable that holds the key. If not given, litellm takes that of the provider, e.g.
    ANTHROPIC_API_KEY."""

    def opened(self) -> AbstractAsyncContextManager[ChatPolicy]:
        """The policy for the length of an `async with`. Raises `UserError` if litellm is not installed."""
        from swe_aem.policy.litellm import open_litellm

        return open_litellm(self)
