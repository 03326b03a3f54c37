"""Agents turn a policy and a sandbox into a trajectory: the native agent, and what the gateway shares with it.

`NativeAgent` and `TurnRenderer` load the `renderers` library and Jinja when they are made, not when they are imported.
"""

from swe_aem.agent.config import NativeConfig, TurnLimits
from swe_aem.agent.grace import SANDBOX_GRACE_S, answering
from swe_aem.agent.native import NativeAgent
from swe_aem.agent.renderer import Message, ParsedTurn, RendererConfig, TurnRenderer
from swe_aem.agent.turn_sampler import Sampled, TrajectoryEnded, TurnSampler

__all__ = [
    "SANDBOX_GRACE_S",
    "Message",
    "NativeAgent",
    "NativeConfig",
    "ParsedTurn",
    "RendererConfig",
    "Sampled",
    "TrajectoryEnded",
    "TurnLimits",
    "TurnRenderer",
    "TurnSampler",
    "answering",
]
