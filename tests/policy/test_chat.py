"""`ChatApiPolicy` against a chat API of this process: rate limits, failures, refusals, odd answers, what is counted."""

import asyncio
import copy
import json
import socket
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import ValidationError

from swe_aem.agent.chat_message import read_message, sent_back
from swe_aem.core import SamplingParams, unavailable_reason
from swe_aem.errors import PolicyError, UserError
from swe_aem.policy import AnswersLost, ContextOverflow, RunRefused, open_policy_factory
from swe_aem.policy.chat import base_url, endpoint, open_chat
from swe_aem.policy.chat_config import ChatConfig
from tests.policy.chat_api import USAGE, ChatApi, answer, serving
from tests.waiting import until

PARAMS = SamplingParams(max_tokens=100, seed=(1 << 40) + 5)
ASK = [{"role": "user", "content": "Fix it."}]
TOOL = {"type": "function", "function": {"name": "bash", "parameters": {"type": "object", "properties": {}}}}
KEY = "sk-test-0123456789"


@pytest.fixture
async def api() -> AsyncIterator[ChatApi]:
    async with serving() as served:
        yield served


def config(api: ChatApi, **changes: Any) -> ChatConfig:
    return ChatConfig.model_validate({"url": api.url, "model": "gpt-x", "backoff_s": 0.001} | changes)


@asynccontextmanager
async def opened(api: ChatApi, **changes: Any) -> AsyncIterator[Any]:
    async with open_chat(config(api, **changes)) as policy:
        yield policy


async def ask(policy: Any, messages: Any = ASK, tools: Any = (TOOL,), params: SamplingParams = PARAMS) -> Any:
    return await policy.chat(messages, tools, params, trajectory_id="t.0")


async def test_a_request_and_its_answer(api, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY + "\n")
    call = {"id": "c1", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls"}'}}
    api.script = [answer(None, finish="tool_calls", tool_calls=[call], refusal=None)]
    async with opened(api) as policy:
        completion = await ask(policy)
    (request,) = api.requests
    assert request == {
        "model": "gpt-x",
        "messages": ASK,
        "tools": [TOOL],
        "temperature": 1.0,
        "top_p": 1.0,
        "seed": 5,
        "stream": False,
        "max_tokens": 100,
    }
    assert api.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert completion.message == {"role": "assistant", "content": "", "tool_calls": [call]}
    assert completion.finish_reason == "stop"
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (100, 10)
    assert completion.usage.cost_usd is None


async def test_no_key_is_sent_where_there_is_none(api, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    async with opened(api) as policy:
        await ask(policy)
    assert "Authorization" not in api.headers[0]


@pytest.mark.parametrize(
    ("message", "read"),
    [
        ({"content": None, "refusal": "I cannot."}, {"content": "I cannot."}),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, {"content": "ab"}),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                    {"type": "text", "text": "a"},
                ]
            },
            {"content": "a", "reasoning_content": "hm"},
        ),
        ({"content": "a", "reasoning_content": "hm"}, {"content": "a", "reasoning_content": "hm"}),
        ({"content": "a", "reasoning": "hm"}, {"content": "a", "reasoning_content": "hm"}),
        (
            {"content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]},
            {
                "content": "",
                "tool_calls": [
                    {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
                ],
            },
        ),
        ({"content": "a", "tool_calls": [], "function_call": None, "audio": None}, {"content": "a"}),
    ],
)
async def test_messages_are_read_as_servers_write_them(api, message, read):
    api.script = [answer(**message)]
    async with opened(api) as policy:
        assert (await ask(policy)).message == {"role": "assistant", **read}


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
async def test_reasoning_and_fields_of_the_api_go_back_as_they_came(api, name):
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}, "signature": "s"}
    api.script = [answer("", tool_calls=[call], **{name: "hm"}, reasoning_details=[{"x": 1}]), answer()]
    async with opened(api) as policy:
        first = (await ask(policy)).message
        await ask(policy, [*ASK, first, {"role": "tool", "tool_call_id": "c1", "content": "out"}])
    sent = api.requests[1]["messages"][1]
    assert sent == {
        "role": "assistant",
        "content": None,
        "tool_calls": [call],
        name: "hm",
        "reasoning_details": [{"x": 1}],
    }


async def test_reasoning_that_an_api_does_not_take_back_is_left_out(api):
    refusal = (400, {"error": {"message": "reasoning_content cannot be included in the context"}})
    api.script = [answer(reasoning_content="hm"), refusal, answer()]
    async with opened(api) as policy:
        first = (await ask(policy)).message
        await ask(policy, [*ASK, first, *ASK])
        await ask(policy, [*ASK, first, *ASK])
    assert ["reasoning_content" in request["messages"][-2] for request in api.requests[1:]] == [True, False, False]


async def test_malformed_arguments_go_back_as_an_object(api):
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x": '}}
    api.script = [answer("", tool_calls=[call]), answer()]
    async with opened(api) as policy:
        first = (await ask(policy)).message
        assert first["tool_calls"][0]["function"]["arguments"] == '{"x": '
        await ask(policy, [*ASK, first, {"role": "tool", "tool_call_id": "c1", "content": "no"}])
    assert json.loads(api.requests[1]["messages"][1]["tool_calls"][0]["function"]["arguments"]) == {"raw": '{"x": '}


@pytest.mark.parametrize(
    ("finish", "read"),
    [
        ("tool_calls", "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
        (None, "stop"),
        ("content_filter", "stop"),
    ],
)
async def test_ends_of_responses(api, finish, read):
    api.script = [answer(None, finish=finish)]
    async with opened(api) as policy:
        completion = await ask(policy)
    assert completion.finish_reason == read
    assert ("filter" in completion.message["content"]) == (finish == "content_filter")


# What an API takes.


async def test_what_a_model_refuses_by_name_is_left_out_or_named_otherwise(api):
    def refusal(name: str) -> Any:
        return (400, {"error": {"message": f"Unsupported parameter: '{name}' is not supported", "param": name}})

    limit = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    api.script = [(400, {"error": {"message": limit}}), refusal("seed"), refusal("top_p"), answer(), answer()]
    async with opened(api) as policy:
        await ask(policy)
        await ask(policy)
    assert len(api.requests) == 5, "learned once"
    assert api.requests[-1].keys() == {"model", "messages", "tools", "temperature", "stream", "max_completion_tokens"}


async def test_refusals_that_cross_are_learned_once_each(api):
    limit = (
        400,
        {"error": {"message": "'max_tokens' is not supported. Use 'max_completion_tokens'.", "param": "max_tokens"}},
    )
    api.script = [limit] * 4 + [answer()]
    async with opened(api) as policy:
        await asyncio.gather(*(ask(policy) for _ in range(4)))
    assert len(api.requests) == 8


async def test_a_temperature_that_a_model_refuses_is_an_error(api):
    api.script = [(400, {"error": {"message": "Unsupported value: 'temperature' does not support 0.5"}})]
    async with opened(api) as policy:
        with pytest.raises(UserError, match=r"takes no temperature 0\.5"):
            await ask(policy, params=PARAMS.model_copy(update={"temperature": 0.5}))


async def test_a_lower_limit_of_a_models_responses_is_kept(api):
    said = "max_tokens is too large: 100. This model supports at most 64 completion tokens, whereas you provided 100."
    api.script = [(400, {"error": {"message": said}}), answer()]
    async with opened(api) as policy:
        await ask(policy)
        await ask(policy)
    assert [request["max_tokens"] for request in api.requests] == [100, 64, 64]


async def test_a_date_or_a_version_is_no_limit(api):
    said = (
        "max_tokens is too large: 9,000. The model m-2024 of 2025-06-01 (v2.1999, 2026/08/06 12:30:59, request "
        "req_3000) supports at most 1,024 completion tokens."
    )
    api.script = [(400, {"error": {"message": said}}), answer()]
    async with opened(api) as policy:
        await ask(policy, params=PARAMS.model_copy(update={"max_tokens": 9000}))
    assert [request["max_tokens"] for request in api.requests] == [9000, 1024]


async def test_a_response_gets_the_room_that_is_left(api):
    said = (
        "This model's maximum context length is 4096 tokens. However, you requested 100 output tokens and your prompt "
        "contains 4056 input tokens, for a total of 4156 tokens."
    )
    api.script = [(400, {"error": {"message": said}}), answer()]
    async with opened(api) as policy:
        await ask(policy)
    assert [request["max_tokens"] for request in api.requests] == [100, 40]


async def test_a_limit_above_the_models_whole_context_is_lowered_until_the_response_fits(api):
    """The words are those of vLLM 0.31, which counts a prompt only as far as it could fit."""
    above = "max_tokens=5000 cannot be greater than max_model_len=1024. Please request fewer output tokens."
    full = (
        "This model's maximum context length is 1024 tokens. However, you requested {} output tokens and your prompt "
    )
    letters = "contains 207 characters (more than 0 characters, which is the upper bound for 0 input tokens)."
    tokens = "contains at least 513 input tokens, for a total of at least 1025 tokens."
    said = [above, full.format(1024) + letters, full.format(512) + tokens]
    api.script = [*((400, {"error": {"message": one}}) for one in said), answer()]
    async with opened(api) as policy:
        await ask(policy, params=PARAMS.model_copy(update={"max_tokens": 5000}))
    assert [request["max_tokens"] for request in api.requests] == [5000, 1024, 512, 256]


async def test_messages_that_fill_the_context_are_found_out_after_a_few_requests(api):
    said = "This model's maximum context length is 1024 tokens. Your prompt contains at least 1000 input tokens."
    api.script = [(400, {"error": {"message": said}})]
    async with opened(api) as policy:
        with pytest.raises(ContextOverflow):
            await ask(policy, params=PARAMS.model_copy(update={"max_tokens": 4096}))
    assert len(api.requests) == 8


@pytest.mark.parametrize(
    "error",
    [
        {"message": "Input is too long for this model", "code": "context_length_exceeded"},
        {"message": "This model's maximum context length is 4096 tokens, and your prompt contains 5000 input tokens"},
        {"message": "prompt is too long: 210000 tokens > 200000 maximum"},
        {"message": "the request exceeds the available context size", "type": "exceed_context_size_error"},
    ],
)
async def test_context_overflow_has_its_own_error(api, error):
    api.script = [(400, {"error": error})]
    async with opened(api) as policy:
        with pytest.raises(ContextOverflow):
            await ask(policy)
    assert len(api.requests) == 1


# Usage and cost.


@pytest.mark.parametrize(
    ("usage", "cached"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 64}}, 64),
        ({"prompt_cache_hit_tokens": 64}, 64),
        ({"cached_tokens": 64}, 64),
        ({"prompt_tokens_details": None}, 0),
        ({}, 0),
    ],
)
async def test_cached_tokens_and_prices(api, usage, cached):
    api.script = [answer(usage=USAGE | usage)]
    async with opened(api, price={"input_usd": 2, "output_usd": 10, "cached_usd": 0.5}) as policy:
        used = (await ask(policy)).usage
    assert used.cached_tokens == cached
    assert used.cost_usd == pytest.approx(((100 - cached) * 2 + cached * 0.5 + 10 * 10) / 1e6)


async def test_the_cost_that_an_api_reports(api):
    api.script = [answer(usage=USAGE | {"cost": 0.25})]
    async with opened(api) as policy:
        assert (await ask(policy)).usage.cost_usd == 0.25


async def test_reasoning_that_an_api_leaves_out_of_its_count_is_counted(api):
    api.script = [answer(usage={"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 500})]
    async with opened(api) as policy:
        assert (await ask(policy)).usage.completion_tokens == 400


@pytest.mark.parametrize("usage", [None, {}, "none", {"prompt_tokens": None}])
async def test_usage_that_an_api_does_not_report_is_estimated_and_said_once(api, usage):
    api.script = [answer("x" * 300, usage=usage)]
    async with opened(api) as policy:
        with pytest.warns(UserWarning, match="reports no usage"):
            used = (await ask(policy, [{"role": "user", "content": "y" * 3000}])).usage
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            await ask(policy)
    assert used.prompt_tokens > 1000
    assert used.completion_tokens > 100


# Failures.


@pytest.mark.parametrize(
    "fault",
    [
        "drop",
        "truncate",
        (500, {"error": {"message": "boom"}}),
        (502, {}),
        (504, {}),
        (408, {}),
        {"error": {"message": "provider failed", "code": 502}},
        {"choices": []},
        {"choices": [{"message": None}]},
        answer(finish="error"),
        answer(finish="abort"),
    ],
)
async def test_a_failure_is_retried(api, fault):
    api.script = [fault, fault, answer()]
    async with opened(api) as policy:
        assert (await ask(policy)).message["content"] == "Hello."
    assert len(api.requests) == 3


async def test_failures_end_after_the_attempts(api):
    api.script = [(500, {"error": {"message": "boom"}})]
    async with opened(api, attempts=3) as policy:
        with pytest.raises(PolicyError, match=r"/v1/chat/completions answers 500: boom \(3 attempts\)") as caught:
            await ask(policy)
    assert not isinstance(caught.value, UserError)
    assert len(api.requests) == 3


async def test_a_slow_api_is_given_up_at_the_timeout(api):
    api.script = ["stall", answer()]
    async with opened(api, attempts=20, request_timeout_s=0.2) as policy:
        came = await ask(policy)
        tries = came.usage.prompt_tokens // 100
        assert tries >= 2, "the lost answer counts like the one that came"
        assert came.usage.tokens == tries * came.context_tokens, "and fills no context"


@pytest.mark.parametrize(
    ("faults", "counted"),
    [
        (["drop"], 200),
        (["truncate", "drop"], 300),
        ([answer(finish="error")], 200),
        ([(500, {})], 100),
        ([(429, {}, {"Retry-After": "0"})], 100),
        ([{"error": {"message": "provider failed", "code": 502}}], 100),
    ],
)
async def test_what_a_lost_answer_may_have_cost_is_counted(api, faults, counted):
    api.script = [*faults, answer()]
    async with opened(api, price={"input_usd": 1, "output_usd": 0}) as policy:
        used = (await ask(policy)).usage
    assert used.prompt_tokens == counted
    assert used.cost_usd == pytest.approx(counted / 1e6)


async def test_cancelling_stops_the_request(api):
    api.script = ["stall"]
    async with opened(api) as policy:
        task = asyncio.create_task(ask(policy))
        await api.arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


# Rate limits.


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": "0"},
        {"retry-after-ms": "1"},
        {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"},
        {"Retry-After": "?"},
    ],
)
async def test_a_rate_limit_is_no_failure(api, headers):
    api.script = [*[(429, {"error": {"message": "slow down"}}, headers)] * 8, answer()]
    async with opened(api, attempts=1) as policy:
        await ask(policy)
    assert len(api.requests) == 9


async def test_a_rate_limit_holds_back_everything_and_says_so(api):
    api.script = [(429, {"error": {"message": "slow down"}}, {"Retry-After": "600"})]
    async with opened(api) as policy:
        assert unavailable_reason(policy, "t.0") is None
        first = asyncio.create_task(ask(policy))
        await until(lambda: unavailable_reason(policy, "t.0"))
        assert "slow down" in str(unavailable_reason(policy, "t.0"))
        second = asyncio.create_task(ask(policy))
        for _ in range(20):
            await asyncio.sleep(0)
        first.cancel()
        second.cancel()
        assert all(
            isinstance(one, asyncio.CancelledError)
            for one in await asyncio.gather(first, second, return_exceptions=True)
        )
        assert len(api.requests) == 1, "nothing is sent before the time that the API asks for"
        assert unavailable_reason(policy, "t.0"), (
            "the deadline of a trajectory that waits asks after its request is cancelled"
        )


async def test_a_failing_api_is_what_a_request_waits_for(api):
    api.script = [(500, {"error": {"message": "out of order"}}, {"Retry-After": "600"}), answer()]
    async with opened(api) as policy:
        failing = asyncio.create_task(ask(policy))
        await until(lambda: "out of order" in str(unavailable_reason(policy, "t.0")))
        failing.cancel()
        await asyncio.gather(failing, return_exceptions=True)
        assert "out of order" in str(unavailable_reason(policy, "t.0"))
        assert unavailable_reason(policy, "other.0") is None
        await ask(policy)
        assert unavailable_reason(policy, "t.0") is None


async def test_a_slow_answer_is_no_wait_for_the_rate_limit_of_others(api):
    api.script = ["stall", (429, {"error": {"message": "slow down"}}, {"Retry-After": "600"})]
    async with opened(api) as policy:
        slow = asyncio.create_task(policy.chat(ASK, (), PARAMS, trajectory_id="slow.0"))
        await until(lambda: api.requests)
        refused = asyncio.create_task(ask(policy))
        await until(lambda: unavailable_reason(policy, "t.0"))
        slow.cancel()
        refused.cancel()
        await asyncio.gather(slow, refused, return_exceptions=True)
        assert unavailable_reason(policy, "slow.0") is None, "it was the model that took so long"


async def test_requests_in_flight_adapt_to_a_rate_limit(api):
    api.script = [(429, {}, {"Retry-After": "0"})] * 8 + [answer()]
    async with opened(api) as policy:
        await asyncio.gather(*(ask(policy) for _ in range(8)))
        assert 1 <= policy._pace.limit < 8


@pytest.mark.parametrize("entry", [(429, {}, {"Retry-After": "7200"}), (429, {}, {"Retry-After": "0.05"})])
async def test_a_rate_limit_that_lasts_ends_the_run(api, entry):
    api.script = [entry]
    async with opened(api, patience_s=0.2) as policy:
        with pytest.raises(RunRefused, match=r"the rate limit of .*patience_s is 0\.2"):
            await ask(policy)


# Refusals of everything: told at once, with the URL and what to do.


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            (401, {"error": {"message": "bad key"}}),
            r"refuses the key \(401: bad key\): the environment variable OPENAI_API_KEY",
        ),
        ((402, {"error": {"message": "empty"}}), "no credit left"),
        ((429, {"error": {"message": "quota", "code": "insufficient_quota"}}), "no credit left"),
        ((403, {"error": {"message": "not yours"}}), "forbids the request"),
        (
            (404, {"error": {"message": "The model `gpt-y` does not exist"}}),
            r"does not serve the model gpt-y \(did you mean gpt-x\?\)",
        ),
        ((405, {}), "refuses the first request"),
        ((400, {"error": {"message": "tools are not supported"}}), "refuses the first request"),
        ((301, {}, {"Location": "https://elsewhere/v1"}), "redirects to https://elsewhere/v1"),
        ("page", "web page"),
    ],
)
async def test_refusals_at_the_first_request(api, monkeypatch, entry, message):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    api.script = [entry]
    async with opened(api, model="gpt-y") as policy:
        with pytest.raises(RunRefused, match=message) as caught:
            await ask(policy)
    assert api.url in str(caught.value)
    assert len(api.requests) == 1


async def test_a_refusal_of_one_conversation_does_not_end_the_run(api):
    api.script = [answer(), (400, {"error": {"message": "flagged"}})]
    async with opened(api) as policy:
        await ask(policy)
        with pytest.raises(PolicyError, match="answers 400: flagged"):
            await ask(policy)


async def test_a_wrong_key_is_told_when_the_policy_opens_and_never_shown(api, monkeypatch):
    monkeypatch.setenv("SOME_KEY", KEY)
    api.key = "another"
    with pytest.raises(
        RunRefused, match=r"refuses the key \(401: wrong key Bearer \*\*\*\): is the value of SOME_KEY"
    ) as caught:
        async with opened(api, api_key_env="SOME_KEY"):
            pass
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "models", [(404, {}), (403, {}), {}, {"data": 5}, {"data": [{"id": "other", "owned_by": "azure"}]}]
)
async def test_a_list_of_models_may_be_missing_or_incomplete(api, models):
    api.models = models
    async with opened(api) as policy:
        await ask(policy)


async def test_a_model_that_vllm_does_not_serve_is_told_when_the_policy_opens(api):
    api.models = {"data": [{"id": "Qwen3-8B", "owned_by": "vllm"}]}
    with pytest.raises(RunRefused, match=r"does not serve Qwen3-8b \(did you mean Qwen3-8B\?\); it serves Qwen3-8B"):
        async with opened(api, model="Qwen3-8b"):
            pass


async def test_no_server_and_a_proxy_in_the_way(api, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(RunRefused, match=r"cannot connect.*is the server running"):
            async with open_chat(ChatConfig(url=url, model="m")):
                pass
        monkeypatch.setenv("HTTPS_PROXY", url)
        with pytest.raises(RunRefused, match="through the proxy"):
            async with open_chat(ChatConfig(url="https://api.example.org", model="m")):
                pass


async def test_https_at_a_server_of_plain_http(api):
    with pytest.raises(RunRefused, match="write http://"):
        async with open_chat(ChatConfig(url=api.url.replace("http://", "https://"), model="m")):
            pass


# Settings.


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://host:8000", "http://host:8000/v1"),
        ("http://host:8000/", "http://host:8000/v1"),
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        ("https://openrouter.ai/api/v1/chat/completions", "https://openrouter.ai/api/v1"),
        ("https://x.example/openai/?api-version=1", "https://x.example/openai?api-version=1"),
    ],
)
def test_addresses(url, base):
    assert base_url(url) == base
    assert endpoint(base, "/models") == base.partition("?")[0] + "/models" + "".join(base.partition("?")[1:])


@pytest.mark.parametrize(
    "url", ["https://me:secret@host/v1", "https://host/v1?key=abc", "https://host/v1?access_token=a"]
)
def test_a_url_with_a_key_is_refused_and_not_repeated(url):
    with pytest.raises(ValidationError, match="--api-key-env") as caught:
        ChatConfig(url=url, model="m")
    assert "secret" not in str(caught.value.errors()[0]["msg"])


async def test_a_key_that_cannot_be_sent_is_not_shown(api, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-ä-secret")
    with pytest.raises(UserError, match="OPENAI_API_KEY is no key") as caught:
        async with opened(api):
            pass
    assert "secret" not in str(caught.value)


async def test_the_factory_opens_a_short_form(api):
    setting = {"type": f"chat:{api.url}", "model": "gpt-x"}
    renderer: Any = None
    async with open_policy_factory(setting, renderer) as factory:
        record: Any = None
        assert factory(record, 0) is factory(record, 1)
        assert factory(record, 0).name == "gpt-x"


_ODD = [None, True, 5, -1, 1e400, "", "x", "\ud800", [], [5], [{}], {}, {"a": 1}]
_FULL = answer(
    "Hello.",
    finish="tool_calls",
    usage=USAGE | {"cost": 0.5, "prompt_tokens_details": {"cached_tokens": 10}},
    reasoning_content="Hm.",
    tool_calls=[{"id": "c1", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls"}'}}],
)


def _places(value: Any, *above: Any) -> Iterator[tuple[Any, ...]]:
    yield above
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield from _places(item, *above, name)


@pytest.mark.parametrize("place", list(_places(_FULL)), ids=lambda place: ".".join(map(str, place)) or "all")
async def test_whatever_stands_at_a_place_of_an_answer(api, place):
    """It is a response, which later requests can hold, or a failure of the API."""
    async with opened(api, attempts=1) as policy:
        for odd in _ODD:
            body = {"": copy.deepcopy(_FULL)}
            at: Any = body
            for name in ("", *place)[:-1]:
                at = at[name]
            at[("", *place)[-1]] = odd
            api.script = [(200, body[""])]
            try:
                completion = await ask(policy)
            except (PolicyError, UserError):
                continue
            said = sent_back(completion.message, read_message(completion, 1))
            assert 0 <= completion.usage.tokens < 10**13
            assert completion.usage.cost_usd is None or completion.usage.cost_usd >= 0
            api.script = [answer()]
            await ask(policy, [*ASK, said])


async def test_no_error_shows_the_key_whatever_its_variable_is_called(api, monkeypatch):
    monkeypatch.setenv("MY_LOGIN", "private-0123456789")
    api.script = [(400, {"error": {"message": "you sent Bearer private-0123456789"}})]
    with pytest.raises(RunRefused, match=r"you sent Bearer \*\*\*"):
        async with opened(api, api_key_env="MY_LOGIN") as policy:
            await ask(policy)


async def test_what_attempts_took_that_all_failed_is_told(api):
    async def lost(fault: Any) -> PolicyError:
        api.script = [fault]
        async with opened(api, attempts=2, price={"input_usd": 1, "output_usd": 2}) as policy:
            with pytest.raises(PolicyError) as failed:
                await ask(policy)
        return failed.value

    said_so = await lost(answer("x", finish="error"))
    assert isinstance(said_so, AnswersLost)
    assert (said_so.usage.tokens, said_so.usage.cost_usd) == (220, pytest.approx(240e-6))
    broke_off = await lost("drop")
    assert isinstance(broke_off, AnswersLost)
    assert broke_off.usage.prompt_tokens > 0
    assert broke_off.usage.cost_usd
    assert not isinstance(await lost((500, {"error": {"message": "out of order"}})), AnswersLost)


@pytest.mark.parametrize("fields", [{"api_key": KEY}, {"extra_headers": {"Authorization": f"Bearer {KEY}"}}])
def test_a_key_in_further_fields_is_refused_without_being_shown(fields):
    with pytest.raises(ValidationError, match="--api-key-env") as refused:
        ChatConfig.model_validate({"url": "http://x", "model": "m", "extra_body": fields})
    assert KEY not in refused.value.errors()[0]["msg"]
