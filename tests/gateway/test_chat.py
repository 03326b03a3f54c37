"""The gateway in front of a chat API: harnesses converse with it, and what was said is kept without token ids."""

from typing import Any

import pytest

from swe_aem.agent import TurnLimits
from swe_aem.core import Deadline, Stop
from swe_aem.errors import PolicyError
from swe_aem.gateway import Gateway, GatewaySession, chat_wire
from swe_aem.gateway.session import SessionEnded
from swe_aem.policy import ContextOverflow
from swe_aem.testing.chat import ScriptedChat, calls
from tests.gateway.conftest import TASK
from tests.gateway.test_session import START, ask, following

LS = calls(("bash", {"command": "ls"}), content="I look.", reasoning_content="Hm.", signature=[1])
TOOLS = [{"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}}]


def session_of(replies: list[Any], **limits: Any) -> tuple[GatewaySession, ScriptedChat]:
    policy = ScriptedChat(replies)
    chosen = TurnLimits(**{"max_context_tokens": 1 << 40, **limits})
    return GatewaySession(TASK, 0, policy, None, chosen, Deadline.after(60)), policy


async def test_a_harness_converses_and_the_api_gets_its_own_messages_back() -> None:
    session, policy = session_of([LS, "Done."])
    turn = await session.complete(START, TOOLS)
    served = chat_wire.answer("scripted", turn)
    (choice,) = served["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"] == LS["tool_calls"]
    assert choice["message"]["reasoning_content"] == "Hm."
    usage = turn.answer.sampled.usage  # type: ignore[union-attr]
    assert served["usage"]["prompt_tokens"] == usage.prompt_tokens > 0
    assert policy.requests[0].tools == TOOLS
    echoed = {name: value for name, value in choice["message"].items() if name != "reasoning_content"}
    await session.complete(following(START, echoed, "a.py"), TOOLS)
    assert policy.requests[1].messages == [
        *START,
        LS,
        {"role": "tool", "tool_call_id": "api-bash-0", "content": "a.py"},
    ], "what the harness dropped of the message goes back to the API"
    trajectory = session.trajectory("some-harness", Stop.SUBMITTED)
    assert (trajectory.token_ids, trajectory.token_exact, trajectory.branches) == ((), False, ())
    assert [message["role"] for message in trajectory.messages] == ["system", "user", "assistant", "tool", "assistant"]
    (call,) = trajectory.responses[0].tool_calls
    assert (call.name, call.arguments, call.observation) == ("bash", {"command": "ls"}, "a.py")
    assert trajectory.tokens == trajectory.responses[1].used.tokens


async def test_a_repeated_request_is_asked_once() -> None:
    session, policy = session_of([LS])
    assert await ask(session, START) == await ask(session, START)
    assert len(policy.requests) == 1


async def test_a_malformed_call_reaches_the_harness_as_it_is_and_the_api_well_formed() -> None:
    session, policy = session_of([calls(("bash", '{"command": "ls')), "Done."])
    first = await ask(session, START)
    assert first["tool_calls"][0]["function"]["arguments"] == '{"command": "ls'
    await ask(session, following(START, first, "no"))
    assert (
        policy.requests[1].messages[2]["tool_calls"][0]["function"]["arguments"] == '{"raw": "{\\"command\\": \\"ls"}'
    )
    assert session.trajectory("a", Stop.SUBMITTED).responses[0].tool_calls[0].status == "malformed"


async def test_a_rewritten_history_is_a_branch_with_its_messages() -> None:
    session, _ = session_of([LS, LS, "Short."])
    first = await ask(session, START)
    await ask(session, following(START, first, "x"))
    await ask(session, [{"role": "user", "content": "A summary."}])
    trajectory = session.trajectory("a", Stop.SUBMITTED)
    assert len(trajectory.responses) == 2
    (branch,) = trajectory.branches
    assert (branch.token_ids, len(branch.responses)) == ((), 1)
    assert [message["content"] for message in branch.messages] == ["A summary.", "Short."]


@pytest.mark.parametrize(
    ("replies", "limits", "stop"),
    [
        ([LS], {"max_turns": 1}, Stop.TURN_LIMIT),
        ([LS], {"max_context_tokens": 60}, Stop.CONTEXT_LIMIT),
        ([LS, ContextOverflow("too long")], {}, Stop.CONTEXT_LIMIT),
        ([calls(("bash", "{"))], {"max_consecutive_malformed": 1}, Stop.MALFORMED),
        ([LS, PolicyError("500")], {}, None),
    ],
)
async def test_how_it_ends(replies: list[Any], limits: dict[str, Any], stop: Stop | None) -> None:
    session, _ = session_of(replies, **limits)
    with pytest.raises(SessionEnded):
        await ask(session, following(START, await ask(session, START), "x"))
    assert (session.stop, isinstance(session.error, PolicyError)) == (stop, stop is None)


async def test_over_http() -> None:
    openai = pytest.importorskip("openai")
    policy = ScriptedChat([LS, "Done."])
    async with (
        Gateway(None) as gateway,
        gateway.session(TASK, 0, policy, TurnLimits(max_context_tokens=1 << 40), Deadline.after(60)) as session,
        openai.AsyncOpenAI(base_url=session.url, api_key="none") as client,
    ):
        stream = await client.chat.completions.create(model="any", messages=START, tools=TOOLS, stream=True)
        chunks = [chunk async for chunk in stream]
        assert chunks[0].choices[0].delta.tool_calls[0].id == "api-bash-0"
        done = await client.chat.completions.create(model="any", messages=[{"role": "user", "content": "Hi."}])
        assert done.choices[0].message.content == "Done."
