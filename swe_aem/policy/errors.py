"""Errors of policies beyond the house's taxonomy."""

from swe_aem.errors import PolicyError


class ContextOverflow(PolicyError):
    """The prompt leaves no room in the model's context: the agent's context limit is reached, nothing is broken."""


class NothingSampled(PolicyError):
    """The server cannot have sampled anything for the request, so sending it again, here or elsewhere, is harmless."""
