"""Rows of branches: each sampled token is trained once, and an estimator sees trajectories whatever rows they have."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swe_aem.core import Branch, Outcome, Response, Trajectory
from swe_aem.train.training_row import branch_rows, entropy_estimator, trained_branches, training_row

torch = pytest.importorskip("torch", reason="needs the train extra")

from swe_aem.advantage.aem import AEM  # noqa: E402
from swe_aem.advantage.inputs import AdvantageInputs  # noqa: E402
from swe_aem.testing.builders import make_trajectory  # noqa: E402
from swe_aem.train.streams import Streams  # noqa: E402

pytestmark = pytest.mark.torch


class Tree:
    """A random conversation that was forked and begun again: each token has a number of its own, sampled or not."""

    def __init__(self, seed: int) -> None:
        self.dice, self.used = random.Random(seed), 0
        self.sampled: set[int] = set()

    def fresh(self, count: int) -> list[int]:
        self.used += count
        return list(range(self.used - count, self.used))

    def response(self, start: int) -> tuple[list[int], Response]:
        ids = self.fresh(self.dice.randint(1, 4))
        self.sampled |= set(ids)
        logprobs = tuple(-float(one) for one in ids)
        end = start + len(ids)
        return ids, Response(
            start=start, end=end, logprobs=logprobs, version=0, finish_reason="stop", sample_s=0.0,
            entropy=self.dice.random(), entropy_estimator="top20",
        )  # fmt: skip

    def stream(self, before: list[int]) -> tuple[list[int], tuple[Response, ...]]:
        ids, responses = before + self.fresh(self.dice.randint(1, 3)), []
        for _ in range(self.dice.randint(1, 3)):
            new, response = self.response(len(ids))
            ids = ids + new + self.fresh(self.dice.randint(0, 2))
            responses.append(response)
        return ids, tuple(responses)

    def trajectory(self, sample: int) -> Trajectory:
        """Its branches continue a part of an earlier stream, or begin anew."""
        own = self.stream([])
        streams = [own]
        for _ in range(self.dice.randint(0, 4)):
            earlier, _ = self.dice.choice([*streams, ([], ())])
            streams.append(self.stream(earlier[: self.dice.randint(0, len(earlier))]))
        branches = [
            Branch(token_ids=tuple(ids), responses=responses, by_agent=self.dice.random() < 0.7)
            for ids, responses in streams[1:]
        ]
        outcome = self.dice.choice([Outcome.RESOLVED, Outcome.UNRESOLVED, Outcome.TURN_LIMIT, Outcome.INFRASTRUCTURE])
        reward = None if outcome is Outcome.INFRASTRUCTURE else float(outcome is Outcome.RESOLVED)
        return make_trajectory(
            f"t{sample // 2}", sample % 2, token_ids=tuple(own[0]), responses=own[1], branches=tuple(branches),
            outcome=outcome, reward=reward,
        )  # fmt: skip


def trained_tokens(row: Any) -> list[int]:
    assert len(row["completion_ids"]) == len(row["logprobs"]) == len(row["response_of_token"]) == len(row["env_mask"])
    return [token for token, mask in zip(row["completion_ids"], row["env_mask"], strict=True) if mask]


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), most=st.integers(0, 5))
def test_each_token_is_trained_once_and_only_if_the_agent_sampled_it(seed: int, most: int) -> None:
    one = Tree(seed).trajectory(0)
    own = training_row(one, entropy="top20")
    rows = branch_rows(one, own, most=most, entropy="top20")
    chosen = [branch for branch in one.branches if branch.by_agent][:most] if any(own["env_mask"]) else []
    assert len(rows) == len(chosen)
    found = [token for row in (own, *rows) for token in trained_tokens(row)]
    streams = [one, *chosen] if any(own["env_mask"]) else []
    assert found == [
        token for stream in streams for part in stream.responses for token in stream.token_ids[part.start : part.end]
    ]
    assert len(set(found)) == len(found)
    responses = [part for stream in streams for part in stream.responses]
    for row, stream in zip((own, *rows), streams, strict=False):
        assert tuple(row["prompt_ids"] + row["completion_ids"]) == stream.token_ids
        for token, number, logprob in zip(
            row["completion_ids"], row["response_of_token"], row["logprobs"], strict=True
        ):
            if number >= 0:
                assert logprob == -float(token)
                assert row["response_entropies"][number] == responses[number].entropy
        shared = ("reward", "response_rewards", "counts", "weight")
        assert [row[name] for name in shared] == [own[name] for name in shared]


def test_a_branch_that_a_command_can_have_asked_for_is_never_trained() -> None:
    (response,) = make_trajectory("t", 0).responses
    ids = make_trajectory("t", 0).token_ids
    branches = tuple(Branch(token_ids=ids, responses=(response,)) for _ in range(3))
    one = make_trajectory("t", 0).model_copy(update={"branches": branches})
    assert trained_branches(one, 100) == ()
    assert branch_rows(one, training_row(one), most=100) == []


def test_entropies_are_of_the_estimator_that_trained_branches_have_too() -> None:
    one = next(found for found in (Tree(seed).trajectory(0) for seed in range(99)) if trained_branches(found, 1))
    (branch, *_) = trained_branches(one, 1)
    plain = branch.model_copy(
        update={"responses": tuple(part.model_copy(update={"entropy_estimator": None}) for part in branch.responses)}
    )
    other = one.model_copy(update={"branches": (plain,)})
    assert [entropy_estimator([each], most) for each in (one, other) for most in (0, 1)] == [
        "top20", "top20", "top20", "surprisal",
    ]  # fmt: skip


def batch(trajectories: list[Trajectory], most: int) -> tuple[Any, Any, Any]:
    """(R,) row of each row's trajectory, (R, T) numbers of responses, and (R, T) entropies of a batch."""
    own = [training_row(one, entropy="top20") for one in trajectories]
    rows, owners = list(own), list(range(len(own)))
    for at, one in enumerate(trajectories):
        found = branch_rows(one, own[at], most=most, entropy="top20")
        rows += found
        owners += [at] * len(found)
    width = max(len(row["completion_ids"]) for row in rows)
    numbers = torch.full((len(rows), width), -1)
    entropy = torch.zeros(len(rows), width)
    for at, row in enumerate(rows):
        numbers[at, : len(row["response_of_token"])] = torch.tensor(row["response_of_token"])
        values = torch.tensor([*row["response_entropies"], 0.0])
        entropy[at] = values[numbers[at]]
    return torch.tensor(owners), numbers, entropy


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), most=st.integers(0, 5))
def test_an_estimator_sees_trajectories_and_its_advantages_come_back_to_the_rows(seed: int, most: int) -> None:
    tree = Tree(seed)
    trajectories = [tree.trajectory(sample) for sample in range(4)]
    owners, numbers, entropy = batch(trajectories, most)
    streams = Streams(owners, numbers)
    joined, alone = streams.join(numbers, -1), numbers[: len(trajectories)]
    reward = torch.tensor([float("nan") if one.reward is None else one.reward for one in trajectories])
    inputs = AdvantageInputs(
        reward=reward,
        group=torch.arange(4) // 2,
        response_of_token=joined,
        weight=torch.ones(4),
        scores=lambda: (streams.join(entropy, 0.0), torch.zeros_like(joined)),
    )
    assert streams.trajectories == 4
    assert torch.equal(joined[:, : alone.size(1)], alone), "own tokens stay where they are"
    values, _ = AEM(min_range=0.0)(inputs)
    rows = streams.split(values)
    assert rows.shape == numbers.shape
    assert torch.equal(streams.split(streams.join(entropy, 0.0))[numbers >= 0], entropy[numbers >= 0])
    base = AEM(lam=0.0)(inputs)[0][:, 0]
    assert torch.equal(streams.split(base), base[owners])
    responses = inputs.responses
    assert responses.mean_entropy.numel() == sum(len(set(row[row >= 0].tolist())) for row in numbers)
    alpha = AEM(min_range=0.0).of_responses(inputs)
    for group in (0, 1):
        inside = inputs.group[responses.row] == group
        if bool(inside.any()):
            assert float(alpha[inside].mean()) == pytest.approx(1.0)
    for row, owner in enumerate(owners.tolist()):
        for place in (numbers[row] >= 0).nonzero().flatten().tolist():
            number = int(numbers[row, place])
            mine = torch.unique(values[owner][joined[owner] == number])
            assert mine.tolist() == [float(rows[row, place])]


def test_without_branches_nothing_is_moved() -> None:
    numbers = torch.tensor([[0, -1, 1], [0, 0, -1]])
    streams = Streams(torch.arange(2), numbers)
    assert torch.equal(streams.join(numbers, -1), numbers)
    values = torch.arange(6.0).view(2, 3)
    assert torch.equal(streams.split(values), values)
    assert torch.equal(streams.split(values[:, 0]), values[:, 0])
