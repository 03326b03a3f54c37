"""Agents turn a policy and a sandbox into a trajectory: the native agent, and what the gateway shares with it.

`NativeAgent` and `TurnRenderer` load the `renderers` library and Jinja when they are made, not when they are imported.
"""

from swe_aem.agent.config import NativeConfig, TurnLimits
from swe_aem.agent.native import NativeAgent
from swe_aem.agent.renderer import RendererConfig, TurnRenderer

__all__ = ["NativeAgent", "NativeConfig", "RendererConfig", "TurnLimits", "TurnRenderer"]
