"""The same conversation gives the same rows in each protocol, and when a client changes from one to another."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swe_aem.agent import TurnRenderer
from swe_aem.core import Deadline, Response, Stop, Trajectory
from swe_aem.gateway import GatewaySession
from swe_aem.gateway.session import SessionEnded
from tests.gateway.clients import WIRES, Message, body, understood
from tests.gateway.conftest import AS_TEMPLATE, LIMITS, RENDERERS, TASK, Played
from tests.gateway.test_rewriting import check, observations, replies, words

MOVES = ("answer", "answer", "answer", "drop", "condense")
steps = st.lists(
    st.tuples(replies, st.sampled_from(MOVES), st.booleans(), words, st.sampled_from(sorted(WIRES))),
    min_size=1,
    max_size=5,
)


async def ask(session: GatewaySession, protocol: str, history: list[Message], *, reasoning: bool) -> Message:
    """The message that a client of a protocol gets, by way of the protocol's own bodies."""
    wire = WIRES[protocol]
    asked = wire.read_request(body(protocol, history, reasoning=reasoning))
    turn = await session.complete(asked.messages, asked.tools)
    return understood(protocol, wire.answer("played", turn))


async def converse(session: GatewaySession, conversation: list[Any], protocol: str | None) -> None:
    """Play a conversation in a protocol, or with None in that of each step, until it ends."""
    history: list[Message] = [{"role": "system", "content": "You fix bugs."}, {"role": "user", "content": "Fix it."}]
    with suppress(SessionEnded):
        for _, move, reasoning, text, own in conversation:
            said = await ask(session, protocol or own, history, reasoning=reasoning)
            following = [*history, said, *observations(said, text)]
            match move:
                case "answer":
                    history = following
                case "drop":
                    history = [*history, {"role": "user", "content": f"That was no good. {text}"}]
                case _:
                    history = [history[0], {"role": "user", "content": f"What happened so far: {text}"}]


def row(response: Response) -> dict[str, Any]:
    """What is the same of a response, whenever it was sampled."""
    kept = response.model_dump(exclude={"sample_s", "tool_calls"})
    return {**kept, "calls": [call.model_dump(exclude={"wall_s"}) for call in response.tool_calls]}


def rows(trajectory: Trajectory) -> list[Any]:
    """The rows of a trajectory: the ids of each stream, and its responses."""
    streams = (trajectory, *trajectory.branches)
    return [(stream.token_ids, [row(response) for response in stream.responses]) for stream in streams]


async def played(renderer: TurnRenderer, conversation: list[Any], protocol: str | None) -> Trajectory:
    policy = Played(renderer, [reply for reply, *_ in conversation])
    session = GatewaySession(TASK, 0, policy, renderer, LIMITS, Deadline.after(60))
    await converse(session, conversation, protocol)
    trajectory = session.trajectory("test", Stop.SUBMITTED)
    check(trajectory, policy)
    return trajectory


async def agree(renderer: TurnRenderer, conversation: list[Any]) -> None:
    """Fail unless a conversation gives the same rows in each protocol, and in a mixture of them."""
    chat, *others = [await played(renderer, conversation, protocol) for protocol in (*WIRES, None)]
    for other in others:
        assert rows(other) == rows(chat)
        assert [said["content"] for said in other.messages] == [said["content"] for said in chat.messages]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(renderer=st.sampled_from(list(RENDERERS.values())), conversation=steps)
def test_each_protocol_gives_the_same_rows(renderer: TurnRenderer, conversation: list[Any]) -> None:
    asyncio.run(agree(renderer, conversation))


@pytest.mark.nightly
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(renderer=st.sampled_from([*RENDERERS.values(), *AS_TEMPLATE.values()]), conversation=steps)
def test_many_conversations_give_the_same_rows(renderer: TurnRenderer, conversation: list[Any]) -> None:
    asyncio.run(agree(renderer, conversation))
