"""`RequestConfig`: what every request to a server of a run has in common, wherever the servers are named."""

from typing import Annotated

from pydantic import ConfigDict, Field

from swe_aem.core.base import Frozen
from swe_aem.policy.entropy import TOP


class RequestConfig(Frozen):
    """Log-probabilities that requests ask for, and how long they may take."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    top_logprobs: Annotated[int, Field(ge=0, le=TOP)] = TOP
    """Alternatives per token that a server reports, to estimate the entropy of each response; 0 uses surprisal."""
    request_timeout_s: Annotated[float, Field(gt=0)] = 1800.0
    """Seconds that one response may take, and that a switch of weights waits for the responses in flight."""
    patience_s: Annotated[float, Field(gt=0)] = 180.0
    """Seconds that a request waits while no server is available, or those that are refuse it; longer than a restart
    takes. The wait for a slot does not count."""
