"""Imports `renderers`, the library of chat formats, without the client of OpenAI's API.

The library names that client in annotations of functions that nothing here calls, and importing it takes as much
processor time as the rest of a rollout's start.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

_CLIENT = "openai"
_ANNOTATION = "AsyncOpenAI"


def import_renderers() -> ModuleType:
    """The package `renderers`. The client is left out unless it is there already, and can be imported afterwards."""
    if "renderers" in sys.modules or _CLIENT in sys.modules:
        return importlib.import_module("renderers")
    stand_in = _StandIn(_CLIENT)
    stand_in.AsyncOpenAI = type(_ANNOTATION, (), {"__doc__": "Named in annotations; never made."})
    sys.modules[_CLIENT] = stand_in
    try:
        return importlib.import_module("renderers")
    finally:
        if sys.modules.get(_CLIENT) is stand_in:
            del sys.modules[_CLIENT]


class _StandIn(ModuleType):
    """In the place of the client for the moment of the import; a thread that asks for more gets the real one."""

    AsyncOpenAI: type

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(_CLIENT) is self:
            del sys.modules[_CLIENT]
        return getattr(importlib.import_module(_CLIENT), name)
