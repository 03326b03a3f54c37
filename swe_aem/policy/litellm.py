"""A policy that litellm reaches: providers whose API does not resemble OpenAI's. Needs the extra `litellm`.

litellm translates requests and answers; pace, retries, refusals and costs are those of every chat API
(`swe_aem.policy.chat`).
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from swe_aem.errors import PolicyError
from swe_aem.extras import needs
from swe_aem.policy.api_key import read_key
from swe_aem.policy.chat import ChatApiPolicy
from swe_aem.policy.chat_config import LitellmConfig
from swe_aem.policy.errors import NothingSampled, RunRefused
from swe_aem.policy.refusals import Answer, KeyUse
from swe_aem.runlog.secrets import without_keys


class LitellmTransport:
    """Requests by `litellm.acompletion`."""

    def __init__(self, config: LitellmConfig) -> None:
        # Before its import: the table of prices is the one that was installed, and nothing is fetched.
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        with needs("litellm", "give --policy chat:URL if its API resembles OpenAI's"):
            import litellm
        self._litellm: Any = litellm
        self._litellm.telemetry = False
        self._litellm.suppress_debug_info = True
        self._key, self._timeout_s = read_key(config.api_key_env), config.request_timeout_s
        self._model = config.model
        self.url = f"litellm:{config.model}"
        self.key = KeyUse(config.api_key_env, self._key is not None)

    async def post(self, body: dict[str, Any]) -> Answer:
        """The answer to one request, with the cost that litellm knows of."""
        key = {} if self._key is None else {"api_key": self._key}
        try:
            response = await self._litellm.acompletion(**body, **key, timeout=self._timeout_s, num_retries=0)
        except Exception as error:
            return self._refusal(error)
        answered = response.model_dump()
        cost_usd = (getattr(response, "_hidden_params", None) or {}).get("response_cost")
        if cost_usd is not None:
            answered["usage"] = {"cost": cost_usd, **(answered.get("usage") or {})}
        return Answer(200, "", answered)

    async def models(self) -> dict[str, str]:
        """No list: litellm asks no provider for one. Raises `RunRefused` for a model of a provider that it does not
        know."""
        try:
            self._litellm.get_llm_provider(model=self._model)
        except self._litellm.BadRequestError as error:
            said = without_keys(str(error)).partition("Pass model as")[0].strip()
            raise RunRefused(
                f"{self.url}: litellm does not know this model's provider; give litellm:PROVIDER/MODEL, e.g. "
                f"litellm:anthropic/NAME ({said})"
            ) from error
        return {}

    async def close(self) -> None:
        """litellm keeps its own connections."""

    def _refusal(self, error: Exception) -> Answer:
        """The answer that an exception of litellm stands for. Raises `PolicyError` where there was none."""
        said = without_keys(str(error))
        status = getattr(error, "status_code", None)
        if isinstance(error, self._litellm.Timeout) or status is None:
            raise PolicyError(f"{self.url}: {type(error).__name__}: {said}") from error
        if isinstance(error, self._litellm.APIConnectionError):
            raise NothingSampled(f"{self.url}: {said}") from error
        code = "context_length_exceeded" if isinstance(error, self._litellm.ContextWindowExceededError) else None
        headers = getattr(getattr(error, "response", None), "headers", None) or {}
        told = {"message": said, "code": code or getattr(error, "code", None), "param": getattr(error, "param", None)}
        return Answer(int(status), said, {"error": told}, {name.lower(): value for name, value in headers.items()})


@asynccontextmanager
async def open_litellm(config: LitellmConfig) -> AsyncIterator[ChatApiPolicy]:
    """The policy that litellm reaches, for the length of an `async with`."""
    policy = ChatApiPolicy(config, LitellmTransport(config))
    try:
        await policy.open()
        yield policy
    finally:
        await policy.close()
