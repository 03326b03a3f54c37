"""Limits and sampling of one trajectory, and what the native agent adds to them."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from swe_aem.core.base import Frozen

_Count = Annotated[int, Field(ge=1)]


class TurnLimits(Frozen):
    """Limits and sampling of one trajectory, whoever plays it. Its time limit is not here: the caller's deadline is."""

    max_turns: _Count = 50
    """Responses per trajectory; then it ends with `turn_limit`."""
    max_response_tokens: _Count = 8_192
    """Tokens per response; a longer one is cut off and the model is told so."""
    max_context_tokens: _Count = 40_960
    """Prompt and response together; when no room is left the trajectory ends with `context_limit`."""
    max_consecutive_malformed: _Count = 3
    """Responses in a row without one well-formed tool call; then it ends with `malformed`. A harness decides itself
    what a response without any call means."""
    temperature: Annotated[float, Field(ge=0)] = 1.0
    """0 is greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Train with 1. Below 1 only the nucleus is sampled. A model in this process still reports log-probabilities of the
    whole distribution; a completions server does not, and is refused."""
    seed: int = 0
    """Every request gets a seed of its own, made from this, the task, the sample and the turn."""


class NativeConfig(TurnLimits):
    """The native agent's settings. A harness takes the part that it inherits, and its tools are its own."""

    command_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """Seconds per tool call, less if the deadline comes first."""
    max_observation_bytes: Annotated[int, Field(ge=200)] = 10_000
    """Bytes of output that one tool call shows; the middle of a longer one is left out."""
    describe_tools: bool = True
    """False leaves the tools' schemas out of the prompt: for a policy that was trained on them and is better off with a
    short prompt. The tools are the same."""
    prompts: Path | None = None
    """Directory with templates that replace the shipped ones of the same name."""
