"""Every estimator against its formula, written out one trajectory, response and token at a time in Python's float64."""

import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

pytest.importorskip("torch", reason="needs the transformers extra")

import torch

import swe_aem.advantage as package
from swe_aem.advantage.aem import AEM
from swe_aem.advantage.baselines import BASELINES, leave_one_out
from swe_aem.advantage.config import (
    ADVANTAGES,
    AEMConfig,
    Baseline,
    BaselineConfig,
    Direction,
    OwnAdvantageConfig,
    Scope,
    advantage_of,
    label_of,
)
from swe_aem.advantage.empg import EMPG
from swe_aem.advantage.estimators import base_advantages, estimate, estimator_of
from swe_aem.advantage.inputs import AdvantageInputs
from swe_aem.advantage.stare import STARE
from swe_aem.errors import UserError
from swe_aem.testing.advantages import advantage_inputs

pytestmark = pytest.mark.torch

Table = list[list[float]]
BUILT_IN = ("aem", "leave_one_out", "group_mean", "group_normalised", "max_rl", "empg", "stare")
REWARDS = [1.0, 0.0, 0.0, None, 1.0, 1.0, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0]


def batch(seed: int, **given: Any) -> AdvantageInputs:
    """Three groups of four: one with an infrastructure failure, one with a part reward, one of failures. Row 6 hit a
    limit."""
    return advantage_inputs(REWARDS, group_size=4, untrained=[6], seed=seed, dtype=torch.float64, **given)


def others(inputs: AdvantageInputs, row: int, *, itself: bool = False) -> list[float]:
    """Rewards of the row's group that count, without its own unless `itself`."""
    rewards, group = inputs.reward.tolist(), inputs.group.tolist()
    same = [n for n in range(len(rewards)) if group[n] == group[row] and (itself or n != row)]
    return [rewards[n] for n in same if not math.isnan(rewards[n])]


def of_rows(inputs: AdvantageInputs, rule: Callable[[float, int], float]) -> list[float]:
    """A rule for each row that counts, 0 for the others."""
    return [0.0 if math.isnan(one) else rule(one, n) for n, one in enumerate(inputs.reward.tolist())]


def naive_leave_one_out(inputs: AdvantageInputs) -> list[float]:
    return of_rows(inputs, lambda reward, n: reward - statistics.fmean(others(inputs, n)))


def naive_group_mean(inputs: AdvantageInputs) -> list[float]:
    return of_rows(inputs, lambda reward, n: reward - statistics.fmean(others(inputs, n, itself=True)))


def naive_group_normalised(inputs: AdvantageInputs) -> list[float]:
    def rule(reward: float, n: int) -> float:
        group = others(inputs, n, itself=True)
        return (reward - statistics.fmean(group)) / (statistics.stdev(group) + 1e-4)

    return of_rows(inputs, rule)


def naive_max_rl(inputs: AdvantageInputs) -> list[float]:
    """The estimator of the paper: each success counts 1/K, and every sample is a control of 1/N."""

    def rule(reward: float, n: int) -> float:
        group = others(inputs, n, itself=True)
        return len(group) * (reward / sum(group) - 1 / len(group)) if sum(group) else 0.0

    return of_rows(inputs, rule)


def means(inputs: AdvantageInputs) -> dict[tuple[int, int], float]:
    """Mean entropy of each trained response, by row and number."""
    found: dict[tuple[int, int], list[float]] = {}
    for row, numbers in enumerate(inputs.response_of_token.tolist()):
        for place, number in enumerate(numbers):
            if number >= 0:
                found.setdefault((row, number), []).append(float(inputs.entropy[row, place]))
    return {key: statistics.fmean(values) for key, values in found.items()}


def table(inputs: AdvantageInputs, rule: Callable[[int, int, int], float]) -> Table:
    """(B, T): a rule of row, response and place for trained tokens, leave-one-out elsewhere."""
    base = naive_leave_one_out(inputs)
    return [
        [base[row] if number < 0 else rule(row, number, place) for place, number in enumerate(numbers)]
        for row, numbers in enumerate(inputs.response_of_token.tolist())
    ]


def naive_aem(inputs: AdvantageInputs) -> Table:
    entropy, base, group = means(inputs), naive_leave_one_out(inputs), inputs.group.tolist()

    def alpha(row: int, number: int) -> float:
        peers = [value for (other, _), value in entropy.items() if group[other] == group[row]]
        low, high = min(peers), max(peers)
        if high - low < 0.1:
            return 1.0
        weights = [math.exp(-(value - low) / (high - low)) for value in peers]
        return math.exp(-(entropy[row, number] - low) / (high - low)) / statistics.fmean(weights)

    return table(inputs, lambda row, number, _: alpha(row, number) * base[row])


def naive_empg(inputs: AdvantageInputs) -> Table:
    entropy, base = means(inputs), naive_leave_one_out(inputs)
    low, high = min(entropy.values()), max(entropy.values())
    scaled = {key: math.exp(-(value - low) / (high - low)) for key, value in entropy.items()}
    mean = statistics.fmean(scaled.values())
    step = {
        (row, number): base[row] * scaled[row, number] / mean + 0.1 * scaled.get((row, number + 1), 0.0)
        for row, number in scaled
    }
    center = statistics.fmean(step.values())
    return table(inputs, lambda row, number, _: step[row, number] - center)


def naive_stare(inputs: AdvantageInputs) -> Table:
    """Variant C2, in every step."""
    base, logprob = naive_leave_one_out(inputs), inputs.logprob.tolist()
    places = [(row, place) for row, numbers in enumerate(inputs.response_of_token.tolist())
              for place, number in enumerate(numbers) if number >= 0]  # fmt: skip
    factor: dict[tuple[int, int], float] = {}
    for sign, weight in ((1, 1.1), (-1, 0.9)):
        mine = [(row, place) for row, place in places if base[row] * sign > 0]
        mine.sort(key=lambda place: logprob[place[0]][place[1]])
        factor |= dict.fromkeys(mine[: math.ceil(0.1 * len(mine))], weight)
    return table(inputs, lambda row, _, place: base[row] * factor.get((row, place), 1.0))


REFERENCES: dict[str, tuple[Any, Callable[[AdvantageInputs], Any]]] = {
    "leave_one_out": (BASELINES["leave_one_out"], naive_leave_one_out),
    "group_mean": (BASELINES["group_mean"], naive_group_mean),
    "group_normalised": (BASELINES["group_normalised"], naive_group_normalised),
    "max_rl": (BASELINES["max_rl"], naive_max_rl),
    "aem": (AEM(), naive_aem),
    "empg": (EMPG(), naive_empg),
    "stare": (STARE(attenuate=0.9, target_entropy=None), naive_stare),
}


def test_every_built_in_estimator_has_a_reference() -> None:
    assert set(REFERENCES) == set(BUILT_IN) == set(ADVANTAGES.names)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", BUILT_IN)
def test_an_estimator_is_its_formula(name: str, seed: int) -> None:
    estimator, reference = REFERENCES[name]
    inputs = batch(seed)
    found = estimator(inputs)
    values = found[0] if isinstance(found, tuple) else found
    expected = torch.tensor(reference(inputs), dtype=torch.float64)
    assert values.shape == expected.shape
    assert torch.allclose(values, expected, rtol=1e-9, atol=1e-12)
    assert float(values.abs().max()) > 0.5, "nothing is compared"


def test_each_estimator_is_one_file_of_under_80_lines() -> None:
    for name in ("baselines", "aem", "empg", "stare"):
        assert len((Path(package.__file__).parent / f"{name}.py").read_text().splitlines()) < 80, name


@pytest.mark.parametrize("name", BUILT_IN)
def test_what_does_not_count_is_in_no_figure_and_gets_nothing(name: str) -> None:
    estimator = REFERENCES[name][0]
    with_failure = batch(0)
    kept = [n for n, one in enumerate(REWARDS) if one is not None]
    without = AdvantageInputs(
        reward=with_failure.reward[kept],
        group=with_failure.group[kept],
        response_of_token=with_failure.response_of_token[kept],
        weight=with_failure.weight[kept],
        scores=lambda: (with_failure.entropy[kept], with_failure.logprob[kept]),
    )
    found, expected = (estimate(estimator, one, name) for one in (with_failure, without))
    assert torch.equal(found.values[kept], expected.values)
    assert found.values[3].eq(0).all()
    assert found.metrics == expected.metrics


@pytest.mark.parametrize("name", BUILT_IN)
def test_task_weights_multiply_the_result(name: str) -> None:
    estimator, weights = REFERENCES[name][0], [0.5, 1.0, 0.25] * 4
    plain, weighted = estimate(estimator, batch(1), name), estimate(estimator, batch(1, weights=weights), name)
    factor = torch.tensor(weights).view(-1, *[1] * (plain.values.dim() - 1))
    assert torch.equal(plain.values * factor, weighted.values)
    assert plain.metrics == weighted.metrics


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_batch_without_a_trained_token(name: str) -> None:
    inputs = advantage_inputs([1.0, 0.0], untrained=[0, 1], dtype=torch.float64)
    found = estimate(REFERENCES[name][0], inputs, name)
    assert found.values.isfinite().all()
    assert found.metrics == {}


@pytest.mark.parametrize("baseline", get_args(Baseline))
@pytest.mark.parametrize("name", ["aem", "empg", "stare"])
def test_at_no_strength_an_estimator_is_its_baseline_bit_for_bit(name: str, baseline: Baseline) -> None:
    nothing = {
        "aem": AEM(baseline=baseline, lam=0.0, min_range=0.0),
        "empg": EMPG(baseline=baseline, k=0.0, zeta=0.0, center=False),
        "stare": STARE(baseline=baseline, amplify=1.0, target_entropy=None),
    }[name]
    for dtype in (torch.float32, torch.float64):
        inputs = advantage_inputs(REWARDS, group_size=4, seed=2, dtype=dtype)
        values, _ = nothing(inputs)
        assert torch.equal(values, BASELINES[baseline](inputs).unsqueeze(1).expand_as(values))


def test_the_old_policys_pass_is_made_only_for_what_asks_for_it() -> None:
    asked = []
    inputs = batch(0)
    counted = AdvantageInputs(
        reward=inputs.reward, group=inputs.group, response_of_token=inputs.response_of_token, weight=inputs.weight,
        scores=lambda: asked.append(1) or inputs.scores(),
    )  # fmt: skip
    for name in get_args(Baseline):
        estimate(BASELINES[name], counted, name)
    assert asked == []
    for name in ("aem", "empg", "stare"):
        estimate(REFERENCES[name][0], counted, name)
    assert asked == [1], "once for all"


@pytest.mark.parametrize("name", get_args(Baseline))
def test_a_reward_at_the_last_response_is_one_for_the_trajectory(name: Baseline) -> None:
    paid = [[0.0, 1.0], [0.0, 0.0, 0.0], [0.5], None]
    rewards = [1.0, 0.0, 0.5, 0.75]
    by_response = advantage_inputs(rewards, response_rewards=paid, dtype=torch.float64)
    plain = advantage_inputs(rewards, dtype=torch.float64)
    of_rows = BASELINES[name](plain)
    of_tokens = BASELINES[name](by_response)
    assert torch.allclose(of_tokens, of_rows.unsqueeze(1).expand_as(of_tokens), atol=1e-12)


@pytest.mark.parametrize("name", get_args(Baseline))
def test_a_response_is_credited_with_what_is_paid_from_it_on(name: Baseline) -> None:
    """Three trajectories, paid 1, 0 and 0.5 in all; before their second response 0.25, 0 and 0.5."""
    paid = [[0.25, 0.5, 0.25], [0.0, 0.0], [0.5, 0.0]]
    inputs = advantage_inputs([1.0, 0.0, 0.5], response_rewards=paid, dtype=torch.float64)
    scale = {"leave_one_out": 1.0, "group_mean": 1.0, "group_normalised": 0.5 + 1e-4, "max_rl": 0.5}[name]
    trajectory = {"leave_one_out": 0.75, "group_mean": 0.5, "group_normalised": 0.5, "max_rl": 0.5}[name]
    found = BASELINES[name](inputs)
    # Of the first trajectory: nobody is paid before response 0, the others 0.25 before 1, and nobody else has a 2.
    for response, before in enumerate((0.0, 0.25 - 0.25, 0.0)):
        tokens = found[0][inputs.response_of_token[0] == response]
        assert tokens.tolist() == pytest.approx([(trajectory - before) / scale] * tokens.numel())
    last = {"leave_one_out": 0.0, "group_mean": 0.0, "group_normalised": 0.0, "max_rl": 0.0}[name]
    tokens = found[2][inputs.response_of_token[2] == 1]
    assert tokens.tolist() == pytest.approx([last - (0.5 - 0.125) / scale] * tokens.numel())
    modulated, _ = AEM(baseline=name, min_range=0.0)(inputs)
    assert torch.allclose(modulated, found * AEM(min_range=0.0).factors(inputs))


@pytest.mark.parametrize("name", get_args(Baseline))
def test_what_every_trajectory_is_paid_alike_moves_nothing(name: Baseline) -> None:
    paid = [[0.5, 0.5], [0.5, 0.5, 0.0], [0.5, 0.0]]
    inputs = advantage_inputs([1.0, 1.0, 0.5], response_rewards=paid, dtype=torch.float64)
    found = BASELINES[name](inputs)
    plain = BASELINES[name](advantage_inputs([1.0, 1.0, 0.5], dtype=torch.float64))
    for row in range(3):
        tokens = found[row][inputs.response_of_token[row].clamp(min=0) < 2]
        assert torch.allclose(tokens, plain[row].expand_as(tokens))


def test_the_gate_of_stare_is_the_mean_token_entropy() -> None:
    inputs = batch(0)
    mean = float(inputs.entropy[inputs.response_of_token >= 0].mean())
    for target, on in ((mean * 0.99, 0.0), (mean * 1.01, 1.0)):
        values, metrics = STARE(target_entropy=target)(inputs)
        assert metrics["gate_on"] == on
        assert metrics["token_entropy"] == pytest.approx(mean)
        assert (metrics["reweighted_share"] > 0) is bool(on)
        assert torch.equal(values.sign(), leave_one_out(inputs).sign().unsqueeze(1).expand_as(values))


@pytest.mark.parametrize(("name", "names"), [("scope", get_args(Scope)), ("direction", get_args(Direction))])
def test_no_two_ablations_are_the_same(name: str, names: tuple[str, ...]) -> None:
    found = [AEM.model_validate({"min_range": 0.0, name: value}).of_responses(batch(0)) for value in names]
    for number, one in enumerate(found):
        assert not any(torch.equal(one, other) for other in found[:number])


def test_a_shuffle_repeats_with_the_step_and_the_seed() -> None:
    def alpha(step: int, **given: Any) -> Any:
        return AEM(min_range=0.0, **given).of_responses(batch(0, step=step))

    assert torch.equal(alpha(3, shuffle=True), alpha(3, shuffle=True))
    for other in (alpha(4, shuffle=True), alpha(3, shuffle=True, seed=1), alpha(3)):
        assert not torch.equal(alpha(3, shuffle=True), other)
        assert torch.equal(alpha(3, shuffle=True).sort().values, other.sort().values)


def test_no_two_baselines_are_the_same() -> None:
    assert set(BASELINES) == set(get_args(Baseline))
    found = [BASELINES[name](batch(0)) for name in get_args(Baseline)]
    for number, one in enumerate(found):
        assert not any(torch.equal(one, other) for other in found[:number])


@pytest.mark.parametrize(
    ("estimator", "assignments", "said"),
    [
        ("maxrl", [], "no advantage estimator 'maxrl' .did you mean max_rl.*file.py:object"),
        ("aem", ["lamb=1"], r"advantage.lamb is unknown \(did you mean advantage.lam\?\)"),
        ("aem", ["lam=-1"], "advantage.lam is -1: give a number .at least 0, at most 50"),
        ("aem", ["baseline=median"], 'advantage.baseline is "median": give one of leave_one_out, group_mean'),
        ("aem", ["scope=token"], 'advantage.scope is "token": give one of trajectory, group, batch'),
        (
            "aem",
            ["aem=false"],
            "advantage.aem is now called advantage.estimator: set it, e.g. to aem where it was true",
        ),
        ("empg", ["lam=1"], "advantage.lam is a setting of another kind of advantage; here there are entropy, "),
        ("max_rl", ["k=1"], "advantage.k is a setting of another kind of advantage; here there are entropy, estimator"),
        ("mine.py", [], "say which object of the file, as in mine.py:NAME"),
    ],
)
def test_what_cannot_be_a_setting_is_refused_at_start(estimator: str, assignments: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        advantage_of(estimator, assignments)


def test_a_configuration_makes_its_estimator() -> None:
    assert estimator_of(AEMConfig(lam=2.0)) == AEM(lam=2.0)
    assert estimator_of(BaselineConfig(estimator="max_rl")) is BASELINES["max_rl"]
    assert estimator_of(advantage_of("stare", ["attenuate=0.9"])) == STARE(attenuate=0.9)
    unknown = AEM.model_construct(scope="unknown")
    with pytest.raises(KeyError, match="unknown"):
        unknown(batch(0))


OWN = """
import torch
from swe_aem.core.base import Frozen

def halved(inputs):
    return inputs.reward.nan_to_num() / 2

def unfinished(inputs):
    raise RuntimeError("a mistake of mine")

class Scaled(Frozen):
    by: float = 1.0
    def __call__(self, inputs):
        return self.by * inputs.entropy, {"by": self.by}

number = 7
wrong = {
    "text": lambda inputs: "text",
    "shape": lambda inputs: torch.zeros(3, 2),
    "nan": lambda inputs: inputs.reward * float("nan"),
    "metrics": lambda inputs: (inputs.reward, [1]),
}
def text(inputs): return wrong["text"](inputs)
def shape(inputs): return wrong["shape"](inputs)
def nan(inputs): return wrong["nan"](inputs)
def metrics(inputs): return wrong["metrics"](inputs)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("own")
def test_an_estimator_of_ones_own() -> None:
    inputs = advantage_inputs([1.0, None, 0.5])
    config = OwnAdvantageConfig(estimator="mine.py:halved")
    assert label_of(config) == "halved"
    assert estimate(estimator_of(config), inputs, "mine.py:halved").values.tolist() == [0.5, 0.0, 0.25]
    scaled = estimate(estimator_of(advantage_of("mine.py:Scaled", ["by=2"])), inputs, "mine.py:Scaled")
    assert scaled.metrics == {"by": 2.0}
    counted = inputs.counts.unsqueeze(1)
    assert torch.equal(scaled.values, torch.where(counted, 2 * inputs.entropy, 0.0))


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("text", "returned str: return a tensor, or a tensor and a dict of metrics"),
        ("shape", r"of shape \(3, 2\): return \(2,\), one number per trajectory, or \(2, \d+\), one per token"),
        ("nan", r"not finite at \[0\]"),
        ("metrics", "returned list as metrics"),
    ],
)
def test_what_no_trainer_could_use_is_said_in_words(name: str, said: str) -> None:
    estimator = estimator_of(OwnAdvantageConfig(estimator=f"mine.py:{name}"))
    with pytest.raises(UserError, match=f"advantage estimator mine.py:{name} .*{said}"):
        estimate(estimator, advantage_inputs([1.0, 0.0]), f"mine.py:{name}")


@pytest.mark.usefixtures("own")
def test_a_mistake_in_it_keeps_its_own_traceback() -> None:
    with pytest.raises(RuntimeError, match="a mistake of mine"):
        estimate(estimator_of(OwnAdvantageConfig(estimator="mine.py:unfinished")), advantage_inputs([1.0]), "x")
    with pytest.raises(UserError, match=r"mine.py:number is int, which cannot be called: write a function"):
        estimator_of(OwnAdvantageConfig(estimator="mine.py:number"))
    with pytest.raises(UserError, match=r"by is unknown|fewer is unknown"):
        estimator_of(advantage_of("mine.py:Scaled", ["fewer=1"]))
    with pytest.raises(UserError, match="takes no settings, but by are given"):
        estimator_of(advantage_of("mine.py:halved", ["by=1"]))


def test_an_estimator_may_write_into_what_it_is_given() -> None:
    def writes(inputs: AdvantageInputs) -> torch.Tensor:
        inputs.entropy.zero_()
        inputs.weight.fill_(5.0)
        return inputs.reward.mul_(2)

    inputs = advantage_inputs([1.0, 0.0])
    entropy = inputs.entropy.clone()
    assert estimate(writes, inputs, "x").values.tolist() == [2.0, 0.0]
    assert inputs.reward.tolist() == [1.0, 0.0]
    assert torch.equal(inputs.entropy, entropy)


def test_a_baseline_that_does_not_exist_is_told() -> None:
    class Own:
        baseline = "leaf_one_out"

        def __call__(self, inputs: AdvantageInputs) -> torch.Tensor:
            return inputs.reward

    with pytest.raises(UserError, match=r"no baseline 'leaf_one_out' \(did you mean leave_one_out\?\)"):
        base_advantages(Own(), advantage_inputs([1.0, 0.0]))


@pytest.mark.parametrize("value", ["much", torch.ones(3), None])
def test_a_metric_that_is_no_number_is_named(value: object) -> None:
    def measured(inputs: AdvantageInputs) -> object:
        return inputs.reward, {"mine": value}

    own: Any = measured
    with pytest.raises(UserError, match="estimator x returned a metric 'mine' that is"):
        estimate(own, advantage_inputs([1.0, 0.0]), "x")
