"""Limits and sampling settings of one trajectory, and the native agent's own settings."""

from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field

from swe_aem.core.base import Frozen

_Count = Annotated[int, Field(ge=1)]


class TurnLimits(Frozen):
    """Limits and sampling settings of one trajectory, of any agent. The time limit is the caller's deadline instead."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    max_turns: _Count = 50
    """Responses per trajectory; then it ends with `turn_limit`."""
    max_response_tokens: _Count = 8_192
    """Tokens per response; a longer response is cut off and the model is told so."""
    max_context_tokens: _Count = 40_960
    """Tokens of prompt and response together; when none are left the trajectory ends with `context_limit`."""
    max_consecutive_malformed: _Count = 3
    """Responses in a row without a well-formed tool call, after which the trajectory ends with `malformed`. With a
    harness, responses without any call are not counted: the harness decides what they mean."""
    temperature: Annotated[float, Field(ge=0)] = 1.0
    """Sampling temperature; 0 is greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus sampling; train with 1. Below 1 a model in this process still reports log-probabilities of the whole
    distribution. A completions server does not, so values below 1 are refused for it."""
    seed: int = 0
    """Base seed. Every request gets a seed made from it, the task, the sample and the turn."""


class NativeConfig(TurnLimits):
    """The native agent's settings. A harness uses only those of `TurnLimits`."""

    command_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """Seconds per tool call; fewer if the deadline comes first."""
    max_observation_bytes: Annotated[int, Field(ge=200)] = 10_000
    """Bytes of output that one tool call shows; the middle of longer output is left out."""
    describe_tools: bool = True
    """False leaves the tools' schemas out of the prompt, for a small policy that was trained on these tools and needs a
    short prompt. The tools stay available."""
    prompts: Path | None = None
    """Directory with templates that replace the shipped ones of the same name."""
