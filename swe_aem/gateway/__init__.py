"""An HTTP front of any policy in three protocols, token-exact where that is, with one session per trajectory.

    harness ──chat completions, responses, messages──> Gateway ──> GatewaySession ──token ids──> Policy
                                                                       │
                                                                       └──> Trajectory

`chat_wire`, `responses_wire` and `anthropic_wire` translate a protocol, `messages` normalises a request's messages,
`tree` finds the turn that a request continues, `session` samples and keeps what was sampled, `server` handles HTTP,
`inside` leads into a sandbox.
`docs/gateway.md` describes it for users.
"""

from swe_aem.gateway.inside import Doorway
from swe_aem.gateway.server import Gateway
from swe_aem.gateway.session import GatewaySession

__all__ = ["Doorway", "Gateway", "GatewaySession"]
