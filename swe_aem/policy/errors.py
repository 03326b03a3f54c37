"""Errors of policies that refine `swe_aem.errors.PolicyError`."""

from swe_aem.errors import PolicyError


class ContextOverflow(PolicyError):
    """The prompt fills the model's context. This is the trajectory's context limit, not an infrastructure failure."""


class NothingSampled(PolicyError):
    """The server cannot have sampled anything for the request, so it may be sent again, to this or another server."""
