"""The built-in model families.

A format that ends a chain at each new user message, for its template drops earlier thinking there, is kept whole here:
what was sampled stays where it is, so that each prompt begins with the exact ids of everything before it.
"""

import re
from typing import Any

from swe_aem.agent.families.calls import read_argument_tags, read_function_tags, read_invoke_tags
from swe_aem.agent.families.family import Family
from swe_aem.agent.families.files import ModelFiles

_CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_TOOL = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
_THINK = ("<think>", "</think>")
_VISION = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
_QWEN = (*_CHATML, *_TOOL, *_THINK)
_FUNCTION = "<function=example_function_name>"
"""Text of the prompt of families whose calls are written as tags."""
_TAGGED_TOOLS = "\\n<function>\\n<name>"
"""Source text of templates that describe tools as tags."""


def _small_qwen3_5(files: ModelFiles) -> bool:
    """The templates of the small Qwen3.5 models think only when asked to."""
    return "enable_thinking is defined and enable_thinking is true" not in (files.template or "")


def _word_for_tools(files: ModelFiles) -> dict[str, Any]:
    """What Qwen3-Coder's template calls the tools that it lists: revisions of it differ."""
    return {"tools_are": "tools"} if "You have access to the following tools:" in (files.template or "") else {}


def _identity(files: ModelFiles) -> dict[str, Any]:
    """What MiniMax's template says where there is no system message: M2 and M2.5 differ."""
    found = re.search(r'set model_identity = "([^"]*)"', files.template or "")
    return {"model_identity": found[1]} if found else {}


QWEN3 = Family(
    name="qwen3",
    library="Qwen3RendererConfig",
    tokens=_QWEN,
    template=("<|im_start|>", "<args-json-object>", "<tool_response>"),
    without=(_FUNCTION, "You are Qwen, created by Alibaba Cloud", "<|vision_start|>"),  # Qwen2.5, Qwen3-VL
    models=("qwen3", "qwen3_moe"),
)
QWEN3_CODER = Family(
    name="qwen3-coder",
    library="swe_aem.agent.families.qwen3_coder:Qwen3CoderRenderer",
    tokens=_QWEN,
    template=("<|im_start|>", _FUNCTION, _TAGGED_TOOLS),
    without=("<think>", "enable_thinking"),
    thinking="never",
    from_files=_word_for_tools,
    read=read_function_tags,
    json_arguments=False,
)
QWEN3_5 = Family(
    name="qwen3.5",
    library="Qwen35RendererConfig",
    tokens=(*_QWEN, *_VISION),
    template=("<|im_start|>", _FUNCTION, "enable_thinking", "<|vision_start|>"),
    without=("preserve_thinking", _TAGGED_TOOLS),
    models=("qwen3_5", "qwen3_5_moe", "qwen3_5_text", "qwen3_5_moe_text"),
    thinks=_small_qwen3_5,
    read=read_function_tags,
    json_arguments=False,
)
QWEN3_6 = Family(
    name="qwen3.6",
    library="Qwen36RendererConfig",
    tokens=(*_QWEN, *_VISION),
    template=("<|im_start|>", _FUNCTION, "preserve_thinking", "<|vision_start|>"),
    without=("reasoning_effort", _TAGGED_TOOLS),
    read=read_function_tags,
    json_arguments=False,
)
QWEN3_8 = Family(
    name="qwen3.8",
    library="Qwen38RendererConfig",
    tokens=(*_QWEN, *_VISION),
    template=("<|im_start|>", _FUNCTION, "preserve_thinking", "<|vision_start|>", "reasoning_effort"),
    without=(_TAGGED_TOOLS,),
    efforts=("low", "medium", "xhigh"),
    read=read_function_tags,
    json_arguments=False,
)

_GLM = (
    "<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>",
    *_THINK, *_TOOL, "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>",
)  # fmt: skip
GLM_4_5 = Family(
    name="glm-4.5",
    library="GLM45RendererConfig",
    tokens=_GLM,
    template=("[gMASK]<sop>", "<arg_key>", "/nothink"),
    models=("glm4_moe",),
    read=read_argument_tags,
    json_arguments=False,
)
GLM_5 = Family(
    name="glm-5",
    library="GLM5RendererConfig",
    tokens=_GLM,
    template=("[gMASK]<sop>", "<arg_key>", "clear_thinking"),
    without=("/nothink", "reasoning_effort", "defer_loading"),
    models=("glm_moe_dsa", "glm4_moe_lite"),
    read=read_argument_tags,
    json_arguments=False,
)
GLM_5_1 = Family(
    name="glm-5.1",
    library="GLM51RendererConfig",
    tokens=_GLM,
    template=("[gMASK]<sop>", "<arg_key>", "clear_thinking", "defer_loading"),
    without=("/nothink", "reasoning_effort"),
    read=read_argument_tags,
    json_arguments=False,
)
GLM_5_3 = Family(
    name="glm-5.3",
    library="GLM53RendererConfig",
    tokens=_GLM,
    template=("[gMASK]<sop>", "<arg_key>", "clear_thinking", "reasoning_effort"),
    without=("/nothink",),
    thinking="always",
    efforts=("low", "high", "max"),
    read=read_argument_tags,
    json_arguments=False,
)
GPT_OSS = Family(
    name="gpt-oss",
    library="swe_aem.agent.families.harmony:HarmonyRenderer",
    tokens=("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|constrain|>", "<|return|>", "<|call|>"),
    template=("<|start|>", "<|channel|>analysis", "<|return|>", "<|call|>"),
    models=("gpt_oss",),
    thinking="always",
    efforts=("low", "medium", "high"),
    parallel=False,
    own_ids=True,
)

_KIMI = (
    "<|im_user|>", "<|im_assistant|>", "<|im_system|>", "<|im_middle|>", "<|im_end|>",
    "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", "<|tool_call_begin|>", "<|tool_call_argument_begin|>",
    "<|tool_call_end|>",
)  # fmt: skip
KIMI_K2 = Family(
    name="kimi-k2",
    library="swe_aem.agent.families.kimi:KimiK2Renderer",
    tokens=_KIMI,
    template=("<|im_middle|>", "tool_declare", "<|tool_calls_section_begin|>"),
    without=("<think>",),
    models=("kimi_k2",),
    thinking="never",
    sorts_tools=True,
    own_ids=True,
)
KIMI_K2_5 = Family(
    name="kimi-k2.5",
    library="swe_aem.agent.families.kimi:KimiK25Renderer",
    tokens=(*_KIMI, "<|media_begin|>", "<|media_content|>", "<|media_pad|>", "<|media_end|>"),
    template=("<|im_middle|>", "tool_declare", "<|tool_calls_section_begin|>", "<think>", "<|media_begin|>"),
    models=("kimi_k25",),
    switch="thinking",
    sorts_tools=True,
    own_ids=True,
)
MINIMAX_M2 = Family(
    name="minimax-m2",
    library="MiniMaxM2RendererConfig",
    tokens=("]~!b[", "]~b]", "[e~[", *_THINK, "<minimax:tool_call>", "</minimax:tool_call>"),
    template=("]~!b[", "]~b]ai", "<minimax:tool_call>"),
    models=("minimax_m2", "minimax"),
    thinking="always",
    from_files=_identity,
    read=read_invoke_tags,
    json_arguments=False,
)

_NEMOTRON = ("<|im_start|>", "<|im_end|>", *_THINK, *_TOOL)
_THINKS_BARE = '"</think>" ~ (message.content'
"""Source text of the templates that put nothing between the end of thinking and the content."""
NEMOTRON_3 = Family(
    name="nemotron-3",
    library="Nemotron3RendererConfig",
    tokens=_NEMOTRON,
    template=(_FUNCTION, _TAGGED_TOOLS, "truncate_history_thinking"),
    without=(_THINKS_BARE, "medium_effort"),
    models=("nemotron_h",),
    read=read_function_tags,
    json_arguments=False,
)
NEMOTRON_3_ULTRA = Family(
    name="nemotron-3-ultra",
    library="Nemotron3UltraRendererConfig",
    tokens=_NEMOTRON,
    template=(_FUNCTION, _TAGGED_TOOLS, "truncate_history_thinking", "medium_effort", _THINKS_BARE),
    read=read_function_tags,
    json_arguments=False,
)
NEMOTRON_3_5 = Family(
    name="nemotron-3.5",
    library="Nemotron35RendererConfig",
    tokens=_NEMOTRON,
    template=(_FUNCTION, _TAGGED_TOOLS, "truncate_history_thinking", _THINKS_BARE),
    without=("medium_effort",),
    read=read_function_tags,
    json_arguments=False,
)

_DEEPSEEK = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>")
_DEEPSEEK_TOOLS = tuple(
    f"<｜tool▁{name}｜>"
    for name in (
        "calls▁begin", "calls▁end", "call▁begin", "call▁end", "sep",
        "outputs▁begin", "outputs▁end", "output▁begin", "output▁end",
    )
)  # fmt: skip
_PREFILLS_THINKING = "<｜Assistant｜><think>\\n"
DEEPSEEK_V3 = Family(
    name="deepseek-v3",
    library="DeepSeekV3RendererConfig",
    tokens=(*_DEEPSEEK, *_DEEPSEEK_TOOLS),
    template=("<｜User｜>", "<｜tool▁outputs▁begin｜>"),
    without=(_PREFILLS_THINKING, "thinking"),
    thinking="never",
    describes_tools=False,
)


def _begins_without_thinking(files: ModelFiles) -> dict[str, Any]:
    """What begins an answer of DeepSeek V3.1 without thinking: copies of its template differ."""
    copied = "<｜Assistant｜><think></think>" in (files.template or "")
    return {"no_thinking": "<think></think>"} if copied else {}


DEEPSEEK_R1 = Family(
    name="deepseek-r1",
    library="DeepSeekR1RendererConfig",
    tokens=(*_DEEPSEEK, *_DEEPSEEK_TOOLS, *_THINK),
    template=("<｜User｜>", "<｜tool▁outputs▁begin｜>", _PREFILLS_THINKING),
    thinking="always",
    describes_tools=False,
)
DEEPSEEK_V3_1 = Family(
    name="deepseek-v3.1",
    library="swe_aem.agent.families.deepseek_v31:DeepSeekV31Renderer",
    tokens=(*_DEEPSEEK, *_DEEPSEEK_TOOLS, *_THINK),
    template=("<｜User｜>", "<｜tool▁output▁begin｜>", "thinking"),
    without=("<｜tool▁outputs▁begin｜>",),
    switch="thinking",
    thinks=lambda files: False,
    from_files=_begins_without_thinking,
    template_has_tools=False,
)
_DEEPSEEK_TASKS = ("action", "query", "authority", "domain", "title", "read_url")
DEEPSEEK_V4 = Family(
    name="deepseek-v4",
    library="swe_aem.agent.families.deepseek_v4:DeepSeekV4Renderer",
    tokens=(*_DEEPSEEK, *_THINK, "｜DSML｜", "<｜latest_reminder｜>", *(f"<｜{name}｜>" for name in _DEEPSEEK_TASKS)),
    template=("｜DSML｜",),
    without=("You have access to a set of tools you can use to answer",),  # DeepSeek V3.2
    models=("deepseek_v4",),
    thinks=lambda files: False,
    efforts=("low", "high", "max"),
    json_arguments=False,
)

FAMILIES = {
    family.name: family
    for family in (
        QWEN3, QWEN3_CODER, QWEN3_5, QWEN3_6, QWEN3_8, GLM_4_5, GLM_5, GLM_5_1, GLM_5_3, GPT_OSS, KIMI_K2, KIMI_K2_5,
        MINIMAX_M2, NEMOTRON_3, NEMOTRON_3_ULTRA, NEMOTRON_3_5, DEEPSEEK_V3, DEEPSEEK_R1, DEEPSEEK_V3_1,
        DEEPSEEK_V4,
    )
}  # fmt: skip
"""The built-in families by name."""
