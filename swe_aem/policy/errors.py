"""Errors of policies that refine those of `swe_aem.errors`."""

from swe_aem.errors import PolicyError, UserError


class ContextOverflow(PolicyError):
    """The prompt fills the model's context. This is the trajectory's context limit, not an infrastructure failure."""


class NothingSampled(PolicyError):
    """The server cannot have sampled anything for the request, so it may be sent again, to this or another server."""


class RunRefused(UserError):
    """A server refuses every request of the run, not only this one: a wrong URL, key or model, no credit, a limit that
    lasts. No retry helps; once the cause is fixed, the same command resumes."""
