"""An invented training run, with the files that the trainer writes."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from swe_aem.core import Outcome, Response, Trajectory
from swe_aem.store import Store

Line = dict[str, Any]


def rates(resolved: int, tasks: int, **parts: Line) -> Line:
    """Held-out rates with plain normal intervals."""
    value = resolved / tasks
    half = 1.96 * math.sqrt(value * (1 - value) / tasks)
    low, high = max(0.0, value - half), min(1.0, value + half)
    found: Line = {"pass_at_1": value, "low": low, "high": high, "tasks": tasks}
    found |= {"greedy": min(1.0, value + 0.05), "greedy_low": low, "greedy_high": min(1.0, high + 0.06)}
    return found | ({"parts": parts} if parts else {})


def metrics(steps: int, seed: int = 0) -> list[Line]:
    """One line per step of a run that learns."""
    random.seed(seed)
    lines, wall_s = [], 0.0
    for step in range(1, steps + 1):
        skill = 0.1 + 0.7 * step / steps
        resolved = sum(random.random() < skill for _ in range(64))
        broken = int(random.random() < 0.2)
        limit = random.randrange(8)
        rollout_s, train_s, rollout_wait_s = random.uniform(20, 30), random.uniform(10, 14), random.uniform(0, 4)
        weights_s, evaluation_s, checkpoint_s = random.uniform(0, 1), 8.0 * (step % 4 == 0), 2.0 * (step % 5 == 1)
        step_s = rollout_wait_s + weights_s + train_s + evaluation_s
        wall_s += step_s
        entropy = 0.9 * math.exp(-step / steps) + random.uniform(-0.03, 0.03)
        lines.append(
            {
                "step": step,
                "wall_s": wall_s,
                "version": step - 1,
                "resolved_rate": resolved / 64,
                "outcomes": {
                    "resolved": resolved,
                    "unresolved": 64 - resolved - broken - limit,
                    "turn_limit": limit,
                    "infrastructure": broken,
                },
                "groups": 8,
                "zero_variance_groups": random.randrange(4),
                "rejected_groups": random.randrange(2),
                "reward": resolved / 64,
                "aem/response_entropy": entropy,
                "aem/entropy_min": entropy / 2,
                "aem/entropy_max": entropy * 2,
                "aem/entropy_range": entropy * 1.5,
                "aem/alpha_min": 0.6 + random.uniform(0, 0.1),
                "aem/alpha_max": 1.4 + random.uniform(0, 0.1),
                "aem/alpha_std": 0.2 + random.uniform(0, 0.05),
                "aem/alpha_token_mean": random.uniform(0.95, 1.05),
                "aem/unmodulated_share": random.uniform(0, 0.3),
                "clip_ratio/low_mean": random.uniform(0, 0.01),
                "clip_ratio/high_mean": random.uniform(0, 0.02),
                "importance/mean": random.uniform(0.98, 1.02),
                "importance/max": random.uniform(1.1, 2),
                "importance/min": random.uniform(0.1, 0.9),
                "importance/k3_kl": random.uniform(0, 0.001),
                "importance/abs_log_ratio": random.uniform(0, 0.01),
                "importance/low_share": random.uniform(0, 0.001),
                "importance/high_share": random.uniform(0, 0.001),
                "staleness": random.uniform(0, 1.5),
                "tool_failure_rate": 0.3 * (1 - skill),
                "malformed_rate": 0.1 * (1 - skill),
                "tokens_per_s": random.uniform(300, 400),
                "sampled_tokens": random.randrange(8000, 12000),
                "branch_share": random.uniform(0.01, 0.1),
                "branches/row_share": 0.04,
                "branches/token_share": 0.03,
                "rollout_s": rollout_s,
                "step_s": step_s,
                "rollout_wait_s": rollout_wait_s,
                "weights_s": weights_s,
                "scoring_s": 0.3 * (train_s - checkpoint_s),
                "optimising_s": 0.6 * (train_s - checkpoint_s),
                "evaluation_s": evaluation_s,
                "checkpoint_s": checkpoint_s,
                "other_s": 0.1 * (train_s - checkpoint_s),
                "train_s": train_s,
                "loss": random.gauss(0, 0.01),
                "grad_norm": random.uniform(0.2, 0.8),
                "learning_rate": 1e-5,
                "turns": 4 + 2 * random.random(),
                "positive_share": skill,
                "infrastructure_failures": broken,
                "something/unknown": "x",
            }
        )
    return lines


def jsonl(lines: list[Line]) -> str:
    """Lines as a file holds them."""
    return "".join(json.dumps(line) + "\n" for line in lines)


def trajectory(task_id: str, sample: int, outcome: Outcome, text: str = "done", version: int = 0) -> Trajectory:
    response = Response(start=1, end=3, logprobs=(-1.0, -1.0), version=version, finish_reason="stop", sample_s=0.1)
    call = {"id": "c", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls <dir>"}'}}
    return Trajectory(
        task_id=task_id,
        sample=sample,
        agent="native",
        model="m",
        token_ids=(1, 2, 3),
        responses=(response,),
        messages=(
            {"role": "user", "content": "Fix it."},
            {"role": "assistant", "content": text, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "name": "bash", "content": "a\x1b[0m \udc80"},
        ),
        outcome=outcome,
        reward=None if outcome is Outcome.INFRASTRUCTURE else float(outcome is Outcome.RESOLVED),
        patch="--- a\n+++ b\n",
    )


def write_run(directory: Path) -> None:
    """A run that has ended, with everything that a run can have."""
    directory.mkdir(parents=True)
    (directory / "metrics.jsonl").write_text(jsonl(metrics(40)))
    before = rates(10, 96, demonstrated=rates(8, 48), **{"new kinds": rates(2, 48)})
    after = rates(60, 96, demonstrated=rates(36, 48), **{"new kinds": rates(24, 48)})
    summary = {"heldout_before": before, "heldout_after": after, "steps": 40, "wall_s": 1500.0, "model": "tiny"}
    (directory / "summary.json").write_text(json.dumps(summary | {"tasks": "tasks/nano"}))
    (directory / "heldout.jsonl").write_text(jsonl([{"step": 20} | rates(30, 96)]))
    (directory / "config.yaml").write_text("steps: 40\nmodel: <tiny>\n")
    with Store(directory / "rollouts").writer() as writer:
        writer.append(trajectory("t0", 0, Outcome.INFRASTRUCTURE))
        for n in range(1, 6):
            writer.append(trajectory(f"t{n}", 0, Outcome.UNRESOLVED, version=n))
            writer.append(trajectory(f"t{n}", 1, Outcome.RESOLVED, "<script>alert(1)</script>", version=n))


class Kit:
    """What the tests make runs of."""

    rates = staticmethod(rates)
    metrics = staticmethod(metrics)
    jsonl = staticmethod(jsonl)
    trajectory = staticmethod(trajectory)
    write_run = staticmethod(write_run)


@pytest.fixture(scope="session")
def kit() -> type[Kit]:
    """The functions of this file."""
    return Kit


@pytest.fixture
def whole_run(tmp_path: Path) -> Path:
    """A run that has ended, with everything that a run can have."""
    write_run(tmp_path / "first")
    return tmp_path / "first"
