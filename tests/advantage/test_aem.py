"""AEM against the formulas written out, and the properties that it promises (invariant 5)."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the transformers extra")

from swe_aem.advantage.aem import coefficients, metrics  # noqa: E402
from swe_aem.advantage.groups import shuffled  # noqa: E402
from swe_aem.advantage.responses import entropy_metrics, responses, token_advantages  # noqa: E402

pytestmark = pytest.mark.torch

ENTROPY = st.floats(0.0, 12.0, allow_subnormal=False)
LAM = st.floats(-5.0, 5.0)


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[float], list[int]]:
    """Mean entropies of responses, and the numbers of their groups."""
    size = draw(st.integers(1, 24))
    values = draw(st.lists(ENTROPY, min_size=size, max_size=size))
    return values, draw(st.lists(st.sampled_from([-7, 0, 3, 10**12]), min_size=size, max_size=size))


def naive(values: list[float], groups: list[int], lam: float, min_range: float) -> list[float]:
    """The rule as it is written, one response at a time, in Python's float64."""
    result = []
    for value, group in zip(values, groups, strict=True):
        peers = [other for other, number in zip(values, groups, strict=True) if number == group]
        low, high = min(peers), max(peers)
        if high - low < min_range or high == low:
            result.append(1.0)
            continue
        weights = [math.exp(-lam * (other - low) / (high - low)) for other in peers]
        result.append(math.exp(-lam * (value - low) / (high - low)) / (sum(weights) / len(weights)))
    return result


def alpha_of(values: list[float], groups: list[int], dtype: Any = torch.float64, **settings: float) -> Any:
    """`coefficients` of lists."""
    return coefficients(torch.tensor(values, dtype=dtype), torch.tensor(groups), **settings)


@given(batches(), LAM, st.sampled_from([0.0, 0.1, 2.0]))
def test_vectorised_equals_naive(batch: tuple[list[float], list[int]], lam: float, min_range: float) -> None:
    alpha = alpha_of(*batch, lam=lam, min_range=min_range)
    assert alpha.tolist() == pytest.approx(naive(*batch, lam, min_range), rel=1e-9)
    single = alpha_of(*batch, dtype=torch.float32, lam=lam, min_range=min_range)
    rounded = torch.tensor(batch[0], dtype=torch.float32).double().tolist()
    assert single.tolist() == pytest.approx(naive(rounded, batch[1], lam, min_range), rel=1e-6)


@given(batches(), LAM)
def test_positive_with_mean_one_in_each_group(batch: tuple[list[float], list[int]], lam: float) -> None:
    alpha = alpha_of(*batch, lam=lam)
    assert bool((alpha > 0).all())
    for number in set(batch[1]):
        mine = alpha[torch.tensor(batch[1]) == number]
        assert float(mine.mean()) == pytest.approx(1.0, abs=1e-12)


@given(batches())
def test_exactly_one_without_modulation(batch: tuple[list[float], list[int]]) -> None:
    assert alpha_of(*batch, lam=0.0).eq(1).all()
    assert alpha_of(*batch, dtype=torch.float32, lam=0.0).eq(1).all()


@given(batches(), LAM, st.randoms())
def test_follows_a_permutation(batch: tuple[list[float], list[int]], lam: float, random: Any) -> None:
    order = list(range(len(batch[0])))
    random.shuffle(order)
    moved = alpha_of([batch[0][n] for n in order], [batch[1][n] for n in order], lam=lam)
    assert moved.tolist() == pytest.approx(alpha_of(*batch, lam=lam)[order].tolist(), rel=1e-12)


@given(batches(), st.floats(0.01, 100.0), st.floats(-5.0, 5.0))
def test_scale_and_shift_do_not_matter_without_the_gate(
    batch: tuple[list[float], list[int]], scale: float, shift: float
) -> None:
    values = [round(value, 3) for value in batch[0]]
    alpha = alpha_of(values, batch[1], min_range=0.0)
    moved = alpha_of([value * scale + shift for value in values], batch[1], min_range=0.0)
    steps = [abs(a - b) for a in values for b in values if a != b]
    if not steps or min(steps) * scale > 1e-6:
        assert moved.tolist() == pytest.approx(alpha.tolist(), rel=1e-6)


@given(batches(), LAM)
def test_confident_responses_get_more(batch: tuple[list[float], list[int]], lam: float) -> None:
    values, groups = batch
    alpha = alpha_of(values, groups, lam=lam, min_range=0.0).tolist()
    for one, mine, first in zip(values, groups, alpha, strict=True):
        for other, theirs, second in zip(values, groups, alpha, strict=True):
            if mine == theirs and one < other:
                assert first >= second if lam >= 0 else first <= second


@pytest.mark.parametrize(("gap", "gated"), [(0.0999, True), (0.1001, False), (0.0, True)])
def test_gate(gap: float, gated: bool) -> None:
    alpha = alpha_of([1.0, 1.0 + gap], [0, 0])
    assert bool(alpha.eq(1).all()) is gated


def test_known_values() -> None:
    """H~ is 0, 0.5, 1: the weights are 1, e^-0.5, e^-1."""
    weights = [1.0, math.exp(-0.5), math.exp(-1.0)]
    mean = sum(weights) / 3
    assert alpha_of([0.2, 0.4, 0.6], [5, 5, 5]).tolist() == pytest.approx([weight / mean for weight in weights])


def test_one_response_and_none() -> None:
    assert alpha_of([3.0], [0]).tolist() == [1.0]
    assert alpha_of([], []).tolist() == []


def test_metrics_by_hand() -> None:
    """Two groups, of entropies 0.2 to 0.8 and 0.5 to 0.9; short responses have the large factors."""
    alpha, entropy, tokens = [1.2, 1.0, 0.8, 1.5, 0.5], [0.2, 0.5, 0.8, 0.5, 0.9], [1.0, 2.0, 5.0, 3.0, 9.0]
    factors, entropies, lengths = (torch.tensor(one, dtype=torch.float64) for one in (alpha, entropy, tokens))
    found = metrics(factors, lengths) | entropy_metrics(entropies, torch.tensor([4, 4, 4, 0, 0]))
    assert found == pytest.approx(
        {
            "alpha_min": 0.5,
            "alpha_max": 1.5,
            "alpha_std": math.sqrt((0.04 + 0 + 0.04 + 0.25 + 0.25) / 5),
            "alpha_token_mean": (1.2 + 2.0 + 4.0 + 4.5 + 4.5) / 20,
            "unmodulated_share": 0.2,
            "response_entropy": 2.9 / 5,
            "entropy_min": 0.35,
            "entropy_max": 0.85,
            "entropy_range": 0.5,
            "responses": 5.0,
        }
    )
    nothing = torch.zeros(0, dtype=torch.float64)
    assert metrics(nothing, nothing) == entropy_metrics(nothing, nothing.long()) == {}


@pytest.mark.parametrize(
    ("values", "groups", "settings", "message"),
    [
        ([math.nan, 1.0], [0, 0], {}, "not finite"),
        ([math.inf, 1.0], [0, 0], {}, "not finite"),
    ],
)
def test_refused(values: list[float], groups: list[int], settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        alpha_of(values, groups, **settings)


def test_no_gradient_flows() -> None:
    values = torch.tensor([0.1, 0.9], requires_grad=True)
    assert not coefficients(values, torch.tensor([0, 0])).requires_grad


@given(batches(), st.integers(0, 99))
def test_shuffled_keeps_each_groups_factors(batch: tuple[list[float], list[int]], seed: int) -> None:
    alpha, group = alpha_of(*batch), torch.tensor(batch[1])
    dealt = shuffled(alpha, group, torch.Generator().manual_seed(seed))
    for number in set(batch[1]):
        assert sorted(dealt[group == number].tolist()) == sorted(alpha[group == number].tolist())


def test_shuffled_moves_factors() -> None:
    alpha, group = torch.arange(64.0), torch.arange(64) % 2
    dealt = shuffled(alpha, group, torch.Generator().manual_seed(0))
    assert int((dealt != alpha).sum()) > 32


@st.composite
def rows(draw: st.DrawFn) -> tuple[list[list[float]], list[list[int]]]:
    """(B, T) entropies and response numbers: ragged, with holes, adjacent responses, rows of none."""
    height, width = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    values = st.lists(ENTROPY, min_size=width, max_size=width)
    spans = st.lists(st.sampled_from([-1, -1, 0, 1, 5]), min_size=width, max_size=width)
    return [draw(values) for _ in range(height)], [draw(spans) for _ in range(height)]


@given(rows())
def test_mean_entropies_of_ragged_spans(batch: tuple[list[list[float]], list[list[int]]]) -> None:
    values, spans = batch
    found = responses(torch.tensor(values), torch.tensor(spans))
    expected = {}
    for row, (numbers, entropies) in enumerate(zip(spans, values, strict=True)):
        for number in sorted({number for number in numbers if number >= 0}):
            mine = [entropy for entropy, other in zip(entropies, numbers, strict=True) if other == number]
            expected[row, number] = sum(mine) / len(mine)
    assert found.mean_entropy.tolist() == pytest.approx(list(expected.values()), rel=1e-6, abs=1e-12)
    assert found.row.tolist() == [row for row, _ in expected]
    places = {place: index for index, place in enumerate(expected)}
    assert found.of_token.tolist() == [
        [places.get((row, number), -1) for number in numbers] for row, numbers in enumerate(spans)
    ]


@given(rows(), LAM)
def test_signs_stay_and_a_responses_tokens_share_one_factor(
    batch: tuple[list[list[float]], list[list[int]]], lam: float
) -> None:
    found = responses(torch.tensor(batch[0]), torch.tensor(batch[1]))
    alpha = coefficients(found.mean_entropy, torch.zeros_like(found.row), lam=lam)
    base = torch.linspace(-1, 1, len(batch[0]))
    advantages = token_advantages(base, alpha, found.of_token)
    assert advantages.shape == found.of_token.shape
    assert torch.equal(advantages.sign(), base.sign().unsqueeze(1).expand_as(advantages))
    for index in range(alpha.numel()):
        tokens = advantages[found.of_token == index]
        assert bool((tokens == tokens[0]).all())
    assert torch.equal(advantages[found.of_token < 0], base.unsqueeze(1).expand_as(advantages)[found.of_token < 0])


def test_all_masked() -> None:
    found = responses(torch.full((2, 3), math.nan), torch.full((2, 3), -1))
    assert found.mean_entropy.numel() == 0
    assert (
        token_advantages(torch.tensor([1.0, -1.0]), coefficients(found.mean_entropy, found.row), found.of_token)
        .eq(torch.tensor([[1.0], [-1.0]]))
        .all()
    )


def test_entropies_outside_responses_are_not_looked_at_and_nan_inside_is_refused() -> None:
    entropy = torch.tensor([[math.nan, 1.0, 2.0]])
    assert responses(entropy, torch.tensor([[-1, 0, 0]])).mean_entropy.tolist() == [1.5]
    with pytest.raises(ValueError, match="not finite"):
        responses(entropy, torch.tensor([[0, 0, 0]]))
    with pytest.raises(ValueError, match="the same"):
        responses(entropy, torch.tensor([[0, 0]]))
