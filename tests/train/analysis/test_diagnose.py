"""The diagnostics of AEM: entropies in closed form, Monte Carlo against enumeration, signs known by construction."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the transformers extra")
pytest.importorskip("transformers", reason="needs the transformers extra")

from swe_aem.advantage.config import AEMConfig  # noqa: E402
from swe_aem.advantage.diagnostics import pearson, sign_agreement  # noqa: E402
from swe_aem.core import OUTCOME_TABLE, Outcome, Response, SamplingParams, Trajectory  # noqa: E402
from swe_aem.errors import UserError  # noqa: E402
from swe_aem.policy import tokenizer_fingerprint  # noqa: E402
from swe_aem.policy.sampling import BatchRow, sample_batch  # noqa: E402
from swe_aem.rollout.config import RolloutConfig  # noqa: E402
from swe_aem.rollout.manifest import claim  # noqa: E402
from swe_aem.store import Store  # noqa: E402
from swe_aem.testing.builders import make_trajectory  # noqa: E402
from swe_aem.testing.steps import EOS, VOCABULARY, tiny_model, tiny_tokenizer  # noqa: E402
from swe_aem.train.analysis.diagnose import diagnose, relation  # noqa: E402
from swe_aem.train.analysis.diagnosis import DiagnoseConfig, DiagnosisResult  # noqa: E402
from swe_aem.train.analysis.scoring import context_tokens, score  # noqa: E402
from swe_aem.train.analysis.stored import TrajectoryTensors, read_trajectories  # noqa: E402

pytestmark = pytest.mark.torch

OBSERVED = (7, 8, 9)
FEW = DiagnoseConfig(states=4, samples=8, max_tokens=6, advantage=AEMConfig(min_range=0.0))


def flat(model: Any) -> Any:
    """The model with all tokens alike."""
    with torch.no_grad():
        model.lm_head.weight.zero_()
    return model


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Directories of a sharp policy, the same gone flat, and policies that do not fit its stores."""
    folder = tmp_path_factory.mktemp("models")
    made = {
        "sharp": tiny_model(sharpness=6.0),
        "flat": flat(tiny_model()),
        "few": tiny_model(vocab_size=16),
        "short": tiny_model(max_position_embeddings=12),
        "tiny": tiny_model(max_position_embeddings=4),
    }
    for name, model in made.items():
        model.save_pretrained(folder / name)
        tiny_tokenizer().save_pretrained(folder / name)
    return {name: folder / name for name in made}


def rolled_out(
    model: Any, task: str, sample: int, outcome: Outcome, *, turns: int = 2, version: int = 0, temperature: float = 1.0
) -> Trajectory:
    """A prompt by the task, then responses that the model samples, each followed by an observation."""
    ids = [5, 20 + ord(task[0]) % 32]
    responses = []
    for turn in range(turns):
        seed = 1000 * ord(task[0]) + 10 * sample + turn
        params = SamplingParams(max_tokens=6, temperature=temperature, stop_token_ids=(EOS, 2), seed=seed)
        row = BatchRow(list(ids), params)
        sample_batch(model, [row])
        responses.append(
            Response(
                start=len(ids),
                end=len(ids) + len(row.token_ids),
                logprobs=tuple(row.logprobs),
                version=version,
                finish_reason="stop" if row.stopped else "length",
                sample_s=0.1,
            )
        )
        ids += [*row.token_ids, *OBSERVED]
    return make_trajectory(
        task,
        sample,
        token_ids=tuple(ids),
        responses=tuple(responses),
        outcome=outcome,
        reward=float(outcome is Outcome.RESOLVED) if OUTCOME_TABLE[outcome].in_baseline else None,
    )


def name_it(directory: Path, model: Path, config: RolloutConfig | None = None) -> None:
    """Make the ids of the store those of the model's tokenizer; without a configuration a script made them."""
    config = config or RolloutConfig(agent="demo", group_size=8)
    claim(directory, config, [], stored_tasks=[], tokenizer=tokenizer_fingerprint(str(model)))


@pytest.fixture
def fill(tmp_path: Path, models: dict[str, Path]) -> Callable[..., Path]:
    """Makes a store of three groups: one with both rewards and a fault of ours, one of failures, one sampled by the
    next version."""

    def make(*, temperature: float = 1.0) -> Path:
        directory = tmp_path / "store"
        model = tiny_model(sharpness=6.0).eval()
        plan = [
            ("a", 0, Outcome.RESOLVED, 0),
            ("a", 1, Outcome.UNRESOLVED, 0),
            ("a", 2, Outcome.INFRASTRUCTURE, 0),
            ("a", 3, Outcome.TURN_LIMIT, 0),
            ("b", 0, Outcome.UNRESOLVED, 0),
            ("b", 1, Outcome.EMPTY_PATCH, 0),
            ("c", 0, Outcome.RESOLVED, 1),
            ("c", 1, Outcome.RESOLVED, 1),
            ("c", 2, Outcome.UNRESOLVED, 1),
        ]
        with Store(directory).writer() as writer:
            native: Any = {"temperature": temperature, "max_response_tokens": 6}
            config = RolloutConfig(agent="native", policy=str(models["sharp"]), group_size=4, native=native)
            name_it(directory, models["sharp"], config)
            for task, sample, outcome, version in plan:
                writer.append(rolled_out(model, task, sample, outcome, version=version, temperature=temperature))
        return directory

    return make


def episode(token_ids: list[int], *spans: tuple[int, int]) -> TrajectoryTensors:
    """An episode that nothing but scoring sees."""
    logprobs = tuple(torch.zeros(end - start) for start, end in spans)
    ids = torch.tensor(token_ids, dtype=torch.int32)
    return TrajectoryTensors("t", 0, 0, 0.0, None, 1.0, ids, spans, (0,) * len(spans), logprobs, frozenset())


def test_entropies_of_a_flat_model_are_ln_v() -> None:
    ((first, second),) = score(flat(tiny_model()).eval(), [episode([3, 4, 5, 6, 7, 8], (1, 3), (4, 6))])
    for scored in (first, second):
        assert scored.entropy.tolist() == pytest.approx([math.log(VOCABULARY)] * 2)
        assert scored.logprob.tolist() == pytest.approx([-math.log(VOCABULARY)] * 2)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize(("batch_tokens", "segment_logits"), [(10_000, 2**26), (60, 2**26), (60, 5 * VOCABULARY)])
def test_batches_and_segments_change_nothing(temperature: float, batch_tokens: int, segment_logits: int) -> None:
    model = tiny_model(sharpness=6.0).eval()
    dice = torch.Generator().manual_seed(0)
    ids = [torch.randint(2, VOCABULARY, (length,), generator=dice).tolist() for length in (9, 30, 17, 24)]
    trajectories = [episode(one, (2, 5), (len(one) - 3, len(one))) for one in ids] + [episode([])]
    found = score(
        model, trajectories, temperature=temperature, batch_tokens=batch_tokens, segment_logits=segment_logits
    )
    assert found[-1] == []
    for one, scored in zip(trajectories[:-1], found, strict=False):
        with torch.no_grad():
            logits = model(input_ids=one.token_ids.long().unsqueeze(0)).logits[0].double() / temperature
        expected = torch.distributions.Categorical(logits=logits)
        for (start, end), response in zip(one.spans, scored, strict=True):
            entropies = expected.entropy()[start - 1 : end - 1]
            tokens = one.token_ids[start:end].long().unsqueeze(1)
            logprobs = expected.logits[start - 1 : end - 1].gather(1, tokens).squeeze(1)
            assert response.entropy.tolist() == pytest.approx(entropies.tolist(), abs=1e-4)
            assert response.logprob.tolist() == pytest.approx(logprobs.tolist(), abs=1e-4)


def test_what_sampled_a_store_has_its_logprobs(fill: Callable[..., Path], models: dict[str, Path]) -> None:
    report = diagnose(fill(temperature=0.5), models["sharp"], FEW)
    assert report.diagnosis.temperature == 0.5
    assert report.diagnosis.logprob_gap < 1e-4
    assert diagnose(report_store(report), models["flat"], FEW).diagnosis.logprob_gap > 0.5


def report_store(report: DiagnosisResult) -> Path:
    """The store that was diagnosed."""
    return Path(report.diagnosis.store)


def test_shares(fill: Callable[..., Path], models: dict[str, Path]) -> None:
    found = diagnose(fill(), models["sharp"], FEW).diagnosis
    assert (found.trajectories, found.responses, found.too_long) == (7, 14, 0)
    shares = [(one.version, one.trajectories, one.positive) for one in found.positive]
    assert shares == [(0, 4, 1), (1, 3, 2)]
    groups = [(one.task_id, one.trajectories, one.positive, one.zero_variance) for one in found.groups]
    assert groups == [("a", 2, 1, False), ("b", 2, 0, True), ("c", 3, 2, False)]
    assert found.foretold_up + found.foretold_down == 10  # the group without advantage has none


def test_one_version(fill: Callable[..., Path], models: dict[str, Path]) -> None:
    store = fill()
    found = diagnose(store, models["sharp"], FEW.model_copy(update={"version": 1}))
    assert {row.task_id for row in found.responses} == {"c"}
    with pytest.raises(UserError, match="are all of version 9; it has responses of "):
        diagnose(store, models["sharp"], FEW.model_copy(update={"version": 9}))


def test_what_is_foretold_by_hand(fill: Callable[..., Path], models: dict[str, Path]) -> None:
    rows = [row for row in diagnose(fill(), models["sharp"], FEW).responses if row.task_id == "c"]
    assert [row.base for row in rows] == pytest.approx([0.5, 0.5, 0.5, 0.5, -1.0, -1.0])
    low, high = min(row.entropy for row in rows), max(row.entropy for row in rows)
    weights = [math.exp(-(row.entropy - low) / (high - low)) for row in rows]
    mean = sum(weights) / len(weights)
    assert [row.alpha for row in rows] == pytest.approx([weight / mean for weight in weights])
    assert [row.foretold for row in rows] == pytest.approx([row.base * (1 - row.alpha) for row in rows])


def test_change_is_known_where_the_policy_went_flat(fill: Callable[..., Path], models: dict[str, Path]) -> None:
    """Every entropy rises to ln V, so signs agree exactly where that is foretold: where A(α-1) is below 0."""
    report = diagnose(fill(), models["sharp"], FEW, after_directory=models["flat"])
    for row in report.responses:
        assert row.change == pytest.approx(math.log(VOCABULARY) - row.entropy, abs=1e-5)
    responses, groups, states = report.diagnosis.change_relations
    assert (responses.agree, responses.signs) == (report.diagnosis.foretold_up, 10)
    assert responses.agree == sum(row.base * (row.alpha - 1) < 0 for row in report.responses)
    sums = [sum(row.foretold for row in report.responses if row.task_id == task) for task in "ac"]
    assert (groups.points, groups.agree, groups.r) == (2, sum(one > 0 for one in sums), None)
    assert states.agree == sum(row.base * row.relative > 0 for row in report.states)
    back = diagnose(report_store(report), models["sharp"], FEW, after_directory=models["sharp"])
    assert back.diagnosis.change == 0.0
    assert [one.signs for one in back.diagnosis.change_relations] == [0, 0, 0]


def test_the_factor_is_held_against_entropy_minus_surprisal(fill: Callable[..., Path], models: dict[str, Path]) -> None:
    """α-1 stands for H-S; the rows keep S-H."""
    report = diagnose(fill(), models["sharp"], FEW.model_copy(update={"states": 6}))
    alpha = torch.tensor([row.alpha - 1 for row in report.states])
    whole, each = report.diagnosis.state_relations
    assert (whole.name, each.name) == ("H-S of the response", "H-S per token")
    for found, column in ((whole, "relative"), (each, "relative_per_token")):
        relative = torch.tensor([getattr(row, column) for row in report.states])
        assert found.r == pytest.approx(pearson(alpha, -relative), abs=1e-6)
        assert (found.agree, found.signs) == sign_agreement(alpha, -relative)
    for row in report.states:
        assert row.relative == pytest.approx(row.surprisal - row.response_entropy)


def test_a_flat_policy_is_unmodulated(fill: Callable[..., Path], models: dict[str, Path]) -> None:
    config = DiagnoseConfig(states=4, samples=8)
    report = diagnose(fill(), models["flat"], config)
    assert report.diagnosis.unmodulated == report.diagnosis.responses == 14
    assert report.states == []
    assert [(one.points, one.r, one.signs) for one in report.diagnosis.state_relations] == [(0, None, 0)] * 2


def test_monte_carlo_finds_the_response_entropy(tmp_path: Path) -> None:
    """Responses of at most two tokens of eight: H_resp = H(first) + sum over first tokens that go on of p H(second)."""
    model = tiny_model(vocab_size=8, sharpness=6.0).eval()
    model.save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    with Store(tmp_path / "store").writer() as writer:
        for sample in range(3):
            writer.append(small(sample))
    name_it(tmp_path / "store", tmp_path / "model")
    settings = DiagnoseConfig(states=6, samples=1500, max_tokens=2, advantage=AEMConfig(min_range=0.0))
    report = diagnose(tmp_path / "store", tmp_path / "model", settings)
    stops = report.diagnosis.stop_token_ids
    assert stops == (EOS, 6)  # the model's, and what ended a stored response
    assert len(report.states) == 1  # the members share their only state
    (state,) = report.states
    prompt = [3, 4]
    one = [score(model, [episode([*prompt, token], (2, 3))])[0][0] for token in range(8)]
    two = [score(model, [episode([*prompt, token, 0], (3, 4))])[0][0] for token in range(8)]
    exact = float(one[0].entropy) + sum(
        math.exp(float(first.logprob)) * float(second.entropy)
        for token, (first, second) in enumerate(zip(one, two, strict=True))
        if token not in stops
    )
    assert state.response_entropy_se < 0.05
    assert state.response_entropy == pytest.approx(exact, abs=4 * state.response_entropy_se)
    stored = small(state.sample)
    (scored,) = score(model, [episode(list(stored.token_ids), (2, len(stored.token_ids)))])[0]
    assert state.tokens == 2
    surprisal = -float(scored.logprob[:2].sum())  # a longer response counts up to --max-tokens
    assert state.surprisal == pytest.approx(surprisal, abs=1e-5)
    assert state.relative == pytest.approx(surprisal - state.response_entropy)


def small(sample: int) -> Trajectory:
    """One response of three tokens to one prompt."""
    ids = (3, 4, 2, 5 + sample % 2, 6)
    response = Response(start=2, end=5, logprobs=(-1.0,) * 3, version=0, finish_reason="stop", sample_s=0.1)
    return Trajectory(
        task_id="t",
        sample=sample,
        agent="native",
        model="m",
        token_ids=ids,
        responses=(response,),
        outcome=Outcome.RESOLVED if sample else Outcome.UNRESOLVED,
        reward=float(sample > 0),
    )


def test_states_are_distinct_and_repeat_with_the_seed(fill: Callable[..., Path], models: dict[str, Path]) -> None:
    store = fill()
    many = FEW.model_copy(update={"states": 64})
    first, again = diagnose(store, models["sharp"], many), diagnose(store, models["sharp"], many)
    assert first == again
    turns = [(row.task_id, row.response) for row in first.states]
    assert sorted(turns) == [(task, turn) for task in "abc" for turn in (0, 1)]
    other = diagnose(store, models["sharp"], many.model_copy(update={"seed": 1}))
    assert other.states != first.states
    assert all(0 <= row.cut <= row.samples == 8 for row in first.states)


@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_the_derivation(advantage: float) -> None:
    """dH = eta A (S - H) for a natural-gradient step on each action of a state with four."""
    eta = 1e-6
    policy = torch.tensor([0.7, 0.2, 0.08, 0.02], dtype=torch.float64)
    entropy = torch.special.entr(policy).sum()
    for action, probability in enumerate(policy):
        step = torch.full_like(policy, -1.0)
        step[action] += 1 / probability
        moved = torch.softmax(policy.log() + eta * advantage * step, 0)
        change = torch.special.entr(moved).sum() - entropy
        assert float(change) == pytest.approx(float(eta * advantage * (-probability.log() - entropy)), rel=1e-3)


def test_a_constructed_agreement() -> None:
    x = torch.tensor([1.0, -1.0, 2.0, 0.0, -3.0], dtype=torch.float64)
    found = relation("known", x, torch.tensor([2.0, -2.0, 4.0, 100.0, -6.0]).double(), torch.arange(5))
    assert (found.points, found.agree, found.signs) == (4, 4, 4)
    assert found.r == pytest.approx(1.0)
    against = relation("known", x, torch.tensor([-2.0, 2.0, 1.0, 100.0, 6.0]).double(), torch.arange(5))
    assert (against.agree, against.signs) == (1, 4)


def test_long_trajectories_are_counted_and_left_out(fill: Callable[..., Path], models: dict[str, Path]) -> None:
    store = fill()
    with Store(store).writer() as writer:
        for sample in range(2):  # a prompt of 2 and at most 6 tokens of response
            model = tiny_model(sharpness=6.0).eval()
            writer.append(rolled_out(model, "d", sample, Outcome.UNRESOLVED, turns=1))
    lengths = [one.token_ids.numel() for one in read_trajectories(store) if one.spans]
    found = diagnose(store, models["short"], FEW).diagnosis
    assert 0 < found.too_long == sum(length > 12 for length in lengths) < 9
    assert found.trajectories == sum(one.trajectories for one in found.positive) == 9
    assert found.responses >= 2
    assert context_tokens(tiny_model()) == 256
    with pytest.raises(UserError, match="longer than the 4 positions"):
        diagnose(store, models["tiny"], FEW)
    with pytest.raises(UserError, match="12 positions, fewer"):
        diagnose(store, models["sharp"], FEW, after_directory=models["short"])


def test_a_model_of_another_tokenizer_is_refused_before_and_after(
    fill: Callable[..., Path], models: dict[str, Path], tmp_path: Path
) -> None:
    store = fill()
    other = shutil.copytree(models["sharp"], tmp_path / "other")
    shutil.copy("configs/quickstart/policy/tokenizer.json", other / "tokenizer.json")
    for model, after in ((other, None), (models["sharp"], other)):
        with pytest.raises(UserError, match=rf"ids of the tokenizer .*/sharp\), and that of {other} is"):
            diagnose(store, model, FEW, after_directory=after)
    (other / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"no tokenizer\.json there"):
        diagnose(store, other, FEW)


def test_what_cannot_serve(fill: Callable[..., Path], models: dict[str, Path], tmp_path: Path) -> None:
    store = fill()
    with pytest.raises(UserError, match="no model there"):
        diagnose(store, tmp_path / "nowhere", FEW)
    with pytest.raises(UserError, match="no model there"):
        diagnose(store, models["sharp"], FEW, after_directory=tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"token id \d+, but the model .*few has 16 ids"):
        diagnose(store, models["few"], FEW)
    with pytest.raises(UserError, match="no such directory"):
        diagnose(tmp_path / "empty", models["sharp"], FEW)
    with Store(tmp_path / "faults").writer() as writer:
        writer.append(rolled_out(None, "a", 0, Outcome.INFRASTRUCTURE, turns=0))
    name_it(tmp_path / "faults", models["sharp"])
    with pytest.raises(UserError, match="no trained response"):
        diagnose(tmp_path / "faults", models["sharp"], FEW)
