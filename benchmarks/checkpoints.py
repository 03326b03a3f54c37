"""Seconds that training stands still for a checkpoint that it waits for, and for one that is written meanwhile.

    uv run --all-extras python benchmarks/checkpoints.py --json checkpoints.json

One process trains all weights of a random model on scripted steps and saves a checkpoint after each step, in both ways
in turn. It stands still for the `checkpoint_s` of metrics.jsonl: for all of the writing, or while the state is copied
into the host's memory, and for the checkpoint before where that is still being written. The first save of a run is left
out, in which the memory of the copy is taken.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

WAYS = {"training waits": False, "training continues": True}


def main() -> None:
    """Train and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2, help="runs of each kind (default: 2)")
    parser.add_argument("--steps", type=int, default=5, help="steps of a run (default: 5)")
    parser.add_argument("--width", type=int, default=512, help="width of the model (default: 512)")
    parser.add_argument("--layers", type=int, default=8, help="layers of the model (default: 8)")
    parser.add_argument("--json", help="file for all figures")
    options = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as place:
        model = Path(place) / "model"
        _save_model(model, options)
        for round_ in range(options.rounds):
            for way, asynchronous in WAYS.items():
                run = Path(place) / f"{round_}-{asynchronous}"
                found[way] += _trained(model, run, options.steps, asynchronous=asynchronous)
    figures = {way: {name: _middle(steps, name) for name in steps[0]} for way, steps in found.items()}
    _show(figures)
    if options.json:
        Path(options.json).write_text(
            json.dumps({"settings": vars(options), "median": figures, "steps": found}, indent=2)
        )


def _save_model(directory: Path, options: argparse.Namespace) -> None:
    from swe_aem.testing.steps import save_tiny

    save_tiny(
        directory,
        hidden_size=options.width,
        intermediate_size=3 * options.width,
        num_hidden_layers=options.layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=options.width // 8,
    )


def _trained(model: Path, run: Path, steps: int, *, asynchronous: bool) -> list[dict[str, float]]:
    """Seconds of each step but the first two, which have no checkpoint before them, and the first one."""
    from swe_aem.core.settings import check
    from swe_aem.testing.steps import ScriptedSteps
    from swe_aem.train.config import TrainConfig
    from swe_aem.train.loop import train
    from swe_aem.train.records import read_metrics

    values: dict[str, Any] = {
        "model": str(model),
        "steps": steps,
        "groups_per_step": 4,
        "micro_batch_size": 4,
        "save_every": 1,
        "asynchronous_checkpoints": asynchronous,
        "rollout": {"group_size": 8, "native": {"max_context_tokens": 64}},
        "heldout": None,
        "device": "cpu",
    }
    train(check(TrainConfig, values), run, ScriptedSteps)
    lines = read_metrics(run)[2:]
    return [{"stands still": line.checkpoint_s or 0.0, "step": line.step_s or 0.0} for line in lines]


def _middle(steps: list[dict[str, float]], name: str) -> float:
    return statistics.median(step[name] for step in steps)


def _show(figures: dict[str, dict[str, float]]) -> None:
    table = Table("checkpoint", "training stands still, s", "step, s", box=box.SIMPLE)
    for way, seconds in figures.items():
        table.add_row(way, *(f"{one:.2f}" for one in seconds.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
