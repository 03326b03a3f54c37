"""Time of a training step while trajectories run beside it: in a thread of the trainer's process, or in their own.

    uv run --all-extras python benchmarks/rollouts.py [--trajectories 32] [--seconds 15] [--rounds 3] [--json FILE]

A small Qwen3 of random weights trains on one thread of torch. Beside it trajectories of the native loop run in
bubblewrap sandboxes, and sample from a simulated server in a third process: each response is a turn without a tool
call, so an agent renders, encodes and asks again until its context is full. The contenders take turns in each round;
compare the ratios.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from swe_aem.testing.vllm import SimulatedVllm
from swe_aem.train.config import TrainConfig, read_config
from swe_aem.train.rollout_process import RolloutProcess
from swe_aem.train.rollout_worker import RolloutWorker

WAYS = {"alone": None, "thread": RolloutWorker, "process": RolloutProcess}
_STOP = 697
"""The end of a turn in the tokenizer of the quickstart."""
_TOKENS = 200
_LATENCY_S = 0.2
_BEGIN_S = 8.0
"""Until the trajectories run."""


def main() -> None:
    """Measure and report."""
    options = _options()
    if options.serve:
        asyncio.run(_serve())
        return
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    with _server() as url:
        for _ in range(options.rounds):
            for way in WAYS:
                found[way] += measure(way, url, options.trajectories, options.seconds)
    rows = {way: {"step_ms": 1000 * statistics.median(steps), "steps": len(steps)} for way, steps in found.items()}
    print(f"{options.trajectories} trajectories   median of a step   against alone   steps")
    for way, row in rows.items():
        row["ratio"] = row["step_ms"] / rows["alone"]["step_ms"]
        print(f"{way:<17} {row['step_ms']:13.1f} ms {row['ratio']:12.2f} {row['steps']:10}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


def measure(way: str, url: str, trajectories: int, seconds: float) -> list[float]:
    """Seconds of each training step."""
    train = _trainer()
    make: Any = WAYS[way]
    if make is None:
        return _steps(train, seconds)
    with (
        tempfile.TemporaryDirectory() as out,
        ThreadPoolExecutor() as threads,
        make(_config(url, trajectories), Path(out), lambda: None) as rollouts,
    ):
        asked = threads.submit(rollouts.step, 1)
        time.sleep(_BEGIN_S)
        steps = _steps(train, seconds)
        if asked.done():
            asked.result()
            raise SystemExit("the trajectories ended before the measurement did: give fewer --seconds")
        rollouts.__exit__()
    return steps


def _steps(train: Any, seconds: float) -> list[float]:
    taken: list[float] = []
    end_s = time.monotonic() + seconds
    while (began_s := time.monotonic()) < end_s:
        train()
        taken.append(time.monotonic() - began_s)
    return taken


def _trainer() -> Any:
    """Makes one optimiser step per call."""
    import torch

    from swe_aem.testing.steps import VOCABULARY, tiny_model

    torch.set_num_threads(1)
    model = tiny_model(num_hidden_layers=4, hidden_size=64)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)
    ids = torch.randint(2, VOCABULARY, (4, 64))

    def step() -> None:
        model(input_ids=ids, labels=ids).loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    return step


def _config(url: str, trajectories: int) -> TrainConfig:
    """A step of one group of that many."""
    endless = (
        "max_turns=10000",
        "max_context_tokens=1000000",
        "max_consecutive_malformed=10000",
        "max_response_tokens=1000",
    )
    return read_config(
        Path("configs/quickstart.yaml"),
        [
            "steps=1", "groups_per_step=1", "oversampled_groups=null", "num_minibatches=1", "micro_batch_size=1",
            "heldout=null", f"rollout.group_size={trajectories}", "rollout.limit=1", "rollout.time_limit_s=600",
            f"rollout.scheduling.concurrency={trajectories}", f"servers.urls=[{url}]",
            *(f"rollout.native.{limit}" for limit in endless),
        ],
    )  # fmt: skip


@contextmanager
def _server() -> Iterator[str]:
    serving = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    assert serving.stdout is not None
    try:
        yield serving.stdout.readline().strip()
    finally:
        serving.kill()
        serving.wait()


async def _serve() -> None:
    tokens = [*range(100, 100 + _TOKENS), _STOP]
    async with SimulatedVllm(tokens=lambda body: tokens, latency_s=lambda body: _LATENCY_S) as server:
        print(server.url, flush=True)
        await asyncio.Event().wait()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trajectories", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
