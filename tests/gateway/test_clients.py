"""Whole conversations of the official clients, streaming and not, checked token by token."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import httpx
import openai
import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState

from swe_aem.core import Deadline, Stop
from swe_aem.gateway import Gateway, GatewaySession
from swe_aem.gateway.messages import UNSEEN
from tests.gateway.clients import TOOLS, WIRES, Message, body, understood
from tests.gateway.conftest import LIMITS, RENDERERS, TASK, Played
from tests.gateway.test_rewriting import check, observations

RENDERER = RENDERERS["bytes", True]
THOUGHT = "<think>\nI should look.\n</think>\n\n"
LS = '<tool_call>\n{"name":"bash",  "arguments":{"command":"ls"}}\n</tool_call>'
BROKEN = '<tool_call>\n{"name": "bash", "arguments": [1]}\n</tool_call>'
ODD = '<tool_call>\n{"name": "bash", "arguments": {"command": 1.0, "big": 12345678901234567890}}\n</tool_call>'
SAID = [
    f"{THOUGHT}I look.\n{LS}\n{LS}<|im_end|>",
    f"{BROKEN}<|im_end|>",
    f"{ODD}<|im_end|>",
    f"{THOUGHT}Nearly.<|im_end|>",
    "Done.<|im_end|>",
]
START: list[Message] = [{"role": "system", "content": "You fix bugs."}, {"role": "user", "content": "Fix it."}]

Ask = Callable[[list[Message]], Awaitable[Any]]
"""The answer to a conversation, as a client gives it."""


@pytest.fixture
def policy() -> Played:
    return Played(RENDERER, SAID)


@pytest.fixture
async def session(policy: Played) -> AsyncIterator[GatewaySession]:
    async with Gateway(RENDERER) as gateway, gateway.session(TASK, 0, policy, LIMITS, Deadline.after(60)) as session:
        yield session


@asynccontextmanager
async def anthropic_client(session: GatewaySession, *, stream: bool) -> AsyncIterator[Ask]:
    client = anthropic.AsyncAnthropic(base_url=session.url.removesuffix("/v1"), api_key="none", max_retries=0)

    async def ask(history: list[Message]) -> Any:
        asked = {**body("anthropic", history), "model": "any", "max_tokens": 1000}
        asked |= {"metadata": {"user_id": "x"}, "thinking": {"type": "enabled", "budget_tokens": 1024}}
        if stream:
            async with client.messages.stream(**asked) as events:
                return (await events.get_final_message()).model_dump()
        return (await client.messages.create(**asked)).model_dump()

    async with client:
        yield ask


@asynccontextmanager
async def responses_client(session: GatewaySession, *, stream: bool) -> AsyncIterator[Ask]:
    client = openai.AsyncOpenAI(base_url=session.url, api_key="none", max_retries=0)

    async def ask(history: list[Message]) -> Any:
        asked = {**body("responses", history), "model": "any", "include": ["reasoning.encrypted_content"]}
        if stream:
            async with client.responses.stream(**asked) as events:
                return (await events.get_final_response()).model_dump()
        return (await client.responses.create(**asked)).model_dump()

    async with client:
        yield ask


@asynccontextmanager
async def chat_client(session: GatewaySession, *, stream: bool) -> AsyncIterator[Ask]:
    client = openai.AsyncOpenAI(base_url=session.url, api_key="none", max_retries=0)

    async def ask(history: list[Message]) -> Any:
        asked = {**body("chat", history), "model": "any"}
        if stream:
            state = ChatCompletionStreamState()
            async for chunk in await client.chat.completions.create(**asked, stream=True):
                state.handle_chunk(chunk)
            return state.get_final_completion().model_dump()
        return (await client.chat.completions.create(**asked)).model_dump()

    async with client:
        yield ask


CLIENTS = {"chat": chat_client, "anthropic": anthropic_client, "responses": responses_client}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("protocol", sorted(CLIENTS))
async def test_a_conversation_is_one_stream(
    session: GatewaySession, policy: Played, protocol: str, stream: bool
) -> None:
    history, read = list(START), []
    async with CLIENTS[protocol](session, stream=stream) as ask:
        for _ in SAID:
            said = understood(protocol, await ask(history))
            read.append(said)
            history = [*history, said, *observations(said, "a.py")]
    trajectory = session.trajectory("a", Stop.SUBMITTED)
    check(trajectory, policy)
    assert trajectory.branches == ()
    for before, sampled, after in zip(policy.prompts, policy.sampled, policy.prompts[1:], strict=False):
        assert after[: len(before) + len(sampled)] == before + sampled
    assert trajectory.token_ids == tuple(policy.prompts[-1] + policy.sampled[-1])
    assert [said["content"] for said in read] == ["I look.", "", "", "Nearly.", "Done."]
    assert [bool(said.get("reasoning_content")) for said in read] == [True, False, False, True, False]
    first = [json.loads(call["function"]["arguments"]) for call in read[0]["tool_calls"]]
    assert first == [{"command": "ls"}, {"command": "ls"}]
    assert [call.status for call in trajectory.responses[1].tool_calls] == ["malformed"]
    assert [len(response.tool_calls) for response in trajectory.responses] == [2, 1, 1, 0, 0]
    assert {call.observation for response in trajectory.responses for call in response.tool_calls} == {"a.py"}


ENDS = {
    "chat": ("tool_calls", "stop"),
    "anthropic": ("tool_use", "end_turn"),
    "responses": ("completed", "completed"),
}


@pytest.mark.parametrize("protocol", sorted(CLIENTS))
async def test_how_a_response_ends_and_what_it_used(session: GatewaySession, policy: Played, protocol: str) -> None:
    policy.replies = [SAID[0], SAID[-1]]
    async with CLIENTS[protocol](session, stream=False) as ask:
        first = await ask(START)
        said = understood(protocol, first)
        answers = [first, await ask([*START, said, *observations(said, "a.py")])]
    assert tuple(ended(protocol, answer) for answer in answers) == ENDS[protocol]
    for answer, prompt, sampled in zip(answers, policy.prompts, policy.sampled, strict=True):
        assert used(protocol, answer["usage"]) == (len(prompt), len(sampled))


def ended(protocol: str, answer: Any) -> str:
    match protocol:
        case "chat":
            return answer["choices"][0]["finish_reason"]
        case "anthropic":
            return answer["stop_reason"]
        case _:
            return answer["status"]


def used(protocol: str, usage: Any) -> tuple[int, int]:
    """Tokens of the prompt and of the response."""
    match protocol:
        case "chat":
            return usage["prompt_tokens"], usage["completion_tokens"]
        case "anthropic":
            return usage["input_tokens"] + usage["cache_read_input_tokens"], usage["output_tokens"]
        case _:
            return usage["input_tokens"], usage["output_tokens"]


CUT_OFF = {"chat": "length", "anthropic": "max_tokens", "responses": "incomplete"}


@pytest.mark.parametrize("protocol", sorted(CLIENTS))
async def test_a_response_that_is_cut_off_says_so(policy: Played, protocol: str) -> None:
    limits = LIMITS.model_copy(update={"max_response_tokens": 4})
    async with (
        Gateway(RENDERER) as gateway,
        gateway.session(TASK, 0, policy, limits, Deadline.after(60)) as session,
        CLIENTS[protocol](session, stream=False) as ask,
    ):
        assert ended(protocol, await ask(START)) == CUT_OFF[protocol]


async def test_anthropic_counts_tokens_and_lists_models(session: GatewaySession, policy: Played) -> None:
    async with anthropic.AsyncAnthropic(base_url=session.url.removesuffix("/v1"), api_key="none") as client:
        asked = {name: value for name, value in body("anthropic", START).items() if name != "max_tokens"}
        counted = await client.messages.count_tokens(model="any", **asked)
        assert policy.prompts == []
        await client.messages.create(model="any", max_tokens=9, **asked)
        assert counted.input_tokens == len(policy.prompts[0])
        assert (await client.messages.count_tokens(model="any", **asked)).input_tokens == counted.input_tokens
        assert [card.id async for card in client.models.list()] == ["played"]


ENDINGS = [
    ("maximum context length: full", Stop.CONTEXT_LIMIT, 400, "maximum context length: full"),
    ("all 3 turns are taken", Stop.TURN_LIMIT, 403, "all 3 turns are taken"),
]


@pytest.mark.parametrize(("why", "stop", "status", "words"), ENDINGS, ids=["context", "turns"])
@pytest.mark.parametrize("protocol", sorted(CLIENTS))
async def test_an_ended_session_says_why_in_the_protocols_own_form(
    session: GatewaySession, protocol: str, why: str, stop: Stop, status: int, words: str
) -> None:
    session.end(why, stop=stop)
    with pytest.raises((openai.APIStatusError, anthropic.APIStatusError), match=words) as raised:
        async with CLIENTS[protocol](session, stream=False) as ask:
            await ask(START)
    assert raised.value.status_code == status
    error: Any = raised.value.body
    if protocol == "anthropic":
        kind = "invalid_request_error" if status == 400 else "permission_error"
        assert error["error"]["type"] == kind
        assert ("prompt is too long" in str(raised.value)) == (stop is Stop.CONTEXT_LIMIT)
    else:
        assert error["code"] == ("context_length_exceeded" if status == 400 else "session_ended")


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
SEEN = {"type": "text", "text": "Before it."}
USER = [{"role": "user", "content": "Fix it."}]


RESULTS = {
    "messages": {"messages": [
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x", "content": [SEEN, IMAGE]}]}
    ]},
    "responses": {"input": [
        {"type": "function_call_output", "call_id": "x", "output": [SEEN, {"type": "input_image", "image_url": "x"}]}
    ]},
    "chat/completions": {"messages": [
        {"role": "tool", "tool_call_id": "x", "content": [SEEN, {"type": "image_url", "image_url": {"url": "x"}}]}
    ]},
}  # fmt: skip
"""A result of a tool with a picture in it, by protocol."""


@pytest.mark.parametrize("path", RESULTS)
async def test_a_picture_in_the_result_of_a_tool_is_words(session: GatewaySession, policy: Played, path: str) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{session.url}/{path}", json=RESULTS[path])
    assert answer.status_code == 200
    (prompt,) = policy.prompts
    assert f"Before it.\n{UNSEEN}\n" in RENDERER.tokenizer.decode(prompt)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "reads text only"),
        ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, "reads text only"),
        ({"messages": [*USER, {"role": "assistant", "content": "I"}]}, "beginning of a response"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "roles user, assistant"),
        ({"messages": USER, "stop_sequences": ["x"]}, "own stop tokens"),
        ({"messages": USER, "tool_choice": {"type": "any"}}, "chooses its tools"),
        ({"messages": USER, "output_config": {"format": {"type": "json_schema"}}}, "responses are text"),
        ({"messages": USER, "tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "Anthropic's servers"),
        ({"messages": USER, "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}, "client sends"),
        ({"messages": []}, "non-empty list"),
    ],
)
async def test_what_anthropics_clients_may_not_ask(
    session: GatewaySession, policy: Played, asked: Any, why: str
) -> None:
    async with anthropic.AsyncAnthropic(base_url=session.url.removesuffix("/v1"), api_key="none") as client:
        with pytest.raises(anthropic.BadRequestError, match=why) as raised:
            await client.post("/v1/messages", body=asked, cast_to=object)
    assert raised.value.body["error"]["type"] == "invalid_request_error"  # type: ignore[index]
    assert policy.prompts == []


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "reads text only"),
        ({"input": "x", "previous_response_id": "resp_1"}, "send the whole conversation"),
        ({"input": "x", "conversation": "conv_1"}, "send the whole conversation"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "send the whole conversation"),
        ({"input": "x", "store": True}, "not kept for clients"),
        ({"input": "x", "background": True}, "answer to its request"),
        ({"input": "x", "truncation": "auto"}, "what the client sends"),
        ({"input": "x", "text": {"format": {"type": "json_object"}}}, "responses are text"),
        ({"input": "x", "tool_choice": "required"}, "chooses its tools"),
        ({"input": "x", "include": ["message.output_text.logprobs"]}, "not sent"),
        ({"input": "x", "tools": [{"type": "web_search"}]}, "not supported"),
        ({"input": [{"type": "web_search_call"}]}, "means nothing"),
        ({"input": []}, "non-empty list"),
    ],
)
async def test_what_clients_of_responses_may_not_ask(
    session: GatewaySession, policy: Played, asked: Any, why: str
) -> None:
    async with openai.AsyncOpenAI(base_url=session.url, api_key="none") as client:
        with pytest.raises(openai.BadRequestError, match=why) as raised:
            await client.post("/responses", body=asked, cast_to=object)
    assert raised.value.code == "bad_request"
    assert policy.prompts == []


async def test_settings_that_only_change_sampling_are_the_runs(session: GatewaySession, policy: Played) -> None:
    async with (
        openai.AsyncOpenAI(base_url=session.url, api_key="none") as of_openai,
        anthropic.AsyncAnthropic(base_url=session.url.removesuffix("/v1"), api_key="none") as of_anthropic,
    ):
        await of_openai.responses.create(
            model="any", input="Hi.", temperature=0, top_p=0.1, max_output_tokens=1, parallel_tool_calls=False,
            reasoning={"effort": "high", "summary": "auto"}, text={"format": {"type": "text"}, "verbosity": "low"},
            metadata={"a": "b"}, prompt_cache_key="x", service_tier="auto", truncation="disabled", store=False,
        )  # fmt: skip
        await of_anthropic.messages.create(
            model="any", max_tokens=1, messages=[{"role": "user", "content": "Ho."}],
            extra_body={"temperature": 0, "top_k": 1, "tool_choice": {"type": "auto"}},
            metadata={"user_id": "u"}, service_tier="auto",
        )  # fmt: skip
    sampled = {(params.temperature, params.top_p, params.max_tokens) for params in policy.params}
    assert sampled == {(1.0, LIMITS.top_p, LIMITS.max_response_tokens)}


async def test_a_path_that_is_not_served_names_those_that_are(session: GatewaySession) -> None:
    async with openai.AsyncOpenAI(base_url=session.url, api_key="none") as client:
        with pytest.raises(openai.NotFoundError, match="POST responses"):
            await client.responses.retrieve("resp_1")


def test_tools_are_those_of_chat_completions() -> None:
    read = {protocol: wire.read_request(body(protocol, START)).tools for protocol, wire in WIRES.items()}
    assert read["anthropic"] == read["responses"] == read["chat"] == TOOLS["chat"]


FREE = {"type": "custom", "name": "patch", "description": "Patches.", "format": {"type": "grammar", "syntax": "lark"}}
FREE["format"]["definition"] = "start: ANYTHING"  # type: ignore[index]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_tool_of_free_text_is_a_function_with_one_text(stream: bool) -> None:
    said = [{"input": '*** "a" \u00e9\n'}, {"text": "x"}, {"input": 3}]
    replies = [
        f"<tool_call>\n{json.dumps({'name': 'patch', 'arguments': one})}\n</tool_call><|im_end|>" for one in said
    ]
    policy = Played(RENDERER, [*replies, "Done.<|im_end|>"])
    items: list[Any] = [{"role": "user", "content": "Fix it."}]
    async with (
        Gateway(RENDERER) as gateway,
        gateway.session(TASK, 0, policy, LIMITS, Deadline.after(60)) as session,
        openai.AsyncOpenAI(base_url=session.url, api_key="none", max_retries=0) as client,
    ):
        kinds = []
        for _ in policy.replies:
            asked = {"model": "any", "input": items, "tools": [FREE]}
            if stream:
                async with client.responses.stream(**asked) as events:
                    output = (await events.get_final_response()).output
            else:
                output = (await client.responses.create(**asked)).output
            items += [item.model_dump(exclude_none=True) for item in output]
            kinds.append((output[-1].type, getattr(output[-1], "input", None)))
            if output[-1].type in ("custom_tool_call", "function_call"):
                items.append({"type": f"{output[-1].type}_output", "call_id": output[-1].call_id, "output": "seen"})
    assert kinds == [("custom_tool_call", said[0]["input"]), *[("function_call", None)] * 2, ("message", None)]
    trajectory = session.trajectory("a", Stop.SUBMITTED)
    check(trajectory, policy)
    assert (len(trajectory.responses), trajectory.branches) == (4, ())
    assert [one.tool_calls[0].observation for one in trajectory.responses[:3]] == ["seen"] * 3
    assert "Patches.\\n\\nThe input's grammar:\\nstart: ANYTHING" in RENDERER.tokenizer.decode(policy.prompts[0])
