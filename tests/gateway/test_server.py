"""The gateway over HTTP, with plain requests and with OpenAI's own client."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest

from swe_aem.core import Deadline, Stop
from swe_aem.gateway import Gateway, GatewaySession
from tests.gateway.conftest import LIMITS, RENDERERS, TASK, Played

RENDERER = RENDERERS["bytes", True]
CALL = 'I look.\n<tool_call>\n{"name": "bash", "arguments": {"command": "ls"}}\n</tool_call><|im_end|>'
TOOLS = [{"type": "function", "function": {"name": "bash", "parameters": {"type": "object", "properties": {}}}}]
START: list[Any] = [{"role": "user", "content": "Fix it."}]


@pytest.fixture
def policy() -> Played:
    return Played(RENDERER, [CALL, "Done.<|im_end|>"])


@pytest.fixture
async def session(policy: Played) -> AsyncIterator[GatewaySession]:
    async with (
        Gateway(RENDERER) as gateway,
        gateway.session(TASK, 0, policy, LIMITS, Deadline.after(60)) as session,
    ):
        yield session


async def post(session: GatewaySession, **body: Any) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.post(f"{session.url}/chat/completions", json={"messages": START, **body})


async def test_openai_client_converses(session: GatewaySession, policy: Played) -> None:
    async with openai.AsyncOpenAI(base_url=session.url, api_key="none") as client:
        assert [card.id async for card in client.models.list()] == ["played"]
        first = await client.chat.completions.create(model="any", messages=START, tools=TOOLS, temperature=0.3)
        message = first.choices[0].message
        assert (first.choices[0].finish_reason, message.content) == ("tool_calls", "I look.")
        assert json.loads(message.tool_calls[0].function.arguments) == {"command": "ls"}
        history = [*START, message, {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "a.py"}]
        second = await client.chat.completions.create(model="any", messages=history, tools=TOOLS)
        assert (second.choices[0].finish_reason, second.choices[0].message.content) == ("stop", "Done.")
        assert second.usage.prompt_tokens == len(policy.prompts[1])
    trajectory = session.trajectory("a", Stop.SUBMITTED)
    assert (len(trajectory.responses), trajectory.branches) == (2, ())


async def test_openai_client_streams(session: GatewaySession) -> None:
    async with openai.AsyncOpenAI(base_url=session.url, api_key="none") as client:
        stream = await client.chat.completions.create(model="any", messages=START, tools=TOOLS, stream=True)
        chunks = [chunk async for chunk in stream]
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert choices[0].delta.content == "I look."
    assert choices[0].delta.tool_calls[0].function.name == "bash"
    assert choices[-1].finish_reason == "tool_calls"
    assert chunks[-1].usage.completion_tokens == len(session.trajectory("a", Stop.SUBMITTED).responses[0].logprobs)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"n": 2}, "one response per request"),
        ({"stop": ["</function"]}, "own stop tokens"),
        ({"tool_choice": "required"}, "chooses its tools"),
        ({"response_format": {"type": "json_object"}}, "responses are text"),
        ({"logprobs": True}, "not sent"),
        ({"messages": []}, "non-empty list"),
        ({"tools": [3]}, "tools are a list"),
    ],
)
async def test_what_is_not_honoured_is_refused(session: GatewaySession, policy: Played, body: Any, why: str) -> None:
    answer = await post(session, **body)
    assert answer.status_code == 400
    assert why in answer.json()["error"]["message"]
    assert policy.prompts == []


async def test_harmless_settings_are_taken(session: GatewaySession, policy: Played) -> None:
    harmless = {
        "n": 1, "stop": None, "tool_choice": "auto", "reasoning_effort": "high", "prompt_cache_key": "x",
        "temperature": 0, "max_completion_tokens": 1, "parallel_tool_calls": True, "logprobs": False,
    }  # fmt: skip
    assert (await post(session, **harmless)).status_code == 200
    assert policy.params[0].temperature == 1.0
    assert policy.params[0].max_tokens == LIMITS.max_response_tokens


async def test_an_ended_session_says_why(session: GatewaySession) -> None:
    session.end("maximum context length: full", stop=Stop.CONTEXT_LIMIT)
    answer = await post(session)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")


async def test_strangers_get_nothing(session: GatewaySession) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        url = session.url.replace(session.id, "guess")
        assert (await client.post(f"{url}/chat/completions", json={"messages": START})).status_code == 404
        assert (await client.get(f"{url}/models")).status_code == 404
        assert (await client.post(f"{session.url}/chat/completions", content=b"{")).status_code == 400


async def test_a_closed_session_is_unknown(policy: Played) -> None:
    async with Gateway(RENDERER) as gateway:
        async with gateway.session(TASK, 0, policy, LIMITS, Deadline.after(60)) as session:
            assert (await post(session)).status_code == 200
        assert (await post(session)).status_code == 404
