"""The chat API of a real vLLM: what it takes, what it refuses, and in which words."""

from typing import Any

import pytest

from swe_aem.core import SamplingParams
from swe_aem.policy import ContextOverflow, RunRefused, ServerControl
from swe_aem.policy.chat import open_chat
from swe_aem.policy.chat_config import ChatConfig

pytestmark = [
    pytest.mark.vllm, pytest.mark.torch, pytest.mark.slow, pytest.mark.timeout(500), pytest.mark.contract(vllm=True)
]  # fmt: skip

TOOL = {"type": "function", "function": {"name": "bash", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "bash", "arguments": '{"command": '}}
TALK: list[dict[str, Any]] = [
    {"role": "user", "content": "Fix it."},
    {"role": "assistant", "content": "", "reasoning_content": "Hm.", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "not JSON"},
]


async def test_a_conversation_with_tools_and_what_does_not_fit(vllm_url: str) -> None:
    control = ServerControl(vllm_url)
    model = await control.served_model()
    await control.close()
    name, params = model.names[0], SamplingParams(max_tokens=8, seed=1 << 40)
    async with open_chat(ChatConfig(url=vllm_url, model=name, api_key_env=None)) as policy:
        first = await policy.chat(TALK[:1], [TOOL], params, trajectory_id="t.0")
        later = await policy.chat(TALK, [TOOL], params, trajectory_id="t.0")
        assert first.usage.completion_tokens <= 8
        assert 0 < first.usage.prompt_tokens < later.usage.prompt_tokens
        with pytest.raises(ContextOverflow):
            await policy.chat([{"role": "user", "content": "x" * 100_000}], [], params, trajectory_id="t.0")
        longest = params.model_copy(update={"max_tokens": 100_000})
        full = await policy.chat(TALK, [], longest, trajectory_id="t.0")
        assert full.usage.completion_tokens < 100_000, "it got the space that is left"
    with pytest.raises(RunRefused, match=f"it serves .*{name}"):
        async with open_chat(ChatConfig(url=vllm_url, model=f"{name}-x", api_key_env=None)):
            pass
