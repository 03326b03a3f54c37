"""An OpenAI-compatible front of any policy, token-exact where that is, with one session per trajectory.

    harness ──chat completions──> Gateway ──> GatewaySession ──token ids──> Policy
                                                  │
                                                  └──> Trajectory

`messages` normalises a request's messages, `tree` finds the turn that a request continues, `session` samples and keeps
what was sampled, `wire` and `server` handle HTTP. `docs/bring-your-own-agent.md` describes it for users.
"""

from swe_aem.gateway.server import Gateway
from swe_aem.gateway.session import GatewaySession

__all__ = ["Gateway", "GatewaySession"]
