"""The diagnostics of AEM (arXiv 2605.00425) on a store and a policy: does the factor point where the theory says?

A natural-gradient step on a sampled response a moves log pi(b|s) by eta A (1[b=a] / pi(a|s) - 1). Put into
dH = -sum pi log pi dlog pi that is dH_resp(s) = eta A (S - H_resp(s)), with S = -log pi(a|s): of the same sign as A for
a surprising response, of the other sign for one that the policy was sure of.

H_resp cannot be computed, and alpha - 1 stands in for S - H_resp. Signs: as far as they go together (r > 0, as the
paper reports), A (alpha - 1) > 0 foretells that entropy rises; where r < 0 comes out, that it falls. Agreement here
counts the first reading throughout, and nothing is turned around to fit. What AEM itself adds to a step is
eta A (alpha - 1) (S - H_resp), which has the sign of A under the first reading and the other under the second: only
the second is "confident mistakes are pushed down, and entropy stays up".

Three questions, in this order: how many trajectories have a positive advantage; which sign A (alpha - 1) has, and, with
the policy after training, whether entropy moved that way; whether alpha - 1 goes with Monte Carlo relative surprisal,
S of a stored response minus the mean S of fresh ones from the same state. Entropies are exact, from one forward pass.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from swe_aem.advantage.diagnostics import pearson, pearson_interval, sign_agreement
from swe_aem.errors import UserError
from swe_aem.nouns import SamplingParams, Trajectory
from swe_aem.nouns.base import Frozen
from swe_aem.policy.sampling import Row, sample_batch
from swe_aem.policy.tokenizer import load_tokenizer
from swe_aem.rollout.manifest import read as read_manifest
from swe_aem.train.advantages import base_advantages, factors
from swe_aem.train.models import load_model
from swe_aem.train.replay import stored_groups
from swe_aem.train.rows import training_row
from swe_aem.train.scoring import Scored, Stream, context_tokens, require_vocabulary, score
from swe_aem.train.settings import AdvantageSettings

Progress = Callable[[str, int, int], None]
"""What is being done, how much of it is, and of how much."""

PAPER_R = 0.63
"""Of alpha - 1 and relative surprisal, Qwen3-32B."""
PAPER_SIGNS = (55, 64)
"""States in which their signs agree, of all."""

_SAMPLING_TOKENS = 32_768
"""Tokens, prompts included, that a KV cache is kept for while states are sampled."""


class DiagnoseSettings(Frozen):
    """What is measured, and how much of it is sampled."""

    states: int = Field(default=64, ge=0)
    samples: int = Field(default=32, ge=2)
    """Fresh responses per state."""
    seed: int = Field(default=0, ge=0, le=2**31)
    """Of the states drawn, the samples and the bootstrap."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Per response, sampled or stored: a longer one counts up to here. None: what the run allowed."""
    version: int | None = None
    """Only groups whose trained responses are all of this version of the weights."""
    train_limits: bool = False
    """Also trajectories that ended at a limit."""
    advantage: AdvantageSettings = AdvantageSettings()


class VersionShare(Frozen):
    """Trained trajectories whose first response is of one version of the weights."""

    version: int
    trajectories: int
    positive: int
    """Of those, with a base advantage above 0."""


class GroupShare(Frozen):
    """The trained trajectories of one group."""

    task_id: str
    first_sample: int
    trajectories: int
    positive: int
    zero_variance: bool
    """Do all members that count have the same reward?"""


class Relation(Frozen):
    """How one number foretells another. Points whose first number is 0 (gated, or no advantage) are left out."""

    name: str
    points: int
    r: float | None
    """Pearson's; None below 3 points, or if either number is constant."""
    r_low: float | None
    r_high: float | None
    """95 %, from a bootstrap over groups."""
    agree: int
    """Points in which both have the same sign,"""
    signs: int
    """of those in which both have one."""


class ResponseRow(Frozen):
    """A trained response under the policy; entropies and surprisal in nats per token."""

    task_id: str
    sample: int
    response: int
    version: int
    tokens: int
    entropy: float
    surprisal: float
    base: float
    """A: base advantage times the task's weight."""
    alpha: float
    pressure: float
    """A (alpha - 1)."""
    change: float | None = None
    """Mean token entropy under the policy after training minus `entropy`, on the same tokens."""


class StateRow(Frozen):
    """A state that was sampled from, and the stored response to it. Sums are over a response's tokens, in nats."""

    task_id: str
    sample: int
    response: int
    prompt_tokens: int
    tokens: int
    max_tokens: int
    samples: int
    cut: int
    """Samples that did not end by themselves within `max_tokens`."""
    base: float
    alpha: float
    surprisal: float
    """S of the stored response."""
    response_entropy: float
    """Monte Carlo estimate of H_resp: mean S of the samples."""
    response_entropy_se: float
    """Its standard error."""
    relative: float
    """S - H_resp."""
    relative_per_token: float
    """The same with each S, the stored one and the samples', over its own number of tokens."""
    change: float | None = None


class Diagnosis(Frozen):
    """Everything but the rows."""

    store: str
    model: str
    after: str | None
    settings: DiagnoseSettings
    temperature: float
    max_tokens: int
    stop_token_ids: tuple[int, ...]
    trajectories: int
    """Trained ones."""
    too_long: int
    """Of those, longer than the model's context: in the shares of part 1, and in nothing else."""
    positive: tuple[VersionShare, ...]
    groups: tuple[GroupShare, ...]
    """With trained trajectories."""
    responses: int
    gated: int
    """Responses whose factor is exactly 1."""
    pressure_up: int
    """Responses with A (alpha - 1) above 0,"""
    pressure_down: int
    """and below."""
    logprob_gap: float
    """Mean over tokens of |stored log-probability - the model's|, nats: near 0 if the model sampled the store."""
    change: float | None
    """Mean over responses, nats per token."""
    change_relations: tuple[Relation, ...]
    states: int
    cut_share: float | None
    """Share of samples that were cut off: their surprisal is of what there is."""
    state_relations: tuple[Relation, ...]


class Report(NamedTuple):
    """What `diagnose` found."""

    diagnosis: Diagnosis
    responses: list[ResponseRow]
    states: list[StateRow]


class _Episode(NamedTuple):
    """What is needed of a trajectory."""

    task_id: str
    sample: int
    group: int
    reward: float
    """NaN if it does not count."""
    weight: float
    versions: tuple[int, ...]
    """Of its trained responses."""
    stream: Stream
    """Up to the end of the last trained response; without spans if none is trained."""
    logprobs: tuple[Tensor, ...]
    """As stored, of each trained response."""
    stops: frozenset[int]
    """Tokens that ended a response by themselves."""


class _Measured(NamedTuple):
    """The trained responses that the model has a context for; N of them."""

    episode: list[_Episode]
    turn: list[int]
    scored: list[Scored]
    group: Tensor
    """(N,) long."""
    entropy: Tensor
    """(N,) float64: mean over a response's tokens."""
    base: Tensor
    """(N,) float64."""
    alpha: Tensor
    """(N,) float64."""


def diagnose(
    directory: Path,
    model_directory: Path,
    settings: DiagnoseSettings,
    *,
    after_directory: Path | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Report:
    """All three diagnostics of the store in `directory`, with models in float32, one at a time, on a GPU if there is
    one. Raises `UserError` for a store or a model that cannot serve."""
    for path in filter(None, (model_directory, after_directory)):
        if not (path / "config.json").is_file():
            raise UserError(f"{path}: no model there; name a directory with config.json and safetensors")
    episodes = _read(directory, settings)
    manifest = read_manifest(directory)
    native = manifest.config.native if manifest and manifest.config.agent == "native" else None
    temperature = (native.temperature if native else 1.0) or 1.0
    model = _open(model_directory, episodes)
    fitting = [one for one in episodes if one.stream.token_ids.numel() <= context_tokens(model)]
    if not any(one.stream.spans for one in fitting):
        raise UserError(
            f"every trained trajectory of {directory} is longer than the {context_tokens(model)} positions of "
            f"{model_directory}; name the model that sampled it"
        )
    base = _base(episodes, settings)
    scored = _score(model, fitting, temperature, "entropies", progress)
    measured = _measure(fitting, scored, base, settings)
    responses = _response_rows(measured)
    longest = max(row.tokens for row in responses)
    max_tokens = settings.max_tokens or (native.max_response_tokens if native else longest)
    stops = _stop_tokens(model, model_directory, episodes)
    context = min(context_tokens(model), native.max_context_tokens if native else context_tokens(model))
    sampler = _Sampler(model, temperature, stops, max_tokens, context, settings)
    drawn = _draw(measured, settings)
    states = []
    for number, index in enumerate(drawn):
        progress("states", number, len(drawn))
        states.append(sampler.state(measured, index, number))
    progress("states", len(drawn), len(drawn))
    if after_directory is not None:
        del sampler, model
        after = _open(after_directory, fitting)
        if context_tokens(after) < max(one.stream.token_ids.numel() for one in fitting):
            raise UserError(f"{after_directory} has a shorter context than {model_directory}; name the same model's")
        changed = _score(after, fitting, temperature, "entropies after", progress)
        change = [float(one.entropy.double().mean()) for several in changed for one in several] - measured.entropy.numpy()
        responses = [row.model_copy(update={"change": float(c)}) for row, c in zip(responses, change, strict=True)]
        states = [
            row.model_copy(update={"change": float(change[index])}) for row, index in zip(states, drawn, strict=True)
        ]
    pressure = torch.tensor([row.pressure for row in responses], dtype=torch.float64)
    changes = [row.change for row in responses if row.change is not None]
    trained = [(one, advantage) for one, advantage in zip(episodes, base.tolist(), strict=True) if one.stream.spans]
    diagnosis = Diagnosis(
        store=str(directory),
        model=str(model_directory),
        after=None if after_directory is None else str(after_directory),
        settings=settings,
        temperature=temperature,
        max_tokens=max_tokens,
        stop_token_ids=stops,
        trajectories=len(trained),
        too_long=sum(bool(one.stream.spans) for one in episodes) - sum(bool(one.stream.spans) for one in fitting),
        positive=_by_version(trained),
        groups=_by_group(episodes, trained),
        responses=len(responses),
        gated=int((measured.alpha == 1).sum()),
        pressure_up=int((pressure > 0).sum()),
        pressure_down=int((pressure < 0).sum()),
        logprob_gap=_logprob_gap(fitting, scored),
        change=sum(changes) / len(changes) if changes else None,
        change_relations=_change_relations(measured, responses, drawn, states, settings.seed) if changes else (),
        states=len(states),
        cut_share=sum(row.cut for row in states) / sum(row.samples for row in states) if states else None,
        state_relations=_state_relations(measured, drawn, states, settings.seed),
    )
    return Report(diagnosis, responses, states)


def relation(name: str, x: Tensor, y: Tensor, cluster: Tensor, *, seed: int = 0) -> Relation:
    """Of `x` and `y`, (N,) float, where `x` is not 0; `cluster` is (N,) long, what the bootstrap draws."""
    used = x != 0
    x, y, cluster = x[used], y[used], cluster[used]
    r, low, high = math.nan, math.nan, math.nan
    if x.numel() > 2:  # two points always lie on a line
        r = pearson(x, y)
        low, high = pearson_interval(x, y, cluster, torch.Generator().manual_seed(seed))
    agree, signs = sign_agreement(x, y)
    return Relation(
        name=name,
        points=x.numel(),
        r=_known(r),
        r_low=_known(low),
        r_high=_known(high),
        agree=agree,
        signs=signs,
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _read(directory: Path, settings: DiagnoseSettings) -> list[_Episode]:
    """Every trajectory of the groups that `settings` ask for; raises `UserError` if none of their tokens is trained."""
    episodes: list[_Episode] = []
    for group, (_, members) in enumerate(stored_groups(directory)):
        found = [_episode(group, one, train_limits=settings.train_limits) for one in members]
        versions = {version for one in found for version in one.versions}
        if settings.version is None or versions == {settings.version}:
            episodes += found
    if not any(one.stream.spans for one in episodes):
        what = "" if settings.version is None else f" in a group of version {settings.version} alone"
        raise UserError(
            f"{directory}: has no trained response{what} (gold and noop agents sample none; the store of a training "
            "run is its directory rollouts)"
        )
    return episodes


def _episode(group: int, trajectory: Trajectory, *, train_limits: bool) -> _Episode:
    row = training_row(trajectory, train_limits=train_limits)
    responses = trajectory.responses if any(row["env_mask"]) else ()
    if responses and responses[0].start == 0:
        raise UserError(f"{trajectory.id} begins with a sampled token: there is no prompt that it could be scored after")
    end = responses[-1].end if responses else 0
    return _Episode(
        task_id=trajectory.task_id,
        sample=trajectory.sample,
        group=group,
        reward=row["reward"] if row["counts"] else math.nan,
        weight=trajectory.weight,
        versions=tuple(response.version for response in responses),
        stream=Stream(
            torch.tensor(trajectory.token_ids[:end], dtype=torch.int32), tuple((one.start, one.end) for one in responses)
        ),
        logprobs=tuple(torch.tensor(response.logprobs) for response in responses),
        stops=frozenset(trajectory.token_ids[one.end - 1] for one in responses if one.finish_reason == "stop"),
    )


def _open(directory: Path, episodes: Sequence[_Episode]) -> Any:
    model = load_model(directory).eval()
    require_vocabulary(model, [one.stream for one in episodes if one.stream.spans], str(directory))
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def _score(
    model: Any, episodes: Sequence[_Episode], temperature: float, what: str, progress: Progress
) -> list[list[Scored]]:
    total = sum(bool(one.stream.spans) for one in episodes)
    progress(what, 0, total)
    return score(
        model,
        [one.stream for one in episodes],
        temperature=temperature,
        done=lambda count: progress(what, count, total),
    )


def _base(episodes: Sequence[_Episode], settings: DiagnoseSettings) -> Tensor:
    """(M,) float64: base advantages of all trajectories times their weights."""
    reward = torch.tensor([one.reward for one in episodes], dtype=torch.float64)
    group = torch.tensor([one.group for one in episodes])
    weight = torch.tensor([one.weight for one in episodes], dtype=torch.float64)
    return base_advantages(reward, group, settings.advantage) * weight


def _measure(
    fitting: Sequence[_Episode], scored: list[list[Scored]], base: Tensor, settings: DiagnoseSettings
) -> _Measured:
    raise NotImplementedError
