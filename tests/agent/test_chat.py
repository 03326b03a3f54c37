"""Agents with a chat API: what it is asked, what is kept, and every way to end."""

import asyncio
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swe_aem.agent import NativeAgent, NativeConfig, TurnLimits
from swe_aem.agent.conversation import OwnAgent
from swe_aem.agent.tools import SPECS
from swe_aem.core import ChatCompletion, Deadline, SandboxSpec, Stop, Task, Usage
from swe_aem.errors import PolicyError
from swe_aem.policy import ContextOverflow
from swe_aem.store.trajectory_row import from_row, to_row
from swe_aem.testing.chat import ScriptedChat, calls
from swe_aem.testing.sandbox import FakeSandbox
from tests.agent.test_own_agent import RUN, looking

CONFIG = NativeConfig(max_context_tokens=200_000)
LS = calls(("bash", {"command": "ls"}))
SUBMIT = calls(("submit", {}))


@pytest.fixture
def play(task, make_sandbox):
    """Plays one trajectory without a tokenizer; returns it, the policy and the sandbox."""

    async def go(replies, *, sandbox=None, deadline_s=60.0, **limits):
        policy, sandbox = ScriptedChat(replies), sandbox or make_sandbox()
        agent = NativeAgent(CONFIG.model_copy(update=limits))
        trajectory = await agent.run(task, sandbox, policy, sample=2, deadline=Deadline.after(deadline_s))
        assert not trajectory.token_ids
        assert all(response.usage is not None for response in trajectory.responses)
        return trajectory, policy, sandbox

    return go


def said(name: str, *given: Any, finish_reason: Any = "stop", tokens: tuple[int, int] = (10, 5)) -> ChatCompletion:
    message = calls(*((name, one) for one in given))
    usage = Usage(prompt_tokens=tokens[0], completion_tokens=tokens[1])
    return ChatCompletion(message=message, finish_reason=finish_reason, usage=usage)


async def test_a_whole_trajectory(play, task):
    thinking = calls(("bash", {"command": "ls"}), content="I look.", reasoning_content="Hm.", extra=[{"sign": "abc"}])
    trajectory, policy, sandbox = await play([thinking, SUBMIT])
    assert (trajectory.stop, trajectory.model, sandbox.commands) == (Stop.SUBMITTED, "scripted-chat", ["ls"])
    first, second = policy.requests
    assert first.tools == list(SPECS)
    assert [message["role"] for message in first.messages] == ["system", "user"]
    assert task.problem_statement in first.messages[1]["content"]
    assert second.messages[: len(first.messages)] == first.messages
    assert second.messages[2] == thinking, "the API gets its message as it was, with what only the API understands"
    answer = {"role": "tool", "tool_call_id": "api-bash-0", "name": "bash", "content": "[exit code 0]"}
    assert second.messages[3:] == [answer]
    kept = {"role": "assistant", "content": "I look.", "reasoning_content": "Hm.", "tool_calls": LS["tool_calls"]}
    assert trajectory.messages[:4] == (*first.messages, kept, answer)
    assert [one.tool_calls[0].name for one in trajectory.responses] == ["bash", "submit"]
    assert trajectory.responses[0].usage.cost_usd
    assert trajectory.tokens == trajectory.responses[-1].usage.tokens
    assert (first.params.stop_token_ids, first.params.max_tokens) == ((), CONFIG.max_response_tokens)
    assert first.trajectory_id == trajectory.id
    assert first.params.seed != second.params.seed


async def test_parallel_calls_run_in_order_and_each_has_its_answer(play, make_sandbox):
    sandbox = make_sandbox(lambda sandbox, command: (0, command.encode()))
    trajectory, policy, _ = await play(
        [calls(("bash", {"command": "a"}), ("bash", {"command": "b"})), SUBMIT], sandbox=sandbox
    )
    assert sandbox.commands == ["a", "b"]
    answers = policy.requests[1].messages[3:]
    assert [(one["tool_call_id"], one["content"].split()[0]) for one in answers] == [
        ("api-bash-0", "a"),
        ("api-bash-1", "b"),
    ]
    assert [call.observation.split()[0] for call in trajectory.responses[0].tool_calls] == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "arguments", "problem", "sent"),
    [
        ("bash", '{"command": "ls', "the arguments are not valid JSON", {"raw": '{"command": "ls'}),
        ("bash", '{"command": "a", "command": "b"}', "not valid JSON", {"raw": '{"command": "a", "command": "b"}'}),
        ("bash", "[1]", "the arguments are not a JSON object", {"raw": "[1]"}),
        ("bash", "[" * 100_000, "not valid JSON", {"raw": "[" * 100_000}),
        ("ba sh", "{}", "the name of the tool is not a plain word", {"raw": "ba sh {}"}),
        ("", "{}", "the call names no tool", {"raw": "{}"}),
        ("bsah", '{"command": "ls"}', "there is no tool 'bsah'", {"command": "ls"}),
        ("bash", "{}", "bash needs the argument 'command'", {}),
    ],
)  # fmt: skip
async def test_a_malformed_call_is_told_and_sent_back_well_formed(play, name, arguments, problem, sent):
    trajectory, policy, sandbox = await play([calls((name, arguments)), SUBMIT])
    assert (trajectory.stop, sandbox.commands) == (Stop.SUBMITTED, [])
    call, answer = trajectory.responses[0].tool_calls[0], policy.requests[1].messages[-1]
    assert call.status == "malformed"
    assert problem in call.observation
    assert answer["content"] == call.observation
    (back,) = policy.requests[1].messages[-2]["tool_calls"]
    assert json.loads(back["function"]["arguments"]) == sent, "servers parse the arguments of earlier calls"
    assert back["id"] == answer["tool_call_id"]
    assert back["function"]["name"]


@pytest.mark.parametrize(
    ("arguments", "command", "converted"),
    [
        (json.dumps({"command": "ls"}), "ls", 0),
        (json.dumps(json.dumps({"command": "ls"})), "ls", 1),
        (json.dumps({"command": 5}), "5", 1),
    ],
)
async def test_arguments_that_can_be_read_without_loss_are(play, arguments, command, converted):
    trajectory, policy, sandbox = await play([calls(("bash", arguments)), SUBMIT])
    assert sandbox.commands == [command]
    (call,) = trajectory.responses[0].tool_calls
    assert (call.status, call.converted) == ("ok", converted)
    (back,) = policy.requests[1].messages[2]["tool_calls"]
    assert isinstance(json.loads(back["function"]["arguments"]), dict)


@pytest.mark.parametrize("arguments", ["", "null", "  ", "{}"])
async def test_no_arguments_are_an_empty_object(play, arguments):
    trajectory, _, _ = await play([calls(("submit", arguments))])
    assert (trajectory.stop, trajectory.responses[0].tool_calls[0].arguments) == (Stop.SUBMITTED, {})


async def test_calls_without_ids_or_with_one_for_all_get_their_own(play):
    message = calls(("bash", {"command": "a"}), ("bash", {"command": "b"}), ("bash", {"command": "c"}))
    for call, id in zip(message["tool_calls"], ["", "same", "same"], strict=True):
        call["id"] = id
    trajectory, policy, _ = await play([message, SUBMIT])
    ids = [call["id"] for call in policy.requests[1].messages[2]["tool_calls"]]
    assert ids == [answer["tool_call_id"] for answer in policy.requests[1].messages[3:]]
    assert ids == ["call_1_0", "same", "call_1_2"]
    assert [call["id"] for call in trajectory.messages[2]["tool_calls"]] == ids


async def test_text_that_no_request_can_hold_is_replaced(play):
    trajectory, policy, _ = await play([calls(("bash", '{"command": "\udcff'), content="\ud800"), SUBMIT])
    assert policy.requests[1].messages[2]["content"] == "\ufffd"
    assert trajectory.stop is Stop.SUBMITTED


async def test_a_response_without_a_call_is_told(play):
    trajectory, policy, _ = await play([{"role": "assistant", "content": None}, "I am done.", SUBMIT])
    assert [message["role"] for message in policy.requests[2].messages[2:]] == [
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    assert policy.requests[1].messages[2]["content"] == "", "null is for messages with calls"
    assert trajectory.stop is Stop.SUBMITTED


async def test_a_response_that_was_cut_off_is_told_by_its_tokens(play):
    cut = said("bash", '{"command": "ls', finish_reason="length", tokens=(10, 77))
    trajectory, policy, _ = await play([cut, SUBMIT])
    assert "77" in policy.requests[1].messages[-1]["content"]
    assert trajectory.responses[0].finish_reason == "length"


async def test_malformed_responses_in_a_row_end_it(play):
    trajectory, policy, _ = await play(["Hello."], max_consecutive_malformed=2)
    assert (trajectory.stop, len(policy.requests)) == (Stop.MALFORMED, 2)


async def test_turn_limit(play):
    trajectory, policy, _ = await play([LS], max_turns=3)
    assert (trajectory.stop, len(trajectory.responses), len(policy.requests)) == (Stop.TURN_LIMIT, 3, 3)


async def test_the_context_limit_is_kept_by_usage(play):
    call = {"command": "ls"}
    replies = [
        said("bash", call, tokens=(50, 20)),
        said("bash", call, tokens=(80, 15)),
        said("bash", call, tokens=(95, 9)),
    ]
    trajectory, policy, _ = await play(replies, max_context_tokens=100, max_response_tokens=60)
    assert trajectory.stop is Stop.CONTEXT_LIMIT
    assert [request.params.max_tokens for request in policy.requests] == [60, 30, 5]
    assert trajectory.tokens == 104


async def test_lost_attempts_are_billed_and_fill_no_context(play):
    reply = said("bash", {"command": "ls"}, tokens=(150, 60)).model_copy(update={"context_tokens": 70})
    trajectory, policy, _ = await play([reply, SUBMIT], max_context_tokens=100)
    assert (trajectory.stop, policy.requests[1].params.max_tokens) == (Stop.SUBMITTED, 30)
    assert trajectory.responses[0].used.tokens == 210


async def test_an_overflow_of_the_api_is_the_context_limit(play):
    trajectory, _, _ = await play([LS, ContextOverflow("too long")])
    assert (trajectory.stop, len(trajectory.responses)) == (Stop.CONTEXT_LIMIT, 1)


async def test_failures_and_deadlines(play):
    with pytest.raises(PolicyError, match="500"):
        await play([LS, PolicyError("500")])
    trajectory, policy, _ = await play([LS], deadline_s=0)
    assert (trajectory.stop, policy.requests) == (Stop.TIME_LIMIT, [])


async def test_an_own_agent_converses_with_a_chat_api(task, make_sandbox):
    policy = ScriptedChat([calls(("run", {"command": "ls"})), calls(("run", "{")), "submitted"])
    sandbox = make_sandbox(lambda sandbox, command: (0, b"a file\n"))
    agent = OwnAgent("mine", looking, TurnLimits(max_context_tokens=1 << 40), None)
    trajectory = await agent.run(task, sandbox, policy, sample=3, deadline=Deadline.after(60))
    assert (trajectory.stop, trajectory.token_ids, trajectory.token_exact) == (Stop.SUBMITTED, (), False)
    assert policy.requests[0].tools == RUN
    assert [message["role"] for message in policy.requests[2].messages] == [
        *("user", "assistant", "tool", "user", "assistant", "tool", "user"),
    ]
    assert policy.requests[1].messages[2]["tool_call_id"] == "api-run-0"
    assert [[call.status for call in one.tool_calls] for one in trajectory.responses] == [["ok"], ["malformed"], []]


names = st.sampled_from(["bash", "submit", "str_replace_editor", "no_such", "", "a b", "é", "x" * 65]) | st.none()
written = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["", "null", "{}", "[]", "1e999", '{"command": "ls"', '"{}"', "{" * 2000, '{"a": 1, "a": 2}']),
    st.builds(lambda command: json.dumps({"command": command}), st.text(max_size=10) | st.integers()),
    st.none(),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)
ids = st.sampled_from(["a", "b", "", None])


@st.composite
def odd_messages(draw):
    called = draw(st.lists(st.tuples(names, written, ids), max_size=3))
    message = {"role": "assistant", "content": draw(st.none() | st.text(max_size=10))}
    if called or draw(st.booleans()):
        message["tool_calls"] = [{"id": id, "function": {"name": name, "arguments": text}} for name, text, id in called]
    return message


AGENT = NativeAgent(CONFIG.model_copy(update={"max_turns": 5}))


@settings(deadline=None, max_examples=40)
@given(st.lists(odd_messages(), min_size=1, max_size=4))
def test_every_request_is_one_that_an_api_takes(messages):
    """Whatever the model writes: calls of the history are well formed, and each has its answer."""
    policy = ScriptedChat(messages)
    sandbox = FakeSandbox("fake", SandboxSpec(image="i"))
    task = Task(id="t", repo="o/r", base_commit="c", problem_statement="\ud800", image="i")
    trajectory = asyncio.run(AGENT.run(task, sandbox, policy, sample=0, deadline=Deadline.after(60)))
    assert len(trajectory.responses) == len(policy.requests)
    assert from_row(json.loads(json.dumps(to_row(trajectory)))) == trajectory, "it can be stored"
    for request in policy.requests:
        turns = iter(request.messages[2:])
        for message in turns:
            if message["role"] == "user":
                continue
            assert message["role"] == "assistant"
            sent = message.get("tool_calls") or []
            assert len({call["id"] for call in sent}) == len(sent)
            for call in sent:
                assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", call["function"]["name"])
                assert isinstance(json.loads(call["function"]["arguments"]), dict)
                answer = next(turns)
                assert (answer["role"], answer["tool_call_id"]) == ("tool", call["id"])
            if not sent:
                assert isinstance(message["content"], str)
