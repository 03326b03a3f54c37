"""The study in real sandboxes: GRPO and AEM by `swe-aem train` on the quickstart, and a file for each run.

A run's key is a hash of its settings, the configuration and the weights that it starts from. Its working directory is
that of `swe-aem train`, which resumes where it was killed; its result has the shape of a bug hunt's, so that the same
statistics read both.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from study.settings import BASE, RESULTS, SAMPLES, Keyed, Settings
from swe_aem.evaluate import score
from swe_aem.store import Store, replace

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "quickstart.yaml"
POLICY = ROOT / "configs" / "quickstart" / "policy"
DIRECTORY = "sandboxes"
"""Where the results of runs in sandboxes are, below those of the hunts."""
ARMS: Mapping[str, Settings] = {BASE: {"advantage.lam": 0}, "AEM": {}}
"""With λ = 0 AEM's factors are exactly 1, and entropies are logged."""
SEEDS = 4
METRICS = {
    "resolved": "resolved_rate",
    "entropy": "aem/response_entropy",
    "unmodulated": "aem/unmodulated_share",
    "positive": "positive_share",
}
"""What a result keeps of each step, by the name that it has in metrics.jsonl."""


class SandboxRun(Keyed):
    """One run: all that its result depends on, but for the code and the chances of a busy machine."""

    arm: str
    changes: dict[str, Any]
    """Settings of `swe-aem train` that the arm changes."""
    seed: int
    configuration: str
    """The configuration's text, as a hash."""
    policy: str
    """The weights at the start, as a hash."""
    tasks: str
    """The tasks, as a hash."""
    samples: int = SAMPLES

    @property
    def file(self) -> str:
        """Name of its result."""
        return f"{self.arm.lower()}-{self.seed:02}-{self.key}.json"


def plan(seeds: int = SEEDS) -> Iterator[SandboxRun]:
    """All runs, seed by seed."""
    shared: dict[str, Any] = {
        "configuration": _hash(CONFIG),
        "policy": _hash(POLICY / "model.safetensors"),
        "tasks": _hash(*(ROOT / "tasks" / "nano" / f"{split}.jsonl" for split in ("train", "heldout"))),
    }
    for seed in range(seeds):
        for arm, changes in ARMS.items():
            yield SandboxRun(arm=arm, changes=dict(changes), seed=seed, **shared)


def read_run(run: SandboxRun, directory: Path = RESULTS) -> dict[str, Any] | None:
    """The result of a run, None if it was not made yet."""
    path = directory / DIRECTORY / run.file
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def read_arms(directory: Path = RESULTS, seeds: int = SEEDS) -> dict[str, dict[int, dict[str, Any]]]:
    """The results that there are, by arm and seed."""
    found: dict[str, dict[int, dict[str, Any]]] = {arm: {} for arm in ARMS}
    for run in plan(seeds):
        if (result := read_run(run, directory)) is not None:
            found[run.arm][run.seed] = result
    return found


def make(run: SandboxRun, work: Path, results: Path) -> dict[str, Any]:
    """Train, and write the result. Raises `CalledProcessError` if training ends with an error: a repetition resumes."""
    directory = work / f"sandboxes-{run.key}"
    before = _known_before(run, results)
    settings = {**run.changes, "seed": run.seed, "heldout.samples": run.samples, "heldout.before": before is None}
    words = [f"--set={name}={json.dumps(value)}" for name, value in settings.items()]
    command = [sys.executable, "-m", "swe_aem", "train", str(CONFIG), "--out", str(directory), "--no-report", *words]
    subprocess.run(command, check=True)
    summary = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    metrics = [json.loads(line) for line in (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    result = {
        "key": run.key,
        "settings": run.model_dump(mode="json"),
        "before": before or evaluated(directory, 0, run.samples),
        "after": evaluated(directory, summary["steps"], run.samples),
        "steps": {name: [_short(line.get(metric)) for line in metrics] for name, metric in METRICS.items()},
        "seconds": round(summary["wall_s"], 1),
    }
    (results / DIRECTORY).mkdir(parents=True, exist_ok=True)
    replace(results / DIRECTORY / run.file, json.dumps(result, separators=(",", ":")) + "\n")
    return result


def _known_before(run: SandboxRun, results: Path) -> dict[str, str] | None:
    """The evaluation of the same policy before training, which another run has made."""
    found = (read_run(other, results) for other in plan() if other.samples == run.samples)
    return next((one["before"] for one in found if one is not None), None)


def evaluated(directory: Path, step: int, samples: int) -> dict[str, str]:
    """How many samples of each held-out task resolved it after `step` steps, and whether the greedy trajectory did: a
    digit each, in the order of the tasks' ids."""
    sampled, greedy = (
        score(Store(directory / "heldout" / f"step-{step}-{kind}").trajectories()) for kind in ("sampled", "greedy")
    )
    if any(task.faults for task in (*sampled.tasks, *greedy.tasks)):
        raise SystemExit(f"{directory}: samples without a verdict; remove the directory and repeat")
    assert {task.samples for task in sampled.judged} == {samples}
    assert [task.task_id for task in sampled.judged] == [task.task_id for task in greedy.judged]
    return {
        "solved": "".join(str(task.resolved) for task in sampled.judged),
        "greedy": "".join(str(task.resolved) for task in greedy.judged),
    }


def _hash(*paths: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:10]


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
