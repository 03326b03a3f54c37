"""Policies: token ids in, sampled ids and log-probabilities out.

`open_policy_factory` opens the policy of a run: a script by its name, a server by its URL, or a model in this process.
"""

from swe_aem.policy.errors import ContextOverflow
from swe_aem.policy.registry import SCRIPTS, PolicyFactory, check_policy, listed_scripts, open_policy_factory

__all__ = [
    "SCRIPTS",
    "ContextOverflow",
    "PolicyFactory",
    "check_policy",
    "listed_scripts",
    "open_policy_factory",
]
