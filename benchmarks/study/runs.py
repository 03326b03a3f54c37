"""One run of the study: `swe-aem train`'s own loop and trainer on bug hunts, with what the theory of AEM speaks of
measured beside it."""

import contextlib
import io
import json
import math
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from study.configuration import configuration
from study.hunts import Hunt, Task, tasks
from study.policy import warm_start
from study.settings import SAMPLES, Run
from study.streams import Row, hunt_all, mean_entropies, surprisals
from swe_aem.advantage.aem import AEM
from swe_aem.advantage.diagnostics import pearson, sign_agreement
from swe_aem.store import replace
from swe_aem.train import loop
from swe_aem.train.analysis.stored import group_tensors, inputs_of, modulation
from swe_aem.train.config import TrainConfig
from swe_aem.train.models import load_model
from swe_aem.train.records import read_metrics
from swe_aem.train.steps import Step, varied

_EVALUATION_SEED = 7


def made(run: Run, work: Path, results: Path) -> dict[str, Any]:
    """Make a run and write its result. A process that is killed loses this run alone: `work` keeps the warm starts."""
    began_s = time.monotonic()
    policy = work / f"warm-{run.warm_start.key}"
    work.mkdir(parents=True, exist_ok=True)
    results.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work) as temporary, contextlib.redirect_stderr(io.StringIO()):
        warm_start(run.warm_start, policy)
        before = _evaluated_once(run, policy)
        directory = Path(temporary) / "run"
        measured = _Measured()
        loop.train(configuration(run, policy), directory, lambda *given: HuntSteps(run, measured, *given))
        trained = load_model(directory / "policy").eval()
        measured.after_update(trained)
        positive = [one.positive_share for one in read_metrics(directory)]
    result = {
        "key": run.key,
        "settings": run.model_dump(mode="json"),
        "before": before,
        "after": evaluated(trained, run),
        "steps": _columns([{**one, "positive": share} for one, share in zip(measured.steps, positive, strict=True)]),
        "states": measured.states,
        "seconds": round(time.monotonic() - began_s, 1),
    }
    replace(results / run.file, json.dumps(result, separators=(",", ":")) + "\n")
    return result


def evaluated(model: Any, run: Run) -> dict[str, str]:
    """How many samples of each held-out task resolved it, and whether the greedy trajectory did: a digit each.
    All runs have the same tasks and random numbers."""
    found = heldout(run.heldout_tasks)
    rows = hunt_all(model, [Hunt(task) for task in found for _ in range(SAMPLES)], _EVALUATION_SEED)
    solved = [row.hunt.resolved for row in rows]
    greedy = hunt_all(model, [Hunt(task) for task in found], _EVALUATION_SEED, greedy=True)
    return {
        "solved": "".join(str(sum(solved[first : first + SAMPLES])) for first in range(0, len(solved), SAMPLES)),
        "greedy": "".join(str(int(row.hunt.resolved)) for row in greedy),
    }


def heldout(count: int) -> list[Task]:
    """Held-out tasks, each once."""
    source, found = tasks(random.Random("held out"), heldout=True), dict[str, Task]()
    while len(found) < count:
        task = next(source)
        found.setdefault(task.id, task)
    return list(found.values())


def _evaluated_once(run: Run, policy: Path) -> dict[str, str]:
    """The evaluation of a warm start, which its runs share."""
    path = policy / f"evaluated-{run.heldout_tasks}.json"
    if not path.exists():
        replace(path, json.dumps(evaluated(load_model(policy).eval(), run)))
    return json.loads(path.read_text())


class _Responses(NamedTuple):
    """The N trained responses of a step."""

    rows: list[Row]
    """All rows of the groups, whether their tokens are trained or not."""
    group: Tensor
    """(N,) long."""
    place: list[tuple[int, int]]
    """Row and number of each response."""
    number: list[int]
    """Its number among all responses of the rows."""
    base: Tensor
    """(N,) float64: leave-one-out advantages."""
    alpha: Tensor
    """(N,) float64: AEM's factors, whatever the arm makes of them."""
    entropy: Tensor
    """(N,) float64: mean token entropy before the update."""
    surprisal: Tensor
    """(N,) float64."""

    @property
    def foretold(self) -> Tensor:
        """(N,) A(1-α): above 0 where the theory foretells that entropy rises."""
        return self.base * (1 - self.alpha)


class _Measured:
    """What is measured of a run, step by step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []
        self.states: list[dict[str, Any]] = []
        self._last: _Responses | None = None
        self._relative: tuple[list[int], Tensor] | None = None

    def step(self, rows: Sequence[Row], trained: _Responses) -> None:
        """A step was rolled out: all its rows, and the responses that it trains on."""
        means = [sum(one) / len(one) for row in rows for one in row.entropies]
        self.steps.append({
            "resolved": sum(row.hunt.resolved for row in rows) / len(rows),
            "entropy": sum(means) / len(means),
            "unmodulated": float((trained.alpha == 1).double().mean()),
            "foretold": float(trained.foretold.mean()),
        })  # fmt: skip
        self._last = trained

    def states_of(self, model: Any, run: Run, step: int) -> None:
        """Sample states of the last step again: does α - 1 go with H - S there?"""
        assert self._last is not None
        last, seen = self._last, dict[tuple[int, int], int]()
        order = list(range(len(last.place)))
        random.Random(step).shuffle(order)
        for one in order:  # one for each turn of a group, and only what is modulated, as `swe-aem diagnose` does
            if last.alpha[one] != 1:
                seen.setdefault((int(last.group[one]), last.place[one][1]), one)
        drawn = list(seen.values())[: run.states]
        if len(drawn) < 3:
            return
        prompts = [
            last.rows[row].token_ids[: last.rows[row].spans[turn][0]]
            for row, turn in map(last.place.__getitem__, drawn)
        ]
        entropy = surprisals(model, prompts, run.fresh, step).mean(1)
        relative = last.surprisal[drawn] - entropy
        factor = last.alpha[drawn] - 1
        agree, signs = sign_agreement(factor, -relative)
        r = _short(pearson(factor, -relative))
        self.states.append({"step": step, "points": len(drawn), "r": r, "agree": agree, "signs": signs})
        self._relative = drawn, last.base[drawn] * relative

    def after_update(self, model: Any) -> None:
        """The weights have changed: how far did the entropy of the last step's responses move?"""
        assert self._last is not None
        last = self._last
        change = mean_entropies(model, last.rows)[last.number] - last.entropy
        self.steps[-1]["change"] = float(change.mean())
        self.steps[-1]["r"] = pearson(last.foretold, change)
        if self._relative is not None:
            drawn, foretold = self._relative
            self.states[-1]["r_change"] = _short(pearson(foretold, change[drawn]))
            self._relative = None


class HuntSteps:
    """A `StepSource` that plays hunts in this process with the policy that is trained."""

    def __init__(
        self, run: Run, measured: _Measured, config: TrainConfig, directory: Path, model: Callable[[], Any]
    ) -> None:
        self._run = run
        self._measured = measured
        self._model = model().eval()

    def __enter__(self) -> "HuntSteps":
        return self

    def __exit__(self, *exc: object) -> None:
        """Nothing to release."""

    def wants_weights(self, number: int) -> bool:
        """Every step is sampled by the newest weights."""
        return number > 1

    def load(self, weights: Mapping[str, Any], version: int) -> None:
        """Sample with these weights from now on."""
        self._model.load_state_dict(weights)
        self._measured.after_update(self._model)

    def step(self, number: int) -> Step:
        """Play the hunts of a step: groups whose rewards differ are trained on first, as in the real loop."""
        run = self._run
        dice = random.Random(f"{run.sampling_seed} {number}")
        found = list(islice(tasks(dice, heldout=False), run.oversampled_groups))
        rows = hunt_all(
            self._model,
            [Hunt(task) for task in found for _ in range(run.group_size)],
            run.sampling_seed * 1_000_003 + number,
        )
        members = [rows[first : first + run.group_size] for first in range(0, len(rows), run.group_size)]
        groups = [tuple(row.trajectory(n, number - 1) for n, row in enumerate(several)) for several in members]
        order = sorted(range(len(groups)), key=lambda one: not varied(groups[one]))
        kept, left = order[: run.groups_per_step], order[run.groups_per_step :]
        chosen = tuple(groups[one] for one in kept)
        trained = _responses([row for one in kept for row in members[one]], chosen)
        self._measured.step(rows, trained)
        if number in (1, (run.steps + 1) // 2, run.steps):
            self._measured.states_of(self._model, run, number)
        return Step(number=number, groups=chosen, rejected=tuple(groups[one] for one in left), rollout_s=1.0)


def _responses(rows: list[Row], groups: Sequence[tuple[Any, ...]]) -> _Responses:
    """What AEM makes of the responses of trained groups, by the package's own functions."""
    tensors = [
        one
        for number, group in enumerate(groups)
        for one in group_tensors(number, group, compact_filtering=True, limits_reward="graded")
    ]
    scores = [
        [(torch.tensor(a), torch.tensor(b)) for a, b in zip(row.entropies, row.logprobs, strict=True)]
        if one.spans
        else []
        for row, one in zip(rows, tensors, strict=True)
    ]
    inputs = inputs_of(tensors, scores)
    found = modulation(AEM(), inputs, "aem")
    place = [(row, turn) for row, several in enumerate(scores) for turn in range(len(several))]
    first = [0]
    for row in rows:
        first.append(first[-1] + len(row.spans))
    pairs = [scores[row][turn] for row, turn in place]
    return _Responses(
        rows=rows,
        group=torch.tensor([tensors[row].group for row, _ in place]),
        place=place,
        number=[first[row] + turn for row, turn in place],
        base=found.base,
        alpha=found.factor,
        entropy=torch.tensor([float(entropy.double().mean()) for entropy, _ in pairs], dtype=torch.float64),
        surprisal=torch.tensor([-float(logprob.double().sum()) for _, logprob in pairs], dtype=torch.float64),
    )


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Step by step, by name."""
    return {name: [_short(row[name]) for row in rows] for name in rows[0]}


def _short(value: float | None) -> float | None:
    """Four digits, which keeps the files small; None for no number."""
    return None if value is None or math.isnan(value) else float(f"{value:.4g}")
