"""How a session ends, what it asks of the policy, and what it keeps."""

import asyncio
import json
from typing import Any

import pytest

from swe_aem.core import Deadline, Stop
from swe_aem.errors import PolicyError
from swe_aem.gateway import GatewaySession
from swe_aem.gateway.messages import BadRequest
from swe_aem.gateway.session import SessionEnded
from swe_aem.policy import ContextOverflow
from tests.gateway.conftest import AS_TEMPLATE, LIMITS, TASK, Played
from tests.waiting import until

LS = 'I look.\n<tool_call>\n{"arguments":{"command":  "ls"},"name":"bash"}\n</tool_call><|im_end|>'
BROKEN = "<tool_call>\nls\n</tool_call><|im_end|>"
START: list[dict[str, Any]] = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]


def following(history: list[dict[str, Any]], message: dict[str, Any], observation: str) -> list[dict[str, Any]]:
    answers = [
        {"role": "tool", "tool_call_id": call["id"], "content": observation} for call in message.get("tool_calls", [])
    ]
    return [*history, message, *(answers or [{"role": "user", "content": observation}])]


async def ask(session: Any, history: list[dict[str, Any]]) -> dict[str, Any]:
    turn = await session.complete(history, [])
    return turn.answer.message


async def test_a_trajectory_has_calls_observations_and_messages(play: Any) -> None:
    session, policy = play([LS, "Done.<|im_end|>"])
    first = await ask(session, START)
    assert first["tool_calls"][0]["function"] == {"name": "bash", "arguments": '{"command": "ls"}'}
    await ask(session, following(START, first, "a.py"))
    trajectory = session.trajectory("some-harness", Stop.SUBMITTED)
    assert (trajectory.id, trajectory.agent, trajectory.model) == ("o__r-1.0", "some-harness", "played")
    assert [message["role"] for message in trajectory.messages] == ["system", "user", "assistant", "tool", "assistant"]
    (call,) = trajectory.responses[0].tool_calls
    assert (call.name, call.arguments, call.observation) == ("bash", {"command": "ls"}, "a.py")
    assert call.wall_s > 0
    assert {(one.entropy, one.entropy_estimator) for one in trajectory.responses} == {(0.25, "top20")}
    assert {one.versions for one in trajectory.responses} == {(1, 2)}, "updates of the weights do not divide a response"
    assert policy.prompts[1][: len(policy.prompts[0]) + len(policy.sampled[0])] == policy.prompts[0] + policy.sampled[0]


async def test_thinking_that_the_template_leaves_out_begins_another_stream() -> None:
    renderer = AS_TEMPLATE["bytes"]
    thoughts = [f"<think>\nthought {n}\n</think>\n\n" for n in range(3)]
    policy = Played(renderer, [thoughts[0] + LS, thoughts[1] + LS, thoughts[2] + "Done.<|im_end|>"])
    session = GatewaySession(TASK, 0, policy, renderer, LIMITS, Deadline.after(600))
    history = START
    for said in ({"role": "user", "content": "Not so fast."}, None):
        history = following(history, await ask(session, history), "a.py") + ([said] if said else [])
    await ask(session, history)
    trajectory = session.trajectory("test", Stop.SUBMITTED)
    (before,) = trajectory.branches
    assert [len(stream.responses) for stream in (trajectory, before)] == [2, 1]
    assert before.responses[0].tool_calls[0].observation == "a.py"
    assert list(before.token_ids) == policy.prompts[0] + policy.sampled[0]
    assert list(trajectory.token_ids) == policy.prompts[2] + policy.sampled[2]
    assert ["thought 0" in renderer.tokenizer.decode(prompt) for prompt in policy.prompts] == [False, False, False]
    assert "thought 1" in renderer.tokenizer.decode(policy.prompts[2])
    assert sum(message["role"] == "assistant" for message in trajectory.messages) == 3


async def test_messages_do_not_end_with_a_stream_that_another_one_continues() -> None:
    renderer = AS_TEMPLATE["bytes"]
    thought = f"<think>\n{'a long thought ' * 20}\n</think>\n\n"
    policy = Played(renderer, [thought + LS, "<think>\nshort\n</think>\n\nDone.<|im_end|>"])
    session = GatewaySession(TASK, 0, policy, renderer, LIMITS, Deadline.after(600))
    history = following(START, await ask(session, START), "a.py")
    await ask(session, [*history, {"role": "user", "content": "Not so fast."}])
    trajectory = session.trajectory("test", Stop.SUBMITTED)
    assert list(trajectory.token_ids) == policy.prompts[0] + policy.sampled[0]
    assert [list(branch.token_ids) for branch in trajectory.branches] == [policy.prompts[1] + policy.sampled[1]]
    assert [message["role"] for message in trajectory.messages][2:] == ["assistant", "tool", "user", "assistant"]


async def test_sampling_parameters_are_the_runs(play: Any, renderer: Any) -> None:
    session, policy = play([LS], temperature=0.7, top_p=0.9, max_response_tokens=99, max_context_tokens=5000)
    first = await ask(session, START)
    await ask(session, following(START, first, "x"))
    assert {(p.temperature, p.top_p, p.max_tokens, p.stop_token_ids) for p in policy.params} == {
        (0.7, 0.9, 99, renderer.stop_token_ids)
    }
    assert len({params.seed for params in policy.params}) == 2


async def test_turn_limit(play: Any) -> None:
    session, policy = play([LS], max_turns=2)
    history = following(START, await ask(session, START), "x")
    history = following(history, await ask(session, history), "x")
    with pytest.raises(SessionEnded, match="all 2 turns are taken"):
        await ask(session, history)
    assert (session.stop, session.error, len(policy.prompts)) == (Stop.TURN_LIMIT, None, 2)


async def test_context_limit(play: Any) -> None:
    session, policy = play([LS])
    await ask(session, START)
    room = len(policy.prompts[0]) + len(policy.sampled[0]) + 1
    session, policy = play([LS], max_context_tokens=room)
    first = await ask(session, START)
    with pytest.raises(SessionEnded, match="maximum context length"):
        await ask(session, following(START, first, "x" * 100))
    assert session.stop is Stop.CONTEXT_LIMIT
    assert len(session.trajectory("a", Stop.CONTEXT_LIMIT).responses) == 1


async def test_context_limit_of_the_policy(play: Any) -> None:
    session, _ = play([ContextOverflow("too long")])
    with pytest.raises(SessionEnded):
        await ask(session, START)
    assert session.stop is Stop.CONTEXT_LIMIT
    assert session.trajectory("a", Stop.CONTEXT_LIMIT).token_ids, "the prompt is kept"


async def test_the_end_of_its_time_cancels_a_request(play: Any) -> None:
    cancelled = asyncio.Event()

    async def stall() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return ""

    session, policy = play([stall])
    request = asyncio.ensure_future(ask(session, START))
    await until(lambda: policy.prompts)
    session.out_of_time()
    with pytest.raises(SessionEnded):
        await request
    await session.close()
    assert (session.stop, cancelled.is_set()) == (Stop.TIME_LIMIT, True)


async def test_a_request_that_comes_too_late_is_not_sampled(play: Any) -> None:
    session, policy = play([LS], deadline_s=0)
    with pytest.raises(SessionEnded, match="out of time"):
        await ask(session, START)
    assert (session.stop, policy.prompts) == (Stop.TIME_LIMIT, [])


async def test_repeated_malformed_calls_end_it(play: Any) -> None:
    session, policy = play([BROKEN, BROKEN, LS, BROKEN, BROKEN, BROKEN])
    history = START
    while not session.ended.is_set():
        history = following(history, await ask(session, history), "no")
    assert (session.stop, len(policy.prompts)) == (Stop.MALFORMED, 6)
    assert session.trajectory("a", Stop.MALFORMED).responses[0].tool_calls[0].status == "malformed"


async def test_a_failing_policy_is_the_owners_to_raise(play: Any) -> None:
    session, _ = play([PolicyError("500")])
    with pytest.raises(SessionEnded, match="500"):
        await ask(session, START)
    assert session.stop is None
    assert isinstance(session.error, PolicyError)


async def test_two_equal_requests_at_once_are_one_response(play: Any) -> None:
    async def slow() -> str:
        await asyncio.sleep(0.05)
        return LS

    session, policy = play([slow])
    first, second = await asyncio.gather(ask(session, START), ask(session, list(START)))
    assert first is second
    assert len(policy.prompts) == 1


async def test_a_client_that_hangs_up_finds_its_response_when_it_asks_again(play: Any) -> None:
    async def slow() -> str:
        await asyncio.sleep(0.1)
        return LS

    session, policy = play([slow])
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ask(session, START), 0.02)
    await ask(session, START)
    assert len(policy.prompts) == 1


async def test_closing_cancels_what_is_sampled(play: Any) -> None:
    session, policy = play([lambda: asyncio.sleep(60)])
    waiting = asyncio.create_task(ask(session, START))
    await until(lambda: policy.prompts)
    await session.close()
    with pytest.raises(SessionEnded, match="closed"):
        await waiting
    assert session.trajectory("a", Stop.SUBMITTED).responses == ()


async def test_a_rewritten_history_is_another_stream(play: Any) -> None:
    session, policy = play([LS])
    first = await ask(session, START)
    altered = {**first, "content": "I never looked."}
    await ask(session, following(START, altered, "a.py"))
    trajectory = session.trajectory("a", Stop.SUBMITTED)
    assert [len(stream.responses) for stream in (trajectory, *trajectory.branches)] == [1, 1]
    assert [list(branch.token_ids) for branch in trajectory.branches] == [policy.prompts[1] + policy.sampled[1]]
    assert [branch.by_agent for branch in trajectory.branches] == [True]


async def test_no_branch_is_known_to_be_by_the_agent_where_the_policys_commands_can_ask_too(play: Any) -> None:
    """Also not one that forks the agent's own conversation, which a command can repeat word for word."""
    session, _ = play([LS, "Long and longer.<|im_end|>", "Short.<|im_end|>"])
    session.reachable = True
    first = await ask(session, START)
    await ask(session, following(START, first, "a.py"))
    await ask(session, following(START, first, "b.py"))
    (forked,) = session.trajectory("a", Stop.SUBMITTED).branches
    assert (len(forked.responses), forked.by_agent) == (1, False)


async def test_other_tools_are_another_stream(play: Any) -> None:
    session, _ = play([LS])
    first = await ask(session, START)
    await session.complete(following(START, first, "x"), [{"type": "function", "function": {"name": "other"}}])
    assert len(session.trajectory("a", Stop.SUBMITTED).branches) == 1


async def test_unpaired_surrogates_are_not_served(play: Any) -> None:
    session, _ = play([LS.replace("ls", "\\ud800"), LS])
    first = await ask(session, START)
    assert json.loads(first["tool_calls"][0]["function"]["arguments"]) == {"command": "\ufffd"}
    await ask(session, following(START, first, "x"))
    assert session.trajectory("a", Stop.SUBMITTED).branches == ()


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ({"role": "wizard", "content": "x"}, "roles"),
        ("hello", "roles"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "text only"),
        ({"role": "user", "content": 3}, "is text"),
        ({"role": "assistant", "tool_calls": [{}]}, "tool call needs"),
    ],
)
async def test_messages_without_meaning_are_refused(play: Any, message: Any, why: str) -> None:
    session, policy = play([LS])
    with pytest.raises(BadRequest, match=why):
        await session.complete([message], [])
    assert policy.prompts == []
    assert not session.ended.is_set()
