"""`RequestConfig`: what every request to a server of a run has in common, wherever the servers are named."""

from contextlib import AbstractAsyncContextManager
from typing import Annotated

from pydantic import ConfigDict, Field, field_validator

from swe_aem.core import Policy
from swe_aem.core.base import Frozen
from swe_aem.policy.api_key import refuse_key_in_url
from swe_aem.policy.entropy import TOP


class RequestConfig(Frozen):
    """The key that requests carry, log-probabilities that they ask for, and how long they may take."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    api_key_env: str | None = None
    """The environment variable that holds the servers' key. If not given, requests carry none."""
    top_logprobs: Annotated[int, Field(ge=0, le=TOP)] = 0
    """Alternatives per token that a server reports, to estimate the entropy of each response: 20 gives `top20`, and
    costs tokens per second and three times the processor time here; 0 uses the surprisal."""
    seeded: bool = True
    """Send a seed with each request, so that a run on unchanged weights can be repeated token by token; false lets the
    servers draw for all requests at once, which is faster where their sampler draws request by request."""
    request_timeout_s: Annotated[float, Field(gt=0)] = 1800.0
    """Seconds that one response may take, and that a switch of weights waits for the responses in flight."""
    patience_s: Annotated[float, Field(gt=0)] = 180.0
    """Seconds that a request waits while no server is available, or those that are refuse it; longer than a restart
    takes. The wait for a slot does not count."""


class CompletionsServers(RequestConfig):
    """Settings of a policy behind servers of completions that take token ids."""

    url: str
    """Address of the server, http://host:port; several with commas between them."""
    model: str | None = None
    """Name under which the server has the model; the only one that it serves if not given."""

    @field_validator("url")
    @classmethod
    def _holds_no_key(cls, value: str) -> str:
        for url in value.split(","):
            refuse_key_in_url(url.strip())
        return value

    def opened(self, at_once: int | None = None) -> AbstractAsyncContextManager[Policy]:
        """The policy for the length of an `async with`, of so many trajectories at once if that is known. Raises
        `UserError` if a server cannot be used."""
        from swe_aem.policy.vllm import open_served

        return open_served(self, at_once)
