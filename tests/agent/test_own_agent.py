"""Agents and policies of a user's own: what they are given, what is kept of it, and what is said of mistakes."""

import json
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest

import swe_aem as sa
from swe_aem.agent import Conversation, own_agent
from swe_aem.agent.config import TurnLimits
from swe_aem.agent.conversation import OwnAgent
from swe_aem.core import Deadline, Stop
from swe_aem.errors import PolicyError, SandboxDead, UserError
from swe_aem.extensions import stored_names
from swe_aem.policy import open_policy_factory
from swe_aem.rollout import RolloutConfig, used_extensions
from swe_aem.testing.builders import make_record

RUN = [{"type": "function", "function": {"name": "run", "description": "Run.", "parameters": {"type": "object"}}}]
LIMITS = TurnLimits(max_context_tokens=1 << 40)


def said(name: str, **arguments: Any) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call><|im_end|>"


async def looking(conversation: Conversation) -> str | None:
    """Runs what is called until nothing is."""
    conversation.begin([{"role": "user", "content": "Fix it."}], RUN)
    while turn := await conversation.ask():
        for call in turn.calls:
            if call.problem:
                conversation.answer(call, f"no: {call.problem}")
            else:
                result = await conversation.run(call.arguments["command"])
                conversation.answer(call, result.output, result)
        if not turn.calls:
            return turn.content or None
        conversation.say("Go on.")
    return None


class Small(sa.Settings):
    tools: ClassVar = sa.ScriptTools(shell="run", finish=("run", {"command": "true"}))
    greeting: str = "Fix it."

    async def converse(self, conversation: Conversation) -> None:
        conversation.begin([{"role": "user", "content": self.greeting}], RUN)
        turn = await conversation.ask()
        for call in turn.calls:
            conversation.answer(call, (await conversation.run(call.arguments["command"])).output)


async def play(converse: Any, task, sandbox, policy, renderer, limits: TurnLimits = LIMITS):
    agent = OwnAgent("mine", converse, limits, renderer)
    return await agent.run(task, sandbox, policy, sample=3, deadline=Deadline.after(60))


async def test_every_prompt_begins_with_the_exact_ids_of_what_was_before(task, renderer, make_policy, make_sandbox):
    replies = [said("run", command="ls"), "<tool_call>\n{broken</tool_call><|im_end|>", "submitted<|im_end|>"]
    policy = make_policy(replies)
    trajectory = await play(looking, task, make_sandbox(lambda sandbox, command: (0, b"a file\n")), policy, renderer)
    first, second, third = policy.prompts
    assert second[: len(first)] == first
    assert third[: len(second)] == second
    assert list(trajectory.token_ids[: len(third)]) == third
    assert trajectory.stop is Stop.SUBMITTED
    assert [list(trajectory.token_ids[one.start : one.end]) for one in trajectory.responses] == [
        policy.tokenizer.encode(reply) for reply in replies
    ]
    assert [[(call.name, call.status) for call in one.tool_calls] for one in trajectory.responses] == [
        [("run", "ok")],
        [("", "malformed")],
        [],
    ]
    assert trajectory.responses[0].tool_calls[0].exit_code == 0
    assert [message["role"] for message in trajectory.messages] == [
        *("user", "assistant", "tool", "user", "assistant", "tool", "user", "assistant"),
    ]
    assert (trajectory.agent, trajectory.sample) == ("mine", 3)


@pytest.mark.parametrize(
    ("replies", "limits", "stop", "responses"),
    [
        ([said("run", command="ls")], {"max_turns": 2}, Stop.TURN_LIMIT, 2),
        (["<tool_call>{</tool_call><|im_end|>"], {"max_consecutive_malformed": 2}, Stop.MALFORMED, 2),
        ([said("run", command="ls")], {"max_context_tokens": 10}, Stop.CONTEXT_LIMIT, 0),
        (["turn_limit<|im_end|>"], {}, Stop.TURN_LIMIT, 1),
    ],
)
async def test_how_it_ends(task, renderer, make_policy, make_sandbox, replies, limits, stop, responses):
    limits = TurnLimits(**{"max_context_tokens": 1 << 40, **limits})
    sandbox = make_sandbox(lambda sandbox, command: (0, b""))
    trajectory = await play(looking, task, sandbox, make_policy(replies), renderer, limits)
    assert trajectory.stop is stop
    assert len(trajectory.responses) == responses


async def test_a_dead_sandbox_ends_it_with_everything_that_was_sampled(task, renderer, make_policy, make_sandbox):
    def die(sandbox: Any, command: str) -> Any:
        raise SandboxDead("gone")

    trajectory = await play(looking, task, make_sandbox(die), make_policy([said("run", command="ls")]), renderer)
    assert (trajectory.stop, trajectory.error, len(trajectory.responses)) == (Stop.SANDBOX_DEAD, "gone", 1)


async def forgiving(conversation: Conversation) -> None:
    """Hands in whatever happens, and asks on."""
    for _ in range(2):
        with suppress(Exception):
            await looking(conversation)
        with suppress(Exception):
            await conversation.ask()


@pytest.mark.parametrize(
    ("replies", "limits", "stop", "asked"),
    [
        ([said("run", command="ls")], {"max_turns": 2}, Stop.TURN_LIMIT, 2),
        (["<tool_call>{</tool_call><|im_end|>"], {"max_consecutive_malformed": 2}, Stop.MALFORMED, 2),
        ([said("run", command="die")], {}, Stop.SANDBOX_DEAD, 1),
        ([said("run", command="ls"), PolicyError("no server")], {}, None, 2),
    ],
)
async def test_an_agent_that_catches_its_end_has_handed_nothing_in(
    task, renderer, make_policy, make_sandbox, replies, limits, stop, asked
):
    def run(sandbox: Any, command: str) -> Any:
        if command == "die":
            raise SandboxDead("gone")
        return 0, b""

    policy = make_policy(replies)
    limits = TurnLimits(**{"max_context_tokens": 1 << 40, **limits})
    with nullcontext() if stop else pytest.raises(PolicyError, match="no server"):
        trajectory = await play(forgiving, task, make_sandbox(run), policy, renderer, limits)
        assert trajectory.stop is stop
    assert len(policy.prompts) == asked


async def unanswered(conversation: Conversation) -> None:
    conversation.begin([{"role": "user", "content": "x"}], RUN)
    await conversation.ask()
    await conversation.ask()


async def silent(conversation: Conversation) -> None:
    await conversation.ask()


async def lazy(conversation: Conversation) -> None:
    conversation.begin([{"role": "user", "content": "x"}])


async def wrong(conversation: Conversation) -> None:
    raise ZeroDivisionError("mine")


@pytest.mark.parametrize(
    ("converse", "error", "says"),
    [
        (unanswered, RuntimeError, "1 calls need an answer each, and 0 have one"),
        (silent, RuntimeError, "`begin` it before the first `ask`"),
        (lazy, UserError, "mine ended without asking the policy for anything"),
        (wrong, ZeroDivisionError, "mine"),
    ],
)
async def test_mistakes_are_raised(task, renderer, make_policy, make_sandbox, converse, error, says):
    with pytest.raises(error, match=says):
        await play(converse, task, make_sandbox(), make_policy([said("run", command="ls")]), renderer)


OWN = """
import swe_aem as sa

class Small(sa.Settings):
    greeting: str = "Fix it."
    async def converse(self, conversation): ...

async def converse(conversation): ...

def plain(conversation): ...

number = 7

class Same(sa.Settings):
    name: str = "same"
    async def sample(self, prompt_ids, params, *, trajectory_id):
        return sa.Completion(token_ids=(1,), logprobs=(0.0,), finish_reason="stop")
    async def close(self):
        closed.append(self.name)

closed = []

def script(context, record, sample):
    return context.script(f"{record.task.id}-{sample}", ("bash", {"command": "ls"}))
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path


def test_agents_by_name(own: Path, renderer) -> None:
    assert own_agent("own.py:converse", LIMITS, renderer).name == "converse"
    assert own_agent({"type": "own.py:Small", "greeting": "Hello."}, LIMITS, renderer).name == "Small"
    for name, says in (
        ("own.py:plain", "give `async def converse"),
        ("own.py:number", "is 7: give"),
        ("own.py:nothing", "has no nothing"),
    ):
        with pytest.raises(UserError, match=says):
            own_agent(name, LIMITS, renderer)
    with pytest.raises(UserError, match="greting is unknown"):
        own_agent({"type": "own.py:Small", "greting": "x"}, LIMITS, renderer)


async def test_policies_by_name(own: Path, renderer) -> None:
    async with open_policy_factory({"type": "own.py:Same", "name": "twin"}, renderer) as policies:
        one = policies(make_record(), 0)
        assert (one.name, one is policies(make_record(), 1)) == ("twin", True)
    async with open_policy_factory("own.py:script", renderer) as policies:
        assert policies(make_record("t"), 1).name == "t-1"
    with pytest.raises(UserError, match="give a class with `async def sample"):
        async with open_policy_factory("own.py:number", renderer):
            pass


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"agent": "own.py:Small"}, "needs policy"),
        ({"agent": "gold!", "policy": "gold"}, "agent gold! is unknown .did you mean gold"),
        ({"agent": "own.py:Small", "policy": "replay", "replay_from": "x"}, "replay is only for agent native"),
        ({"agent": "own.py:Small", "policy": "gold", "harness": {"workers": 2}}, "only for harnesses"),
        ({"agent": "own.py:Small", "policy": "gold", "native": {"describe_tools": False}}, "only for agent native"),
        ({"agent": {"type": "openhands", "x": 1}, "policy": "gold"}, "agent openhands takes no settings here"),
        ({"policy": {"type": "gold", "x": 1}}, "policy gold takes no settings"),
        ({"policy": "own.py:a b"}, "is no name of a Python object"),
        ({"renderer": {"family": "qwen"}}, "no model family 'qwen'"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], says: str) -> None:
    with pytest.raises((UserError, ValueError), match=says):
        RolloutConfig(**settings)


def test_the_code_of_what_is_not_built_in_is_recorded(own: Path) -> None:
    (own / "harness.py").write_text(
        '# /// script\n# dependencies = []\n# [tool.swe-aem]\n# shell = "run"\n# finish = { done = {} }\n# ///\n'
    )
    (own / "chat.py").write_text("def chat(config): ...\n")
    config = RolloutConfig(agent={"type": "own.py:Small"}, policy="own.py:script", renderer={"family": "chat.py:chat"})
    assert config.tokenizer_path is None
    used = used_extensions(config)
    assert sorted(used) == ["agent", "policy", "renderer.family"]
    assert used["agent"] == used["policy"] != used["renderer.family"]
    harness = used_extensions(RolloutConfig(agent="harness.py", policy="gold"))
    assert list(harness) == ["agent"]
    (own / "harness.py").write_text((own / "harness.py").read_text() + "# changed\n")
    assert used_extensions(RolloutConfig(agent="harness.py", policy="gold")) != harness
    assert used_extensions(RolloutConfig(agent="openhands", policy="gold")) == {}


def test_nothing_of_a_users_is_imported_to_read_a_configuration() -> None:
    config = RolloutConfig(agent="nowhere.py:Agent", policy="nowhere:policy", renderer={"family": "no.where:format"})
    assert RolloutConfig.model_validate_json(config.model_dump_json()) == config
    gone = {"agent": {"type": "gone", "x": 1}, "policy": {"type": "gone", "y": 2}, "renderer": {"family": "gone"}}
    with stored_names():
        assert RolloutConfig.model_validate(gone).agent_name == "gone", "an entry point that is not installed here"
    with pytest.raises(ValueError, match="agent gone is unknown"):
        RolloutConfig.model_validate(gone)


def test_the_tools_of_a_script(renderer) -> None:
    from swe_aem.agent import tools_of_own_agent

    assert tools_of_own_agent("tests.agent.test_own_agent:Small").shell == "run"
    with pytest.raises(UserError, match="does not say by which tools a script acts"):
        tools_of_own_agent("tests.agent.test_own_agent:looking")
