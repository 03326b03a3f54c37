"""The diagnostics of AEM (arXiv 2605.00425) on a store and a policy: does the factor point where the theory says?

Any estimator can be asked: alpha is what it multiplies a response's base advantage by (`stored.modulation`).

A natural-gradient step on a sampled response a moves log pi(b|s) by eta A (1[b=a] / pi(a|s) - 1). Put into
dH = -sum pi log pi dlog pi that is dH_resp(s) = eta A (S - H_resp(s)), with S = -log pi(a|s): of the same sign as A for
a surprising response, of the other sign for one that the policy was sure of.

H_resp cannot be computed. Along a response the expected surprisal of a token is its entropy, so responses of low
entropy have S below H_resp, and alpha - 1, large for them, stands for H_resp - S. What AEM adds to a step is
eta A (alpha - 1) (S - H_resp): A (alpha - 1) > 0 foretells that entropy falls, < 0 that it rises. Confident failures
are pushed down harder and entropy rises, confident successes are sharpened and it falls. Agreement here counts that
way throughout, as the paper's r and signs are read (`diagnosis.PAPER_R`), and nothing is turned around to fit.

Three questions, in this order: how many trajectories have a positive advantage; which sign A (alpha - 1) has, and, with
the policy after training, whether entropy moved as foretold; whether alpha - 1 goes with Monte Carlo H_resp - S, the
mean S of fresh responses from a state minus S of the stored one. Entropies are exact, from one forward pass.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from swe_aem.advantage.config import label_of
from swe_aem.advantage.diagnostics import pearson, pearson_interval, sign_agreement
from swe_aem.advantage.estimators import base_advantages, estimator_of
from swe_aem.core import SamplingParams
from swe_aem.errors import UserError
from swe_aem.policy import load_tokenizer
from swe_aem.policy.sampling import BatchRow, sample_batch
from swe_aem.rollout import read_manifest, require_tokenizer
from swe_aem.train.analysis.diagnosis import (
    DiagnoseConfig,
    Diagnosis,
    DiagnosisResult,
    GroupShare,
    Relation,
    ResponseRow,
    StateRow,
    VersionShare,
)
from swe_aem.train.analysis.scoring import ScoredResponse, context_tokens, require_vocabulary, score
from swe_aem.train.analysis.stored import TrajectoryTensors, inputs_of, modulation, read_trajectories
from swe_aem.train.models import load_model

Progress = Callable[[str, int, int], None]
"""Called with the name of a part of the work, how much of it is done, and how much there is."""

_SAMPLING_TOKENS = 32_768
"""Tokens, prompts included, that a KV cache is kept for while states are sampled."""


class _Measured(NamedTuple):
    """The N trained responses that fit the context of the model."""

    trajectory: list[TrajectoryTensors]
    turn: list[int]
    scored: list[ScoredResponse]
    group: Tensor
    """(N,) long."""
    entropy: Tensor
    """(N,) float64: mean over a response's tokens."""
    base: Tensor
    """(N,) float64: base advantages times weights."""
    alpha: Tensor
    """(N,) float64."""


def diagnose(
    directory: Path,
    model_directory: Path,
    config: DiagnoseConfig,
    *,
    after_directory: Path | None = None,
    progress: Progress = lambda what, done, total: None,
) -> DiagnosisResult:
    """All three diagnostics of the store in `directory`, with models in float32, one at a time, on a GPU if there is
    one. Raises `UserError` for a store or a model that cannot serve."""
    for path in filter(None, (model_directory, after_directory)):
        if not (path / "config.json").is_file():
            raise UserError(f"{path}: no model there; name a directory with config.json and safetensors")
        require_tokenizer(directory, str(path))
    trajectories = read_trajectories(
        directory,
        version=config.version,
        compact_filtering=config.compact_filtering,
        limits_reward=config.limits_reward,
    )
    run = _sampling_of(directory, trajectories, config)
    base = _base(trajectories, config)
    model = _open(model_directory, trajectories)
    fits = [0 < one.token_ids.numel() <= context_tokens(model) for one in trajectories]
    fitting = [one for one, fit in zip(trajectories, fits, strict=True) if fit]
    if not fitting:
        raise UserError(
            f"every trained trajectory of {directory} is longer than the {context_tokens(model)} positions of "
            f"{model_directory}; name the model that sampled it"
        )
    scored = _score(model, fitting, run.temperature, "entropies", progress)
    measured = _measure(trajectories, fits, scored, config)
    stops = _stop_tokens(model, model_directory, trajectories)
    drawn = _draw(measured, config)
    states = []
    for number, index in enumerate(drawn):
        progress("states", number, len(drawn))
        states.append(_state(model, measured, index, number, run, stops, config))
    progress("states", len(drawn), len(drawn))
    del model
    change = None
    if after_directory is not None:
        change = _entropies_after(after_directory, fitting, run.temperature, progress) - measured.entropy
        states = [row.model_copy(update={"change": float(change[n])}) for row, n in zip(states, drawn, strict=True)]
    foretold = measured.base * (1 - measured.alpha)
    trained = [(one, value) for one, value in zip(trajectories, base.tolist(), strict=True) if one.spans]
    diagnosis = Diagnosis(
        store=str(directory),
        model=str(model_directory),
        after=None if after_directory is None else str(after_directory),
        settings=config,
        temperature=run.temperature,
        max_tokens=run.max_tokens,
        stop_token_ids=stops,
        trajectories=len(trained),
        too_long=len(trained) - len(fitting),
        positive=_by_version(trained),
        groups=_by_group(trajectories, trained),
        responses=len(measured.turn),
        unmodulated=int((measured.alpha == 1).sum()),
        foretold_up=int((foretold > 0).sum()),
        foretold_down=int((foretold < 0).sum()),
        logprob_gap=_logprob_gap(measured),
        change=None if change is None else float(change.mean()),
        change_relations=() if change is None else _change_relations(measured, foretold, change, drawn, states, config),
        states=len(states),
        cut_share=sum(row.cut for row in states) / sum(row.samples for row in states) if states else None,
        state_relations=_state_relations(measured, drawn, states, config),
    )
    return DiagnosisResult(diagnosis, _response_rows(measured, foretold, change), states)


def relation(name: str, x: Tensor, y: Tensor, cluster: Tensor, *, seed: int = 0) -> Relation:
    """How `x` predicts `y`, both (N,) float, where `x` is not 0; `cluster` is (N,) long, what the bootstrap draws."""
    used = x != 0
    x, y, cluster = x[used], y[used], cluster[used]
    r, low, high = math.nan, math.nan, math.nan
    if x.numel() > 2:  # two points always lie on a line
        r = pearson(x, y)
        low, high = pearson_interval(x, y, cluster, torch.Generator().manual_seed(seed))
    agree, signs = sign_agreement(x, y)
    return Relation(
        name=name, points=x.numel(), r=_known(r), r_low=_known(low), r_high=_known(high), agree=agree, signs=signs
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


class _Sampling(NamedTuple):
    """How the store's responses were sampled, as far as its manifest tells."""

    temperature: float
    max_tokens: int
    context_tokens: int | None


def _sampling_of(directory: Path, trajectories: Sequence[TrajectoryTensors], config: DiagnoseConfig) -> _Sampling:
    manifest = read_manifest(directory)
    if manifest is None or manifest.config.scripted:
        longest = max(end - start for one in trajectories for start, end in one.spans)
        return _Sampling(1.0, config.max_tokens or longest, None)
    native = manifest.config.native
    # Greedy sampling records the log-probabilities of the unscaled distribution.
    return _Sampling(
        native.temperature or 1.0, config.max_tokens or native.max_response_tokens, native.max_context_tokens
    )


def _open(directory: Path, trajectories: Sequence[TrajectoryTensors]) -> Any:
    model = load_model(directory).eval()
    require_vocabulary(model, trajectories, str(directory))
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def _score(
    model: Any, trajectories: Sequence[TrajectoryTensors], temperature: float, what: str, progress: Progress
) -> list[list[ScoredResponse]]:
    progress(what, 0, len(trajectories))
    return score(
        model, trajectories, temperature=temperature, done=lambda count: progress(what, count, len(trajectories))
    )


def _base(trajectories: Sequence[TrajectoryTensors], config: DiagnoseConfig) -> Tensor:
    """(M,) float64: base advantages of all trajectories' first tokens, times their weights as in training."""
    column = torch.zeros(1)
    inputs = inputs_of(trajectories, [[(column, column)] for _ in trajectories])
    return base_advantages(estimator_of(config.advantage), inputs)[:, 0] * inputs.weight


def _measure(
    trajectories: Sequence[TrajectoryTensors],
    fits: Sequence[bool],
    scored: Sequence[Sequence[ScoredResponse]],
    config: DiagnoseConfig,
) -> _Measured:
    """The responses of the trajectories that fit, of which `scored` has those; all count in the baselines."""
    rest = iter(scored)
    every = [next(rest) if fit else [] for fit in fits]
    inputs = inputs_of(trajectories, [[(one.entropy, one.logprob) for one in several] for several in every])
    found = modulation(estimator_of(config.advantage), inputs, label_of(config.advantage))
    places = [(row, turn) for row, several in enumerate(every) for turn in range(len(several))]
    row = torch.tensor([row for row, _ in places])
    return _Measured(
        trajectory=[trajectories[row] for row, _ in places],
        turn=[turn for _, turn in places],
        scored=[every[row][turn] for row, turn in places],
        group=inputs.group[row],
        entropy=_mean_entropies(scored),
        base=found.base,
        alpha=found.factor,
    )


def _entropies_after(
    directory: Path, trajectories: Sequence[TrajectoryTensors], temperature: float, progress: Progress
) -> Tensor:
    """(N,) float64: mean entropies of the same responses under a later state of the model."""
    model = _open(directory, trajectories)
    if context_tokens(model) < max(one.token_ids.numel() for one in trajectories):
        raise UserError(
            f"{directory} has {context_tokens(model)} positions, fewer than the model before; name a later state of "
            "the same model"
        )
    return _mean_entropies(_score(model, trajectories, temperature, "entropies after", progress))


def _mean_entropies(scored: Sequence[Sequence[ScoredResponse]]) -> Tensor:
    """(N,) float64."""
    means = [float(one.entropy.double().mean()) for several in scored for one in several]
    return torch.tensor(means, dtype=torch.float64)


def _stop_tokens(model: Any, directory: Path, trajectories: Sequence[TrajectoryTensors]) -> tuple[int, ...]:
    """What ends a sampled response: what the model and its tokenizer say, and what ended the stored ones."""
    declared = getattr(model.generation_config, "eos_token_id", None)
    stops = set(declared if isinstance(declared, list) else [] if declared is None else [declared])
    with suppress(UserError):  # a tokenizer that an agent could not use
        eos = load_tokenizer(str(directory)).eos_token_id
        stops |= set() if eos is None else {eos}
    return tuple(sorted(stops.union(*(one.stops for one in trajectories))))


def _draw(measured: _Measured, config: DiagnoseConfig) -> list[int]:
    """Responses whose states are sampled from: modulated ones, one for each turn of a group, since members of a group
    share the state of their first turn."""
    generator = torch.Generator().manual_seed(config.seed)
    seen: dict[tuple[int, int], int] = {}
    for index in torch.randperm(len(measured.turn), generator=generator).tolist():
        if measured.alpha[index] != 1:
            seen.setdefault((int(measured.group[index]), measured.turn[index]), index)
    return list(seen.values())[: config.states]


def _state(
    model: Any,
    measured: _Measured,
    index: int,
    number: int,
    run: _Sampling,
    stops: tuple[int, ...],
    config: DiagnoseConfig,
) -> StateRow:
    """Sample a stored response's state again; `number` counts states, which gives each a seed of its own."""
    trajectory, turn, scored = measured.trajectory[index], measured.turn[index], measured.scored[index]
    prompt = trajectory.token_ids[: trajectory.spans[turn][0]].tolist()
    context = min(context_tokens(model), run.context_tokens or context_tokens(model))
    max_tokens = max(1, min(run.max_tokens, context - len(prompt)))
    rows = [
        BatchRow(
            prompt,
            SamplingParams(
                max_tokens=max_tokens,
                temperature=run.temperature,
                stop_token_ids=stops,
                seed=(config.seed * 1_000_003 + number) * 65_537 + sample,
            ),
        )
        for sample in range(config.samples)
    ]
    together = max(1, _SAMPLING_TOKENS // (len(prompt) + max_tokens))
    for first in range(0, len(rows), together):
        sample_batch(model, rows[first : first + together])
    surprisal = torch.tensor([-math.fsum(row.logprobs) for row in rows], dtype=torch.float64)
    lengths = torch.tensor([len(row.token_ids) for row in rows])
    stored = -scored.logprob[:max_tokens].double()
    return StateRow(
        task_id=trajectory.task_id,
        sample=trajectory.sample,
        response=turn,
        prompt_tokens=len(prompt),
        tokens=stored.numel(),
        max_tokens=max_tokens,
        samples=len(rows),
        cut=sum(not row.stopped for row in rows),
        base=float(measured.base[index]),
        alpha=float(measured.alpha[index]),
        surprisal=float(stored.sum()),
        response_entropy=float(surprisal.mean()),
        response_entropy_se=float(surprisal.std()) / math.sqrt(len(rows)),
        relative=float(stored.sum() - surprisal.mean()),
        relative_per_token=float(stored.mean() - (surprisal / lengths).mean()),
    )


def _by_version(trained: Sequence[tuple[TrajectoryTensors, float]]) -> tuple[VersionShare, ...]:
    everyone = Counter(one.versions[0] for one, _ in trained)
    positive = Counter(one.versions[0] for one, advantage in trained if advantage > 0)
    return tuple(
        VersionShare(version=version, trajectories=count, positive=positive[version])
        for version, count in sorted(everyone.items())
    )


def _by_group(
    trajectories: Sequence[TrajectoryTensors], trained: Sequence[tuple[TrajectoryTensors, float]]
) -> tuple[GroupShare, ...]:
    rewards: dict[int, set[float]] = {}
    for one in trajectories:
        rewards.setdefault(one.group, set()).update([] if math.isnan(one.reward) else [one.reward])
    members: dict[int, list[tuple[TrajectoryTensors, float]]] = {}
    for one, advantage in trained:
        members.setdefault(one.group, []).append((one, advantage))
    return tuple(
        GroupShare(
            task_id=found[0][0].task_id,
            first_sample=found[0][0].sample,
            trajectories=len(found),
            positive=sum(advantage > 0 for _, advantage in found),
            zero_variance=len(rewards[group]) == 1,
        )
        for group, found in members.items()
    )


def _logprob_gap(measured: _Measured) -> float:
    stored = torch.cat([one.logprobs[turn] for one, turn in zip(measured.trajectory, measured.turn, strict=True)])
    return float((stored - torch.cat([one.logprob for one in measured.scored])).abs().double().mean())


def _response_rows(measured: _Measured, foretold: Tensor, change: Tensor | None) -> list[ResponseRow]:
    return [
        ResponseRow(
            task_id=trajectory.task_id,
            sample=trajectory.sample,
            response=turn,
            version=trajectory.versions[turn],
            tokens=scored.logprob.numel(),
            entropy=float(measured.entropy[n]),
            surprisal=-float(scored.logprob.double().mean()),
            base=float(measured.base[n]),
            alpha=float(measured.alpha[n]),
            foretold=float(foretold[n]),
            change=None if change is None else float(change[n]),
        )
        for n, (trajectory, turn, scored) in enumerate(
            zip(measured.trajectory, measured.turn, measured.scored, strict=True)
        )
    ]


def _change_relations(
    measured: _Measured,
    foretold: Tensor,
    change: Tensor,
    drawn: list[int],
    states: list[StateRow],
    config: DiagnoseConfig,
) -> tuple[Relation, ...]:
    numbers, member = torch.unique(measured.group, return_inverse=True)
    zeros = torch.zeros(numbers.numel(), dtype=torch.float64)
    of_group = zeros.index_add(0, member, foretold)
    mean_change = zeros.index_add(0, member, change) / zeros.index_add(0, member, torch.ones_like(change))
    relative = torch.tensor([row.base * row.relative for row in states], dtype=torch.float64)
    seed = config.seed
    return (
        relation("A(1-α), responses", foretold, change, measured.group, seed=seed),
        relation("sum of A(1-α), groups", of_group, mean_change, numbers, seed=seed),
        relation("A(S-H), sampled states", relative, change[drawn], measured.group[drawn], seed=seed),
    )


def _state_relations(
    measured: _Measured, drawn: list[int], states: list[StateRow], config: DiagnoseConfig
) -> tuple[Relation, ...]:
    alpha = measured.alpha[drawn] - 1
    columns = {
        "H-S of the response": [-row.relative for row in states],
        "H-S per token": [-row.relative_per_token for row in states],
    }
    return tuple(
        relation(name, alpha, torch.tensor(values, dtype=torch.float64), measured.group[drawn], seed=config.seed)
        for name, values in columns.items()
    )
