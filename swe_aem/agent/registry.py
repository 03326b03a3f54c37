"""Agents that run in this process, by name. Harnesses, which have a process of their own, are `swe_aem.harness`'s."""

import inspect
from collections.abc import Mapping
from typing import Any

from swe_aem.agent.config import TurnLimits
from swe_aem.agent.conversation import OwnAgent
from swe_aem.agent.renderer import TurnRenderer
from swe_aem.errors import UserError
from swe_aem.extensions import ExtensionPoint
from swe_aem.policy import ScriptTools

NATIVE = "native"
"""The agent of this package."""
AGENTS: ExtensionPoint[Any] = ExtensionPoint(
    "agent", group="swe_aem.agents", builtin={NATIVE: "swe_aem.agent.native:NativeAgent"}
)
"""Another than the native one is a function `converse(conversation)`, or a class of settings with such a method."""


def is_own_agent(name: str) -> bool:
    """Is it the name of an agent that is neither built in nor a harness? Imports nothing."""
    return not AGENTS.is_builtin(name) and (name in AGENTS.names or ":" in name)


def own_agent(setting: str | Mapping[str, Any], limits: TurnLimits, renderer: TurnRenderer | None) -> OwnAgent:
    """The agent of a user's own that a setting names. Raises `UserError` if it is none."""
    name, made = AGENTS.name_of(setting), AGENTS.make(setting)
    converse = getattr(made, "converse", made)
    if not inspect.iscoroutinefunction(converse):
        raise UserError(
            f"agent {name} is {made!r:.60}: give `async def converse(conversation)`, or a class of settings with "
            "such a method"
        )
    return OwnAgent(name.rpartition(":")[2], converse, limits, renderer)


def tools_of_own_agent(setting: str | Mapping[str, Any]) -> ScriptTools:
    """The tools through which scripts act in an agent of a user's own. Raises `UserError` if it names none."""
    tools = getattr(AGENTS.find(AGENTS.name_of(setting)).value, "tools", None)
    if not isinstance(tools, ScriptTools):
        raise UserError(
            f"agent {AGENTS.name_of(setting)} does not say by which tools a script acts: give its class "
            "tools = swe_aem.ScriptTools(shell=NAME, finish=(NAME, {})), or choose a policy that is no script"
        )
    return tools
