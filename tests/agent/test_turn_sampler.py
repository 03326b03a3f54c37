"""`TurnSampler`: one turn's limits, parameters and failures."""

import pytest

from swe_aem.agent import ParsedTurn, TurnLimits
from swe_aem.agent.prompt import TokenPrompt
from swe_aem.agent.turn_sampler import TrajectoryEnded, TurnSampler
from swe_aem.core import Completion, Deadline, Stop
from swe_aem.errors import PolicyError
from swe_aem.policy import ContextOverflow

LIMITS = TurnLimits(max_context_tokens=100, max_response_tokens=40, temperature=0.5, top_p=0.9, seed=7)
PROMPT = list(range(80))


class Rendering:
    stop_token_ids = (2,)

    def parse(self, completion_ids, prompt_ids, tools=()):
        return ParsedTurn(content="read")


class Sampler(TurnSampler):
    """Takes the token ids of a prompt."""

    async def sample(self, prompt, *, turn):
        return await super().sample(TokenPrompt(self._policy, Rendering(), list(prompt)), turn=turn)


class Asked:
    """Answers every request with one reply, or raises it, and keeps what it was asked."""

    name = "asked"

    def __init__(self, reply):
        self.reply = reply
        self.requests = []

    async def sample(self, prompt_ids, params, *, trajectory_id):
        self.requests.append((list(prompt_ids), params, trajectory_id))
        if isinstance(self.reply, BaseException):
            raise self.reply
        return self.reply

    async def close(self):
        pass


def completion(tokens=2, logprobs=2):
    return Completion(token_ids=(5,) * tokens, logprobs=(-1.0,) * logprobs, finish_reason="stop")


@pytest.fixture
def make():
    def make(policy, *, deadline_s=60.0, **limits):
        chosen = LIMITS.model_copy(update=limits)
        deadline = Deadline.after(deadline_s)
        return Sampler(policy, None, chosen, deadline, task_id="o__r-1", sample=3)

    return make


async def test_a_turn_is_sampled_within_the_room_that_is_left(make):
    policy = Asked(completion())
    sampler = make(policy)
    sampled = await sampler.sample(PROMPT, turn=0)
    await sampler.sample(PROMPT[:10], turn=1)
    assert (sampled.token_ids, sampled.response.logprobs, sampled.turn.content) == ((5, 5), (-1.0, -1.0), "read")
    assert (sampled.response.start, sampled.response.end, sampled.context_tokens) == (80, 82, 82)
    assert sampled.response.sample_s >= 0
    (first_ids, first, trajectory_id), (_, second, _) = policy.requests
    assert (first_ids, trajectory_id) == (PROMPT, "o__r-1.3")
    assert (first.max_tokens, second.max_tokens) == (20, 40)
    assert (first.temperature, first.top_p, first.stop_token_ids) == (0.5, 0.9, (2,))
    assert first.seed != second.seed


async def test_seeds_follow_the_turn_alone(make):
    policies = [Asked(completion()) for _ in range(2)]
    for policy in policies:
        await make(policy).sample(PROMPT, turn=4)
    assert policies[0].requests == policies[1].requests


@pytest.mark.parametrize("room", [80, 79])
async def test_a_prompt_without_room_behind_it_ends_at_the_context_limit(make, room):
    policy = Asked(completion())
    with pytest.raises(TrajectoryEnded, match=f"prompt has 80 tokens, and there is room for {room}") as ended:
        await make(policy, max_context_tokens=room).sample(PROMPT, turn=0)
    assert (ended.value.stop, policy.requests) == (Stop.CONTEXT_LIMIT, [])


async def test_the_policys_context_limit_is_the_trajectorys(make):
    with pytest.raises(TrajectoryEnded, match="maximum context length: too long") as ended:
        await make(Asked(ContextOverflow("too long"))).sample(PROMPT, turn=0)
    assert ended.value.stop is Stop.CONTEXT_LIMIT


async def test_nothing_is_sampled_after_the_deadline(make):
    policy = Asked(completion())
    with pytest.raises(TrajectoryEnded) as ended:
        await make(policy, deadline_s=0).sample(PROMPT, turn=0)
    assert (ended.value.stop, policy.requests) == (Stop.TIME_LIMIT, [])
    with pytest.raises(TrajectoryEnded) as ended:
        make(policy, deadline_s=0).check_time()
    assert ended.value.stop is Stop.TIME_LIMIT


async def test_a_response_is_not_cut_short_at_the_deadline():
    now_s = 0.0

    class Slow(Asked):
        async def sample(self, *args, **kwargs):
            nonlocal now_s
            now_s = 100.0
            return await super().sample(*args, **kwargs)

    deadline = Deadline.after(60.0, lambda: now_s)
    sampler = Sampler(Slow(completion()), None, LIMITS, deadline, task_id="o__r-1", sample=3)
    assert (await sampler.sample(PROMPT, turn=0)).token_ids == (5, 5)
    with pytest.raises(TrajectoryEnded, match="out of time"):
        sampler.check_time()


@pytest.mark.parametrize("error", [PolicyError("500"), TimeoutError("the policy's own"), RuntimeError("a bug")])
async def test_failures_of_the_policy_pass_through(make, error):
    with pytest.raises(type(error), match=str(error)):
        await make(Asked(error)).sample(PROMPT, turn=0)


@pytest.mark.parametrize(("tokens", "logprobs"), [(0, 0), (2, 1)])
async def test_a_completion_that_does_not_add_up_is_a_failure(make, tokens, logprobs):
    with pytest.raises(PolicyError, match=f"asked returned {tokens} tokens with {logprobs} log-probabilities"):
        await make(Asked(completion(tokens, logprobs))).sample(PROMPT, turn=0)


async def test_malformed_responses_in_a_row_end_it(make):
    sampler = make(Asked(completion()), max_consecutive_malformed=2)
    for well_formed in (False, True, False):
        sampler.count(well_formed=well_formed)
    with pytest.raises(TrajectoryEnded, match="2 malformed responses in a row") as ended:
        sampler.count(well_formed=False)
    assert ended.value.stop is Stop.MALFORMED
