"""Every setting of the study's runs, and the key of a run: a hash of all that its result depends on."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from study.hunts import Skill
from swe_aem.core.base import Frozen

REVISION = 1
"""Raised where the code of a run changes its results: older results are then left out, and are run again."""
RESULTS = Path(__file__).resolve().parents[1] / "aem_study"
SEEDS = 16
SAMPLES = 8
"""Sampled trajectories of each held-out task."""

Settings = Mapping[str, Any]

REGIMES: Mapping[str, float] = {"5": 0.22, "20": 0.58, "50": 0.95}
"""By the success rate at the start in per cent, about: the demonstrator's aim."""
BASE = "GRPO"
ARMS: Mapping[str, Mapping[str, Settings | str]] = {
    BASE: {"advantage": "leave_one_out"},
    "AEM": {"advantage": {"estimator": "aem"}},
    "AEM reversed": {"advantage": {"estimator": "aem", "direction": "reversed"}},
    "AEM shuffled": {"advantage": {"estimator": "aem", "shuffle": True}},
    "AEM by trajectory": {"advantage": {"estimator": "aem", "scope": "trajectory"}},
    "AEM by batch": {"advantage": {"estimator": "aem", "scope": "batch"}},
    "entropy bonus": {"advantage": "leave_one_out", "grpo": {"entropy_coef": 0.01}},
    "EMPG": {"advantage": {"estimator": "empg"}},
    "STARE": {"advantage": {"estimator": "stare", "target_entropy": None}},
}
"""What an arm changes in the configuration of `swe-aem train`. λ, the range of 0.1 nats and the temperature are the
defaults, 1, 0.1 and 1. STARE's own gate, 0.3 nats, would make it plain GRPO in most steps: it is left out."""
MAIN = tuple(ARMS)[:4]
AGAIN = 1000
"""Added to the seed of sampling and of tasks where the pilot repeats a run."""


class Keyed(Frozen):
    """Settings whose result is stored under a hash of all of them."""

    @property
    def key(self) -> str:
        """The hash."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]


class WarmStart(Keyed):
    """The policy before training: a model of random weights that imitates demonstrations."""

    aim: float
    seed: int
    demonstrations: int = 1536
    steps: int = 240
    batch: int = 64
    learning_rate: float = 4e-3
    hidden_size: int = 48
    layers: int = 2

    @property
    def skill(self) -> Skill:
        """The demonstrator's."""
        return Skill(self.aim)


class Run(Keyed):
    """One run: all that its result depends on."""

    revision: int = REVISION
    regime: str
    arm: str
    changes: dict[str, Any]
    """What the arm changes."""
    seed: int
    sampling_seed: int
    """Seed of tasks and samples, which all arms of a seed share."""
    warm_start: WarmStart
    steps: int = 40
    groups_per_step: int = 8
    oversampled_groups: int = 16
    group_size: int = 8
    learning_rate: float = 1e-3
    heldout_tasks: int = 128
    states: int = 64
    """Most states of a step from which fresh responses are sampled."""
    fresh: int = 16
    """Fresh responses of a state."""

    @property
    def file(self) -> str:
        """Name of its result."""
        again = "-again" if self.sampling_seed != self.seed else ""
        return f"{self.regime}-{self.arm.lower().replace(' ', '-')}{again}-{self.seed:02}-{self.key}.json"


def run_of(regime: str, arm: str, seed: int, *, again: bool = False, **changed: Any) -> Run:
    """The run of an arm and a seed; `again`: with other tasks and samples, from the same warm start."""
    return Run(
        regime=regime,
        arm=arm,
        changes=dict(ARMS[arm]),
        seed=seed,
        sampling_seed=seed + AGAIN if again else seed,
        warm_start=WarmStart(aim=REGIMES[regime], seed=seed),
        **changed,
    )


def pilot(seeds: int) -> Iterator[Run]:
    """The pilot: plain GRPO twice for each seed."""
    for seed in range(seeds):
        for regime in REGIMES:
            yield run_of(regime, BASE, seed)
            yield run_of(regime, BASE, seed, again=True)


def plan(seeds: int = SEEDS) -> Iterator[Run]:
    """All runs in the order in which they are made: the main arms with four seeds, with the others, then the rest."""
    others = [arm for arm in ARMS if arm not in MAIN]
    for arms, some in ((MAIN, range(min(4, seeds))), (MAIN, range(4, seeds)), (others, range(seeds))):
        for seed in some:
            for regime in REGIMES:
                for arm in arms:
                    yield run_of(regime, arm, seed)


def read_result(run: Run, directory: Path = RESULTS) -> dict[str, Any] | None:
    """The result of a run, None if it was not made yet."""
    path = directory / run.file
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
