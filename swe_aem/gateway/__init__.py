"""The gateway room: an OpenAI-compatible front of any `Policy`, token-exact, with one session per trajectory.

    harness ──chat completions──> Gateway ──> GatewaySession ──token ids──> Policy
                                                │
                                                └──> Trajectory

`messages` says what a request's messages mean, `tree` where a request belongs, `session` samples and keeps, `wire` and
`server` speak HTTP. See `docs/bring-your-own-agent.md`.
"""

from swe_aem.gateway.server import Gateway
from swe_aem.gateway.session import GatewaySession

__all__ = ["Gateway", "GatewaySession"]
