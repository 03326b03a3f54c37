"""Scripted policies and the factory that makes them."""

import pytest

from swe_aem.agent.renderer import TurnRenderer
from swe_aem.core import Response, SamplingParams, Stop, TaskRecord, Trajectory, TrajectoryKey
from swe_aem.errors import UserError
from swe_aem.policy import open_policy_factory
from swe_aem.policy.scripted import ScriptTools
from swe_aem.policy.tokenizer import load_tokenizer
from swe_aem.testing.builders import make_record

PARAMS = SamplingParams(max_tokens=5)


@pytest.fixture(scope="module")
def renderer():
    return TurnRenderer(load_tokenizer(None))


def record(patch="--- a/x\n+++ b/x\n") -> TaskRecord:
    made = make_record("t")
    return made.model_copy(update={"key": made.key.model_copy(update={"gold_patch": patch})})


async def calls_of(policy, renderer, count):
    turns = [renderer.parse((await policy.sample([1], PARAMS, trajectory_id="t.0")).token_ids) for _ in range(count)]
    return [(turn.calls[0].name, turn.calls[0].arguments) for turn in turns]


@pytest.mark.parametrize("patch", ["+a", "+a\n", "+a\r\n+'\"$`\\\n", "+<|im_end|></tool_call>\u2028é\n"])
async def test_gold_writes_the_exact_patch_applies_it_and_submits(renderer, patch):
    async with open_policy_factory("gold", renderer) as factory:
        calls = await calls_of(factory(record(patch), 0), renderer, 4)
    assert calls[0][1]["file_text"] == (patch if patch.endswith("\n") else patch + "\n")
    assert calls[1][0] == "bash"
    assert calls[0][1]["path"] in calls[1][1]["command"]
    assert [name for name, _ in calls[2:]] == ["submit", "submit"], "a script that has run out submits"


async def test_noop_submits_at_once(renderer):
    async with open_policy_factory("noop", renderer) as factory:
        assert await calls_of(factory(record(), 0), renderer, 1) == [("submit", {})]


async def test_scripts_end_with_a_stop_token_and_have_logprobs(renderer):
    async with open_policy_factory("gold", renderer) as factory:
        completion = await factory(record(), 0).sample([1], PARAMS, trajectory_id="t.0")
        assert factory(record(), 0) is not factory(record(), 0)
    assert completion.token_ids[-1] in renderer.stop_token_ids
    assert completion.logprobs == (0.0,) * len(completion.token_ids)


async def test_replay_repeats_ids_logprobs_and_versions(renderer):
    responses = (
        Response(start=2, end=4, logprobs=(-1.0, -2.0), version=3, finish_reason="length", sample_s=0.1),
        Response(start=5, end=6, logprobs=(-0.5,), version=4, finish_reason="stop", sample_s=0.1),
    )
    stored = Trajectory(
        task_id="t",
        sample=1,
        agent="native",
        model="m",
        token_ids=(1, 2, 30, 31, 5, 258),
        responses=responses,
        stop=Stop.TIME_LIMIT,
    )
    async with open_policy_factory("replay", renderer, replay_from={TrajectoryKey("t", 1): stored}) as factory:
        policy = factory(record(), 1)
        assert policy.name == "m"
        first, second, third = [await policy.sample([9], PARAMS, trajectory_id="t.1") for _ in range(3)]
        with pytest.raises(UserError, match=r"no trajectory t\.0"):
            factory(record(), 0)
    assert (first.token_ids, first.logprobs, first.version, first.finish_reason) == (
        (30, 31),
        (-1.0, -2.0),
        3,
        "length",
    )
    assert (second.token_ids, second.finish_reason) == ((258,), "stop")
    assert renderer.parse(third.token_ids).calls[0].name == "submit"


@pytest.mark.parametrize(
    ("policy", "tools", "message"),
    [
        ("replay", None, "needs the directory of a store"),
        ("/nowhere/at/all", None, "give gold, noop, replay, the URL"),
        ("glod", None, "did you mean gold"),
        ("demo", ScriptTools(shell="bash", finish=("done", {})), "use it with the agent native"),
    ],
)
async def test_misuse_names_the_fix(renderer, policy, tools, message):
    with pytest.raises(UserError, match=message):
        async with open_policy_factory(policy, renderer, tools=tools):
            pass


@pytest.mark.parametrize("name", ["gold", "noop", "demo", "hasty"])
async def test_a_script_is_named_as_it_is_called(renderer, name):
    patch = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n"
    async with open_policy_factory(name, renderer) as factory:
        assert factory(record(patch), 0).name == name
