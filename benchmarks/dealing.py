"""Rows of a step in the order of their groups and dealt by length: how much of their time the processes work.

    uv run --all-extras python benchmarks/dealing.py --json dealing.json

First the cost model, for steps of 16 rows per process of the shape of Qwen3-32B. Then two gloo processes, which train
rows of random tokens, forward and backward, and meet after every micro-step, as sharded ones do. Each round trains the
same rows in both orders, one after the other. A process works in its passes, and waits for the other between them.
Lengths are log-normal and cut, as those of agents are. Compare the ratios.
"""

import argparse
import json
import math
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from trainer import SHAPES
from weights import random_model

from swe_aem.train.dealing import Dealing, MicroStep, busy_share, row_cost
from swe_aem.train.planning.shapes import KNOWN

ROWS_PER_PROCESS = 16
LENGTHS = (("median 8k, σ 0.8", 8000, 0.8), ("median 12k, σ 0.6", 12000, 0.6), ("median 16k, σ 0.6", 16000, 0.6))
LONGEST = 32768
STEPS = 20
PROCESSES = (2, 8, 32)
MEASURED = ("median 12k, σ 0.6", 12000, 0.6)
TIMEOUT_S = 1500


def main() -> None:
    """Model, measure and report."""
    options = _options()
    if options.rank is not None:
        print(json.dumps(_as_one_of_two(options)))
        return
    modelled = [_modelled(lengths, processes) for lengths in LENGTHS for processes in PROCESSES]
    _show_model(modelled)
    measured = _measured(options) if options.rounds else None
    if measured is not None:
        _show_measured(measured)
    if options.json:
        settings = {key: value for key, value in vars(options).items() if key not in ("json", "rank", "port")}
        with open(options.json, "w") as file:
            json.dump({"settings": settings, "model": modelled, "measured": measured}, file, indent=2)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="steps that two processes train; 0: none (default: 5)")
    parser.add_argument("--shape", choices=SHAPES, default="small", help="the model that they train (default: small)")
    parser.add_argument("--longest", type=int, default=2048, help="tokens of a row of 32,768 (default: 2048)")
    parser.add_argument("--rows", type=int, default=8, help="rows per process (default: 8)")
    parser.add_argument("--json", help="file for all figures")
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def lengths_of(count: int, median: int, sigma: float, seed: str) -> list[int]:
    """Lengths of `count` rows in tokens."""
    dice = random.Random(seed)
    return [max(1, min(LONGEST, round(dice.lognormvariate(math.log(median), sigma)))) for _ in range(count)]


def in_order(count: int, processes: int, seed: str) -> list[MicroStep]:
    """Rows of whole groups go to one process after the other, which shuffles its own."""
    dice = random.Random(seed)
    each = count // processes
    mine = [dice.sample(range(each * process, each * (process + 1)), each) for process in range(processes)]
    return [tuple((rows[number],) for rows in mine) for number in range(each)]


def _modelled(lengths: tuple[str, int, float], processes: int) -> dict[str, Any]:
    """Shares of one line of the table: of all steps together."""
    name, median, sigma = lengths
    cost = row_cost(KNOWN["Qwen3-32B"].model_dump())
    before, after = [], []
    for step in range(1, STEPS + 1):
        rows = lengths_of(ROWS_PER_PROCESS * processes, median, sigma, f"{name} {step}")
        before.append(busy_share(in_order(len(rows), processes, f"{step}"), rows, cost))
        after.append(busy_share(Dealing(cost=cost).micro_steps(rows, processes, step), rows, cost))
    found = {"in_order": statistics.harmonic_mean(before), "by_length": statistics.harmonic_mean(after)}
    return {"lengths": name, "processes": processes, **found, "gain": found["by_length"] / found["in_order"]}


def _measured(options: argparse.Namespace) -> dict[str, Any]:
    """What two processes measured, over all rounds."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = [
        subprocess.Popen(
            [sys.executable, *sys.argv, "--rank", str(rank), "--port", str(port)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]
    try:
        told = [one.communicate(timeout=TIMEOUT_S)[0] for one in both]
    finally:
        for one in both:
            one.kill()
    if any(one.returncode for one in both):
        sys.exit("a process failed")
    first, other = (json.loads(text.splitlines()[-1]) for text in told)
    result: dict[str, Any] = {"modelled": first["modelled"]}
    for order in ("in_order", "by_length"):
        wall_s, work_s = sum(first[order]["wall_s"]), sum(first[order]["work_s"]) + sum(other[order]["work_s"])
        result[order] = {"wall_s": wall_s, "busy_share": work_s / (2 * wall_s)}
    return result


def _as_one_of_two(options: argparse.Namespace) -> dict[str, Any]:
    """Train all rounds in both orders; seconds of work and in all, by order and round."""
    import torch
    from torch import distributed

    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{options.port}", world_size=2, rank=options.rank)
    model = random_model(device="cpu", dtype="float32", positions=options.longest, **SHAPES[options.shape])
    cost = row_cost(model.config.to_dict())
    found: dict[str, Any] = {order: {"work_s": [], "wall_s": []} for order in ("in_order", "by_length")}
    shares: dict[str, list[float]] = {order: [] for order in found}
    dice = torch.Generator().manual_seed(options.rank)
    _train(model, 16, dice)
    for number in range(1, options.rounds + 1):
        lengths = _scaled(lengths_of(2 * options.rows, *MEASURED[1:], seed=f"round {number}"), options.longest)
        orders = {
            "in_order": in_order(len(lengths), 2, f"{number}"),
            "by_length": Dealing(cost=cost).micro_steps(lengths, 2, number),
        }
        for order, micro_steps in orders.items():
            work_s, wall_s = _step(model, [lengths[row] for one in micro_steps for row in one[options.rank]], dice)
            found[order]["work_s"].append(work_s)
            found[order]["wall_s"].append(wall_s)
            shares[order].append(busy_share(micro_steps, lengths, cost))
    distributed.destroy_process_group()
    return {**found, "modelled": {order: statistics.harmonic_mean(each) for order, each in shares.items()}}


def _scaled(lengths: Sequence[int], longest: int) -> list[int]:
    return [max(8, length * longest // LONGEST) for length in lengths]


def _step(model: Any, lengths: Sequence[int], dice: Any) -> tuple[float, float]:
    """Seconds of work, and in all, of micro-steps of one row each; the other process is met after each of them."""
    from torch import distributed

    distributed.barrier()
    began_s, work_s = time.perf_counter(), 0.0
    for length in lengths:
        started_s = time.perf_counter()
        _train(model, length, dice)
        work_s += time.perf_counter() - started_s
        distributed.barrier()
    return work_s, time.perf_counter() - began_s


def _train(model: Any, length: int, dice: Any) -> None:
    import torch

    ids = torch.randint(2, model.config.vocab_size, (1, length), generator=dice)
    model(ids, labels=ids).loss.backward()
    model.zero_grad(set_to_none=False)


def _show_model(rows: Sequence[dict[str, Any]]) -> None:
    table = _table("lengths", "processes", "busy, in order", "busy, by length", "gain")
    for row in rows:
        shares = (f"{row['in_order']:.0%}", f"{row['by_length']:.0%}", f"{row['gain']:.2f}")
        table.add_row(row["lengths"], str(row["processes"]), *shares)
    Console(width=140).print(table)


def _show_measured(found: dict[str, Any]) -> None:
    table = _table("two gloo processes", "busy", "busy, cost model", "s", "s / by length")
    for order, name in (("in_order", "in order"), ("by_length", "by length")):
        mine = found[order]
        table.add_row(
            name,
            f"{mine['busy_share']:.0%}",
            f"{found['modelled'][order]:.0%}",
            f"{mine['wall_s']:.1f}",
            f"{mine['wall_s'] / found['by_length']['wall_s']:.2f}",
        )
    Console(width=140).print(table)


def _table(*headings: str) -> Table:
    table = Table(box=box.MARKDOWN)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left")
    return table


if __name__ == "__main__":
    main()
