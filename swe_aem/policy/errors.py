"""Errors of policies that refine those of `swe_aem.errors`."""

from swe_aem.core import Completion, Usage
from swe_aem.errors import PolicyError, UserError


class ContextOverflow(PolicyError):
    """The prompt fills the model's context. This is the trajectory's context limit, not an infrastructure failure."""


class NothingSampled(PolicyError):
    """The server cannot have sampled anything for the request, so it may be sent again, to this or another server."""


class NoServer(PolicyError):
    """No server can take new weights now; one may come back."""


class Aborted(PolicyError):
    """The server ended the response before its end, as it does when it is paused for new weights."""

    def __init__(self, message: str, sampled: Completion | None) -> None:
        super().__init__(message)
        self.sampled = sampled
        """The tokens that it had sampled, the `finish_reason` of which is that of a response which ends there; None if
        there were none."""


class AnswersLost(PolicyError):
    """No attempt at a request came to an answer, but some may have been paid for."""

    def __init__(self, message: str, usage: Usage) -> None:
        super().__init__(message)
        self.usage = usage
        """What they took, as far as it is known, and what their prompts have at least otherwise."""


class RunRefused(UserError):
    """A server refuses every request of the run, not only this one: a wrong URL, key or model, no credit, a limit that
    lasts. No retry helps; once the cause is fixed, the same command resumes."""
