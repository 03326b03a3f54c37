"""The native agent: every way to end, every fault, and the token invariant on random conversations."""

import asyncio
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swe_aem.agent import NativeAgent, NativeConfig, RendererConfig, TurnRenderer, grace
from swe_aem.core import Completion, Deadline, ExecResult, SandboxSpec, Stop, Task, Trajectory
from swe_aem.errors import PolicyError, SandboxDead
from swe_aem.policy import ContextOverflow
from swe_aem.policy.tokenizer import load_tokenizer
from swe_aem.testing.sandbox import FakeSandbox

CONFIG = NativeConfig(max_context_tokens=200_000)


def call(name, **arguments):
    body = json.dumps({"name": name, "arguments": arguments})
    return f"<tool_call>\n{body}\n</tool_call>"


LS = "I look.\n" + call("bash", command="ls") + "<|im_end|>"
SUBMIT = call("submit") + "<|im_end|>"
NO_CALL = "I am done.<|im_end|>"


@pytest.fixture
def play(renderer, task, make_policy, make_sandbox):
    """Plays one trajectory; returns it, the policy and the sandbox, and checks the token invariant."""

    async def go(replies, *, config=CONFIG, sandbox=None, deadline=None):
        policy, sandbox = make_policy(replies), sandbox or make_sandbox()
        agent = NativeAgent(config, renderer)
        deadline = deadline or Deadline.after(60)
        trajectory = await agent.run(task, sandbox, policy, sample=2, deadline=deadline)
        check_invariant(trajectory, policy.prompts)
        return trajectory, policy, sandbox

    return go


LOST = call("str_replace_editor", command="insert", path="a.py", insert_line=1.5, new_str="z")
NULL_SUBMIT = '<tool_call>\n{"name": "submit", "arguments": null}\n</tool_call><|im_end|>'


def check_invariant(trajectory: Trajectory, prompts: Sequence[Sequence[int]]) -> None:
    """The prompt of response n is exactly the trajectory's ids up to it."""
    for response, prompt in zip(trajectory.responses, prompts, strict=False):
        assert list(trajectory.token_ids[: response.start]) == list(prompt)
    if trajectory.responses:
        assert trajectory.responses[-1].end == len(trajectory.token_ids)


async def test_a_whole_trajectory(play, tokenizer, task):
    trajectory, policy, sandbox = await play([LS, SUBMIT])
    assert trajectory.stop is Stop.SUBMITTED
    assert (trajectory.id, trajectory.agent, trajectory.model) == ("o__r-1.2", "native", "recording")
    assert sandbox.commands == ["ls"]
    assert [message["role"] for message in trajectory.messages] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
        "tool",
    ]
    assert task.problem_statement in trajectory.messages[1]["content"], "the statement goes in verbatim"
    first, second = trajectory.responses
    assert first.tool_calls[0].arguments == {"command": "ls"}
    assert first.tool_calls[0].observation == "[exit code 0]"
    assert first.tool_calls[0].exit_code == 0
    assert second.tool_calls[0].name == "submit"
    assert tokenizer.decode(trajectory.token_ids[first.start : first.end]) == LS
    assert first.logprobs[0] == -0.001
    assert trajectory.timings_s["agent"] >= first.sample_s + second.sample_s
    assert "[exit code 0]" in tokenizer.decode(policy.prompts[1])
    assert Trajectory.model_validate_json(trajectory.model_dump_json()) == trajectory


async def test_requests_have_the_configured_parameters_and_seeds_of_their_own(play, renderer):
    _, policy, _ = await play([LS, LS, SUBMIT], config=CONFIG.model_copy(update={"temperature": 0.7, "top_p": 0.9}))
    assert {(p.temperature, p.top_p, p.max_tokens, p.stop_token_ids) for p in policy.params} == {
        (0.7, 0.9, CONFIG.max_response_tokens, renderer.stop_token_ids)
    }
    assert len({params.seed for params in policy.params}) == 3
    _, again, _ = await play([LS, LS, SUBMIT])
    assert [p.seed for p in again.params] == [p.seed for p in policy.params], "a repeated run asks the same"
    _, other, _ = await play([LS, LS, SUBMIT], config=CONFIG.model_copy(update={"seed": 1}))
    assert {p.seed for p in other.params}.isdisjoint(p.seed for p in policy.params)


async def test_calls_of_one_response_run_in_order_until_one_submits(play):
    reply = call("bash", command="a") + call("bash", command="b") + call("submit") + call("bash", command="c")
    trajectory, _, sandbox = await play([reply + "<|im_end|>"])
    assert sandbox.commands == ["a", "b"]
    assert trajectory.stop is Stop.SUBMITTED
    assert [c.name for c in trajectory.responses[0].tool_calls] == ["bash", "bash", "submit"]


async def test_converted_arguments_are_carried_out_and_what_was_sampled_stays(play, make_sandbox, tokenizer):
    sandbox = make_sandbox()
    sandbox.files["/testbed/a.py"] = b"x\ny\n"
    text = json.dumps({"name": "str_replace_editor", "arguments": json.dumps({"command": "view", "path": "a.py"})})
    ranged = {"command": "view", "path": "a.py", "view_range": "[1, 1]", "old_str": None}
    calls = [f"<tool_call>\n{text}\n</tool_call>", call("str_replace_editor", **ranged), LOST]
    trajectory, _, _ = await play(["".join(calls) + "<|im_end|>", NULL_SUBMIT], sandbox=sandbox)
    whole, part, lost = trajectory.responses[0].tool_calls
    assert trajectory.stop is Stop.SUBMITTED
    assert (whole.status, whole.converted, whole.arguments) == ("ok", 1, {"command": "view", "path": "a.py"})
    assert (part.status, part.converted) == ("ok", 2)
    assert part.arguments == {"command": "view", "path": "a.py", "view_range": [1, 1]}
    assert "lines 1-1 of 2" in part.observation
    assert (lost.status, lost.converted) == ("malformed", 0)
    assert trajectory.responses[1].tool_calls[0].converted == 1
    first = trajectory.responses[0]
    assert tokenizer.decode(trajectory.token_ids[first.start : first.end]) == "".join(calls) + "<|im_end|>"
    said = trajectory.messages[2]["tool_calls"][1]["function"]["arguments"]
    assert json.loads(said) == ranged, "the message is what the policy wrote"


async def test_turn_limit(play):
    trajectory, policy, _ = await play([LS], config=CONFIG.model_copy(update={"max_turns": 4}))
    assert trajectory.stop is Stop.TURN_LIMIT
    assert len(trajectory.responses) == len(policy.prompts) == 4


async def test_context_limit_between_responses(play):
    free, _, _ = await play([LS, SUBMIT])
    room = CONFIG.model_copy(update={"max_context_tokens": free.responses[0].end + 20})
    trajectory, policy, _ = await play([LS], config=room)
    assert trajectory.stop is Stop.CONTEXT_LIMIT
    assert len(trajectory.responses) == 1
    assert policy.params[0].max_tokens == room.max_context_tokens - len(policy.prompts[0])


async def test_context_limit_before_the_first_response(play):
    trajectory, policy, _ = await play([LS], config=CONFIG.model_copy(update={"max_context_tokens": 50}))
    assert trajectory.stop is Stop.CONTEXT_LIMIT
    assert policy.prompts == []
    assert trajectory.responses == ()
    assert len(trajectory.token_ids) > 50, "the prompt is kept"


async def test_context_limit_reported_by_the_policy(play):
    trajectory, _, _ = await play([LS, ContextOverflow("too long")])
    assert trajectory.stop is Stop.CONTEXT_LIMIT
    assert len(trajectory.responses) == 1


async def test_a_response_is_not_cut_short_at_the_time_limit(play):
    passed_s = 0.0

    async def slow(prompt):
        nonlocal passed_s
        passed_s = 1000.0
        return LS

    limit = Deadline(60.0, lambda: passed_s)
    trajectory, policy, sandbox = await play([slow, SUBMIT], deadline=limit)
    assert (trajectory.stop, len(trajectory.responses)) == (Stop.TIME_LIMIT, 1), "the clock of this one ran on"
    assert (sandbox.commands, len(policy.prompts)) == ([], 1), "nothing is done after the deadline"


@dataclass
class Clock:
    """A clock that tests move."""

    now: float = 0.0
    timeouts: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now


class TimedSandbox(FakeSandbox):
    """Lets every command take 40 seconds of a test's clock, or as long as it may."""

    clock: Clock

    async def run(self, command, *, timeout_s, **options):
        took = min(40.0, timeout_s)
        self.clock.timeouts.append(timeout_s)
        self.clock.now += took
        self.commands.append(command)
        timed_out = took == timeout_s
        return ExecResult(
            exit_code=124 if timed_out else 0,
            head=b"",
            tail=b"",
            output_bytes=0,
            output_path="/o",
            wall_s=took,
            killed_for="timeout" if timed_out else None,
            killed=1,
        )


async def test_time_limit_during_a_command(play):
    sandbox, clock = TimedSandbox("timed", SandboxSpec(image="i")), Clock()
    sandbox.clock = clock
    two = call("bash", command="a") + call("bash", command="b") + "<|im_end|>"
    trajectory, policy, _ = await play([two], sandbox=sandbox, deadline=Deadline.after(100, clock))
    assert trajectory.stop is Stop.TIME_LIMIT
    assert clock.timeouts == [60.0, 60.0, 20.0], "min(command timeout, what is left)"
    assert sandbox.commands == ["a", "b", "a"], "nothing is run after the deadline"
    last = trajectory.responses[-1].tool_calls
    assert [c.timed_out for c in last] == [True]
    assert "timed out after 20 s; 1 process killed" in last[0].observation
    assert len(policy.prompts) == 2


async def test_an_expired_deadline_samples_nothing(play):
    trajectory, policy, _ = await play([LS], deadline=Deadline.after(0))
    assert trajectory.stop is Stop.TIME_LIMIT
    assert policy.prompts == []


MALFORMED = [NO_CALL, "<tool_call>ls</tool_call><|im_end|>", call("ls") + "<|im_end|>", call("bash") + "<|im_end|>"]


@pytest.mark.parametrize("reply", MALFORMED)
async def test_repeated_malformed_responses_end_the_trajectory(play, reply):
    trajectory, policy, sandbox = await play([reply])
    assert trajectory.stop is Stop.MALFORMED
    assert len(policy.prompts) == 3
    assert sandbox.commands == []


async def test_a_well_formed_call_resets_the_count(play):
    bad, mixed = MALFORMED[1], MALFORMED[1].removesuffix("<|im_end|>") + LS
    trajectory, policy, _ = await play([bad, NO_CALL, LS, bad, bad, mixed, bad, bad, SUBMIT])
    assert trajectory.stop is Stop.SUBMITTED
    assert len(policy.prompts) == 9


async def test_malformed_calls_are_answered_with_what_is_wrong(play, tokenizer):
    trajectory, policy, _ = await play([MALFORMED[1], NO_CALL, SUBMIT])
    first = trajectory.responses[0].tool_calls[0]
    assert (first.status, first.arguments) == ("malformed", {"raw": "ls"})
    assert "not valid JSON" in first.observation
    assert first.observation in tokenizer.decode(policy.prompts[1])
    assert trajectory.responses[1].tool_calls == ()
    assert trajectory.messages[5]["role"] == "user"
    assert "no tool call" in trajectory.messages[5]["content"]


@pytest.mark.parametrize("cut", ["I think that", "<think>hm", 'text <tool_call>\n{"name": "bash"'])
async def test_a_cut_off_response_is_told_so_and_continues(play, tokenizer, cut):
    trajectory, policy, _ = await play([cut, SUBMIT])
    assert trajectory.stop is Stop.SUBMITTED
    assert trajectory.responses[0].finish_reason == "length"
    told = tokenizer.decode(policy.prompts[1][len(policy.prompts[0]) :])
    assert "cut off after" in told
    assert "nothing was done" in told
    assert all(c.observation in told for c in trajectory.responses[0].tool_calls)


async def test_complete_calls_of_a_cut_off_response_are_carried_out(play):
    trajectory, _, sandbox = await play([call("bash", command="a") + "<tool_call>{", SUBMIT])
    assert sandbox.commands == ["a"]
    done, cut = trajectory.responses[0].tool_calls
    assert (done.status, cut.status) == ("ok", "malformed")
    assert "Its 1 complete tool call was carried out" in cut.observation


async def test_endless_cut_offs_end_as_malformed(play):
    trajectory, _, _ = await play(["blah blah"])
    assert trajectory.stop is Stop.MALFORMED


async def test_a_response_that_cannot_be_continued_ends_the_trajectory(play, renderer):
    trajectory, policy, _ = await play([LS, "<think>hm<|im_end|>", SUBMIT])
    if renderer.config.enable_thinking:
        assert trajectory.stop is Stop.MALFORMED
        assert len(policy.prompts) == len(trajectory.responses) == 2
    else:
        assert trajectory.stop in (Stop.MALFORMED, Stop.SUBMITTED)


@pytest.mark.parametrize("error", [PolicyError("500"), SandboxDead("gone")])
async def test_infrastructure_errors_pass_through(play, error):
    with pytest.raises(type(error)):
        await play([LS, error])


async def test_a_sandbox_that_dies_ends_the_trajectory_with_all_that_was_sampled(play, make_sandbox):
    trajectory, policy, _ = await play([LS, LS], sandbox=make_sandbox(die_after=1))
    assert trajectory.stop is Stop.SANDBOX_DEAD
    assert "is gone" in trajectory.error
    assert len(policy.prompts) == len(trajectory.responses) == 2, "the response that found it dead is a part of it"
    assert trajectory.responses[-1].end == len(trajectory.token_ids)
    (killing,) = trajectory.responses[-1].tool_calls
    assert (killing.name, killing.status, killing.observation) == ("bash", "ok", "")
    assert trajectory.messages[-1]["role"] == "assistant"


async def test_calls_after_the_one_that_finds_the_sandbox_dead_are_not_carried_out(play, make_sandbox):
    two = LS.removesuffix("<|im_end|>") + LS
    trajectory, _, sandbox = await play([two], sandbox=make_sandbox(die_after=0))
    assert len(trajectory.responses[0].tool_calls) == 1
    assert sandbox.commands == []


async def test_a_sandbox_that_never_answers_is_dead(play, make_sandbox, monkeypatch):
    sandbox = make_sandbox()

    async def hang(path, *, max_bytes=0):
        await asyncio.sleep(60)

    monkeypatch.setattr(sandbox, "read_file", hang)
    monkeypatch.setattr(grace, "SANDBOX_GRACE_S", 0.2)
    view = call("str_replace_editor", command="view", path="x") + "<|im_end|>"
    quick = CONFIG.model_copy(update={"command_timeout_s": 0.1})
    trajectory, _, _ = await play([view], sandbox=sandbox, config=quick)
    assert trajectory.stop is Stop.SANDBOX_DEAD
    assert "did not answer" in trajectory.error


@pytest.mark.parametrize(("ids", "logprobs"), [((), ()), ((1, 2), (-1.0,))])
async def test_a_completion_that_does_not_add_up_is_the_policys_fault(play, ids, logprobs):
    with pytest.raises(PolicyError, match="log-probabilities"):
        await play([Completion(token_ids=ids, logprobs=logprobs, finish_reason="length")])


async def test_a_timeout_error_of_the_policys_own_is_not_a_time_limit(play):
    with pytest.raises(TimeoutError):
        await play([TimeoutError("a bug")])


async def test_cancelling_the_run_cancels_the_request(play):
    seen = asyncio.Event()

    async def stall():
        seen.set()
        await asyncio.sleep(60)

    run = asyncio.create_task(play([lambda prompt: stall()]))
    await seen.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run


async def test_one_agent_plays_many_trajectories_at_once(renderer, task, make_policy, make_sandbox):
    agent = NativeAgent(CONFIG, renderer)
    policies = [make_policy([call("bash", command=str(n)) + "<|im_end|>"] * n + [SUBMIT]) for n in range(1, 9)]
    sandboxes = [make_sandbox() for _ in policies]
    trajectories = await asyncio.gather(
        *(
            agent.run(task, sandbox, policy, sample=n, deadline=Deadline.after(60))
            for n, (sandbox, policy) in enumerate(zip(sandboxes, policies, strict=True))
        )
    )
    for n, (trajectory, sandbox, policy) in enumerate(zip(trajectories, sandboxes, policies, strict=True), 1):
        assert sandbox.commands == [str(n)] * n
        assert len(trajectory.responses) == n + 1
        check_invariant(trajectory, policy.prompts)


BYTES = load_tokenizer(None)
RENDERERS = [TurnRenderer(BYTES, RendererConfig(enable_thinking=thinking)) for thinking in (True, False)]
TASK = Task(id="t", repo="o/r", base_commit="c", problem_statement="<|im_end|> é", image="i")

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
odd = st.sampled_from(
    ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "<|im_start|>", "\n\n", "{"]
)
spaces = st.sampled_from(["", " ", "\n", "\t  ", "\r\n"])
"""Between the parts of a call: models do not write JSON as `json.dumps` does."""


@st.composite
def calls(draw):
    space = lambda: draw(spaces)  # noqa: E731
    arguments = draw(
        st.one_of(
            st.builds(lambda value: {"command": value}, text),
            st.builds(lambda value: {"command": "view", "path": value}, text),
            st.dictionaries(text, text | st.integers(), max_size=2),
            text,
        )
    )
    name = draw(st.sampled_from(["bash", "str_replace_editor", "nonsense", ""]))
    body = json.dumps(arguments, ensure_ascii=draw(st.booleans()), separators=("," + space(), ":" + space()))
    whole = f'{{{space()}"name"{space()}:{space()}{json.dumps(name)},{space()}"arguments":{space()}{body}{space()}}}'
    cut = draw(st.integers(0, len(whole))) if draw(st.integers(0, 4)) == 0 else len(whole)
    return f"<tool_call>{space()}{whole[:cut]}{space()}</tool_call>"


replies = st.one_of(
    st.lists(st.one_of(text, odd, calls()), max_size=4).map(lambda parts: BYTES.encode("".join(parts))),
    st.lists(st.integers(0, len(BYTES) - 1), max_size=30),
)
endings = st.sampled_from(["<|im_end|>", "<|endoftext|>", ""]).map(BYTES.encode)


def as_sampled(ids: list[int], ending: list[int]) -> list[int]:
    """What a server can return: nothing after a stop token, at least one token."""
    stops = RENDERERS[0].stop_token_ids
    ids = [*ids, *ending]
    first = next((n for n, token in enumerate(ids) if token in stops), len(ids) - 1)
    return ids[: first + 1] or [65]


@settings(deadline=None, max_examples=80)
@given(
    st.sampled_from(RENDERERS),
    st.lists(st.builds(as_sampled, replies, endings), min_size=1, max_size=6),
    st.lists(st.one_of(text, odd, st.just("<|im_end|>\n<|im_start|>assistant\n")), min_size=1),
)
def test_every_prompt_is_the_exact_ids_of_what_came_before(renderer, replies, outputs):
    """The token invariant, on conversations of well-formed, malformed, cut-off and arbitrary responses."""
    turns: list[tuple[list[int], list[int]]] = []

    class Policy:
        name = "random"

        async def sample(self, prompt_ids, params, *, trajectory_id):
            ids = replies[len(turns) % len(replies)]
            turns.append((list(prompt_ids), ids))
            reason = "stop" if ids[-1] in params.stop_token_ids else "length"
            return Completion(token_ids=tuple(ids), logprobs=(-1.0,) * len(ids), finish_reason=reason)

        async def close(self):
            pass

    def answer(sandbox, command):
        return 0, outputs[len(sandbox.commands) % len(outputs)].encode()

    agent = NativeAgent(CONFIG.model_copy(update={"max_turns": 8}), renderer)
    sandbox = FakeSandbox("fake", SandboxSpec(image="i"), answer)
    trajectory = asyncio.run(agent.run(TASK, sandbox, Policy(), sample=0, deadline=Deadline.after(60)))

    assert len(trajectory.responses) == len(turns)
    check_invariant(trajectory, [prompt for prompt, _ in turns])
    for (prompt, ids), (later, _) in itertools.pairwise(turns):
        assert later[: len(prompt) + len(ids)] == prompt + ids
    sampled = [token for token, mask in zip(trajectory.token_ids, trajectory.sampled_mask, strict=True) if mask]
    assert sampled == [token for _, ids in turns for token in ids]
    assert Trajectory.model_validate_json(trajectory.model_dump_json()) == trajectory, "it can be stored"
