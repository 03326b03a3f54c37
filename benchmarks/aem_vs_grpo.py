"""Does AEM help? GRPO, GRPO with AEM, AEM reversed and AEM shuffled on the quickstart's task: same data, same budget.

    uv run --all-extras python benchmarks/aem_vs_grpo.py --out runs/aem-vs-grpo

Runs `swe-aem train configs/quickstart.yaml` for every arm and seed, one after the other; a rerun resumes.
A seed decides the order of tasks, sampling and training, and is the same for all arms. Writes learning and entropy
curves and a table: held-out pass@1 after training, and the difference to plain GRPO, paired by seed and task, with a
bootstrap over seeds and tasks. Every run starts from the same policy, so only the first is evaluated before training.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from swe_aem.evaluate import score
from swe_aem.store import Store

ROOT = Path(__file__).resolve().parents[1]
ARMS: dict[str, tuple[str, ...]] = {
    "GRPO": ("advantage.lam=0",),  # factors of exactly 1, and entropies in the log
    "GRPO+AEM": (),
    "AEM reversed": ("advantage.direction=reversed",),
    "AEM shuffled": ("advantage.shuffle=true",),
}
RESAMPLES = 10_000


def main() -> None:
    """Run the missing arms and seeds, then write the report."""
    options = _options()
    runs: dict[str, list[Path]] = {arm: [] for arm in ARMS}
    for seed in range(options.seeds):
        for arm, settings in ARMS.items():
            directory = options.out / f"{arm.lower().replace(' ', '-')}-{seed}"
            before = not any(runs.values())
            _train(
                directory, [*settings, f"seed={seed}", f"heldout.before={str(before).lower()}", *options.set], options
            )
            runs[arm].append(directory)
    result = {arm: _results(directories, runs["GRPO"]) for arm, directories in runs.items()}
    (options.out / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    _print(result, _summary(runs["GRPO"][0])["heldout_before"])
    _draw(runs, options.out)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/aem-vs-grpo"))
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "quickstart.yaml")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], help="NAME=VALUE for every run, e.g. steps=8")
    return parser.parse_args()


def _train(directory: Path, settings: Sequence[str], options: argparse.Namespace) -> None:
    if (directory / "summary.json").exists():
        return
    print(f"{directory.name}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "swe_aem", "train", str(options.config), "--out", str(directory), "--no-report"]
    done = subprocess.run([*command, *(f"--set={setting}" for setting in settings)], check=False)
    if done.returncode:
        sys.exit(f"{directory} ended with code {done.returncode}; repeat the command to resume")


def _results(directories: Sequence[Path], base: Sequence[Path]) -> dict[str, Any]:
    """Held-out rates and curves of one arm, over all seeds."""
    after = [_summary(directory)["heldout_after"] for directory in directories]
    difference, low, high = _paired([_rates(one) for one in directories], [_rates(one) for one in base])
    entropy = [_metrics(directory)[-1].get("aem/response_entropy") for directory in directories]
    return {
        "pass_at_1": [one["pass_at_1"] for one in after],
        "greedy": [one["greedy"] for one in after],
        "difference": difference,
        "low": low,
        "high": high,
        "last_entropy": [value for value in entropy if value is not None],
    }


def _paired(arm: Sequence[dict[str, float]], base: Sequence[dict[str, float]]) -> tuple[float, float, float]:
    """Mean difference of held-out rates and its 95 % interval, from a paired bootstrap over seeds and tasks."""
    tasks = sorted(set.intersection(*(set(one) for one in (*arm, *base))))
    change = np.array([[a[task] - b[task] for task in tasks] for a, b in zip(arm, base, strict=True)])
    generator = np.random.default_rng(0)
    seeds, width = change.shape
    means = [
        change[np.ix_(generator.integers(0, seeds, seeds), generator.integers(0, width, width))].mean()
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(means, (0.025, 0.975))
    return float(change.mean()), float(low), float(high)


def _rates(directory: Path) -> dict[str, float]:
    """Held-out rate of each task after training."""
    store = Store(directory / "heldout" / f"step-{_summary(directory)['steps']}-sampled")
    return {task.task_id: task.rate for task in score(store.trajectories()).judged}


def _summary(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "summary.json").read_text())


def _metrics(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def _print(result: dict[str, dict[str, Any]], before: dict[str, Any] | None) -> None:
    table = Table(box=box.MARKDOWN)
    for column in ("arm", "sampled pass@1 after (mean, sd)", "greedy (mean)", "difference to GRPO (95 %)", "entropy"):
        table.add_column(column)
    if before is not None:
        table.add_row("before", f"{before['pass_at_1']:.1%}", f"{before['greedy']:.1%}", "", "")
    for arm, one in result.items():
        rates = one["pass_at_1"]
        spread = statistics.stdev(rates) if len(rates) > 1 else 0.0
        difference = "" if arm == "GRPO" else f"{one['difference']:+.1%} ({one['low']:+.1%} to {one['high']:+.1%})"
        entropy = f"{statistics.mean(one['last_entropy']):.4f}" if one["last_entropy"] else "-"
        shown = f"{statistics.mean(rates):.1%}, {spread:.1%}"
        table.add_row(arm, shown, f"{statistics.mean(one['greedy']):.1%}", difference, entropy)
    Console(width=140).print(table)


def _draw(runs: dict[str, list[Path]], out: Path) -> None:
    """Means over seeds of the rate and the entropy of each step, with the range of the seeds."""
    import matplotlib.pyplot as plt

    for name, label in (("resolved_rate", "resolved in training"), ("aem/response_entropy", "entropy, nats per token")):
        figure, axes = plt.subplots(figsize=(7, 4))
        for arm, directories in runs.items():
            curves = [[line.get(name) for line in _metrics(directory)] for directory in directories]
            values = np.array([[np.nan if value is None else value for value in curve] for curve in curves])
            if np.isnan(values).all():
                continue
            steps = np.arange(1, values.shape[1] + 1)
            axes.plot(steps, np.nanmean(values, axis=0), label=arm)
            axes.fill_between(steps, np.nanmin(values, axis=0), np.nanmax(values, axis=0), alpha=0.15)
        axes.set_xlabel("step")
        axes.set_ylabel(label)
        axes.legend()
        figure.tight_layout()
        figure.savefig(out / f"{name.rpartition('/')[2]}.png", dpi=120)
        plt.close(figure)


if __name__ == "__main__":
    main()
