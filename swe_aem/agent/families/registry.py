"""The model families that a setting may name."""

from collections.abc import Callable
from typing import Any

from swe_aem.extensions import ExtensionPoint

AUTO = "auto"
"""The family is chosen from the model's own files."""
_BUILTIN = "swe_aem.agent.families.builtin"

MODEL_FAMILIES: ExtensionPoint[Callable[..., Any]] = ExtensionPoint(
    "model family",
    group="swe_aem.model_families",
    builtin={
        AUTO: "swe_aem.agent.families.choose:choose_family",
        "qwen3": f"{_BUILTIN}:QWEN3",
        "qwen3-coder": f"{_BUILTIN}:QWEN3_CODER",
        "qwen3.5": f"{_BUILTIN}:QWEN3_5",
        "qwen3.6": f"{_BUILTIN}:QWEN3_6",
        "qwen3.8": f"{_BUILTIN}:QWEN3_8",
        "glm-4.5": f"{_BUILTIN}:GLM_4_5",
        "glm-5": f"{_BUILTIN}:GLM_5",
        "glm-5.1": f"{_BUILTIN}:GLM_5_1",
        "glm-5.3": f"{_BUILTIN}:GLM_5_3",
        "gpt-oss": f"{_BUILTIN}:GPT_OSS",
        "kimi-k2": f"{_BUILTIN}:KIMI_K2",
        "kimi-k2.5": f"{_BUILTIN}:KIMI_K2_5",
        "minimax-m2": f"{_BUILTIN}:MINIMAX_M2",
        "nemotron-3": f"{_BUILTIN}:NEMOTRON_3",
        "nemotron-3-ultra": f"{_BUILTIN}:NEMOTRON_3_ULTRA",
        "nemotron-3.5": f"{_BUILTIN}:NEMOTRON_3_5",
        "deepseek-v3": f"{_BUILTIN}:DEEPSEEK_V3",
        "deepseek-r1": f"{_BUILTIN}:DEEPSEEK_R1",
        "deepseek-v3.1": f"{_BUILTIN}:DEEPSEEK_V3_1",
        "deepseek-v4": f"{_BUILTIN}:DEEPSEEK_V4",
    },
)
"""The built-in `Family` of each name, or a function of a user's own that makes the configuration of the library
`renderers` from a `RendererConfig`."""
