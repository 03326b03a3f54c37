"""Agents turn a policy and a sandbox into a trajectory: the native agent, and what the gateway shares with it.

`NativeAgent` and `TurnRenderer` load the `renderers` library and Jinja when they are made, not when they are imported.
"""

from swe_aem.agent.config import NativeConfig, TurnLimits
from swe_aem.agent.conversation import Conversation
from swe_aem.agent.families import MODEL_FAMILIES
from swe_aem.agent.grace import SANDBOX_GRACE_S, answering
from swe_aem.agent.native import NativeAgent
from swe_aem.agent.parsed import Message, ParsedCall, ParsedTurn
from swe_aem.agent.prompt import Prompt, Sampled
from swe_aem.agent.registry import AGENTS, NATIVE, is_own_agent, own_agent, tools_of_own_agent
from swe_aem.agent.renderer import RendererConfig, TurnRenderer
from swe_aem.agent.turn_sampler import OUT_OF_TIME, TrajectoryEnded, TurnSampler

__all__ = [
    "AGENTS",
    "MODEL_FAMILIES",
    "NATIVE",
    "OUT_OF_TIME",
    "SANDBOX_GRACE_S",
    "Conversation",
    "Message",
    "NativeAgent",
    "NativeConfig",
    "ParsedCall",
    "ParsedTurn",
    "Prompt",
    "RendererConfig",
    "Sampled",
    "TrajectoryEnded",
    "TurnLimits",
    "TurnRenderer",
    "TurnSampler",
    "answering",
    "is_own_agent",
    "own_agent",
    "tools_of_own_agent",
]
