"""Training steps of a configuration with random weights: seconds, model FLOP utilisation, memory against the plan.

    uv run --all-extras python benchmarks/step.py configs/lora-1gpu.yaml --shape Qwen3-8B --shape Qwen3-32B

The loop of `swe-aem train` runs under the configuration's own settings. Rollouts are scripted, so nothing is sampled:
ragged rows of many turns, of which the first is as long as the configuration allows. Each shape has a process of its
own. On a GPU, memory is the allocator's peak; the plan of `swe-aem train --dry-run` is printed beside it, term by term.
FLOPs are those of the model (Kaplan et al., arXiv 2001.08361, and causal attention): padding and activations that are
computed again do not count (PaLM, arXiv 2204.02311). They are compared with a large matrix product of the same run.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from weights import random_model

from swe_aem.core import Outcome, Response, Trajectory
from swe_aem.testing.steps import VOCABULARY, ScriptedSteps
from swe_aem.train.config import TrainConfig, read_config
from swe_aem.train.planning.fit import trainer_estimate
from swe_aem.train.planning.shapes import KNOWN, ModelShape, shape_of

UNIT_TIMEOUT_S = 1800
TOOL_TOKENS = (20, 600)
RESPONSE_TOKENS = (50, 500)
PRODUCT = 8192
"""Rows and columns of the matrix product that arithmetic is compared with."""


def main() -> None:
    """Measure and report."""
    options = _options()
    if options.unit:
        print(json.dumps(_measure(options, options.unit)))
        return
    shapes = options.shape or [Path(read_config(options.config).model).name]
    found: dict[str, dict[str, Any]] = {}
    for shape in shapes:
        print(f"{shape}: {options.steps} steps", file=sys.stderr)
        command = [sys.executable, *sys.argv, "--unit", shape]
        done = subprocess.run(command, capture_output=True, text=True, timeout=UNIT_TIMEOUT_S, check=False)
        if done.returncode != 0:
            print(f"{shape} ended with {done.returncode}:\n{done.stderr[-3000:]}", file=sys.stderr)
            continue
        found[shape] = json.loads(done.stdout.splitlines()[-1])
        if options.json:
            Path(options.json).write_text(json.dumps(found, indent=2))
    _show(found)
    if len(found) < len(shapes):
        sys.exit(1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="a configuration of swe-aem train")
    parser.add_argument("--shape", action="append", choices=KNOWN, help="(default: that of the configuration's model)")
    parser.add_argument("--set", action="append", dest="assignments", default=[], help="NAME=VALUE, as in train")
    parser.add_argument("--steps", type=int, default=2, help="steps, of which the last is timed (default: 2)")
    parser.add_argument("--json", help="file for all figures")
    parser.add_argument("--unit", help=argparse.SUPPRESS)
    return parser.parse_args()


def _measure(options: argparse.Namespace, name: str) -> dict[str, Any]:
    import torch

    from swe_aem.testing.steps import tiny_tokenizer
    from swe_aem.train import loop, models
    from swe_aem.train.models import on_cpu

    assignments = [*options.assignments, f"steps={options.steps}", "heldout=null", "report_to=[]"]
    config = read_config(options.config, assignments)
    shape = shape_of(name if name in KNOWN else config.model).model_copy(update={"tie_word_embeddings": False})
    longest = config.rollout.native.max_context_tokens
    cuda = not on_cpu(config.device)
    device = "cuda" if cuda else "cpu"
    fields = shape.model_dump(exclude={"tie_word_embeddings"})
    model = random_model(device=device, dtype=config.dtype, positions=2 * longest, **fields)
    models.load_model = lambda *_, **__: model
    loop.load_processing = lambda *_: tiny_tokenizer()
    # The checkpoints are not read, and a disk may be too small for them.
    loop.AgentGRPOTrainer._save_checkpoint = loop.AgentGRPOTrainer._save = lambda *_, **__: None
    rate = _product_rate(device, "bfloat16" if config.grpo.bf16 else config.dtype)
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    lengths: list[int] = []
    with tempfile.TemporaryDirectory(prefix="swe-aem-bench-") as directory:
        loop.train(config, Path(directory), lambda *given: _Episodes(lengths, *given))
        last = json.loads((Path(directory) / "metrics.jsonl").read_text().splitlines()[-1])
    rows = lengths[-(len(lengths) // options.steps) :]
    flops = _model_flops(shape, rows, adapter=config.lora is not None)
    planned = trainer_estimate(config, shape, shards=1)
    return {
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "parameters": shape.parameters,
        "rows": len(rows),
        "tokens": sum(rows),
        "longest": max(rows),
        "step_s": last["train_s"],
        "tokens_per_s": sum(rows) / last["train_s"],
        "model_tflops": flops / last["train_s"] / 1e12,
        "product_tflops": rate / 1e12,
        "planned": planned.model_dump(),
        "planned_allocated": planned.total - planned.runtime,
        "planned_total": planned.total,
        "allocated": torch.cuda.max_memory_allocated() if cuda else None,
        "reserved": torch.cuda.max_memory_reserved() if cuda else None,
        "settings": {"config": str(options.config), "assignments": assignments, "dtype": config.dtype},
    }


class _Episodes(ScriptedSteps):
    """Trajectories of many turns; the first of each step has the greatest length allowed."""

    def __init__(self, lengths: list[int], config: TrainConfig, *given: Any) -> None:
        super().__init__(config, *given)
        self._longest = config.rollout.native.max_context_tokens
        self._lengths = lengths
        """Lengths in tokens of all trajectories so far."""

    def _trajectory(self, number: int, group: int, sample: int) -> Trajectory:
        dice = random.Random(f"{number} {group} {sample}")
        length = self._longest if group == sample == 0 else dice.randint(self._longest // 10, self._longest * 6 // 10)
        self._lengths.append(length)
        at, responses = min(2000, length // 4), []
        while at < length:
            end = min(at + dice.randint(*RESPONSE_TOKENS), length)
            responses.append(
                Response(
                    start=at,
                    end=end,
                    logprobs=(-1.0,) * (end - at),
                    version=number - 1,
                    finish_reason="stop",
                    sample_s=0.0,
                )
            )
            at = end + dice.randint(*TOOL_TOKENS)
        reward = float(sample % 2)
        return Trajectory(
            task_id=f"task-{group}",
            sample=sample,
            agent="scripted",
            model="random",
            token_ids=tuple(dice.randrange(2, VOCABULARY) for _ in range(length)),
            responses=tuple(responses),
            outcome=Outcome.RESOLVED if reward else Outcome.UNRESOLVED,
            reward=reward,
        )


def _model_flops(shape: ModelShape, lengths: list[int], *, adapter: bool) -> float:
    """FLOPs of one step: the old policy's pass, a forward and a backward pass over rows of these lengths.

    A product of matrices costs two FLOPs per weight and token, and twice that in the backward pass; half of the latter
    is for the weights' own gradients, which an adapter's step does not need. Causal attention: 2 T^2 per query width.
    """
    products = shape.layers_parameters + shape.embedding_parameters
    queries = shape.num_attention_heads * shape.head_dim
    linear = sum(2.0 * products * length for length in lengths)
    attention = sum(2.0 * shape.attention_layers * queries * length**2 for length in lengths)
    return linear * (3 if adapter else 4) + attention * 4


def _product_rate(device: str, dtype: str) -> float:
    """FLOP/s of a product of two square matrices of random numbers."""
    import torch

    size = PRODUCT if device == "cuda" else PRODUCT // 8
    one, other = (torch.randn(size, size, device=device, dtype=getattr(torch, dtype)) for _ in range(2))
    times = []
    for _ in range(13):
        began_s = time.perf_counter()
        torch.mm(one, other)
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began_s)
    return 2 * size**3 / sorted(times[3:])[5]


def _show(found: dict[str, dict[str, Any]]) -> None:
    table = Table(box=box.MARKDOWN)
    headings = (
        "model", "rows", "tokens", "step s", "tokens/s", "TFLOP/s", "of a matrix product", "held GB", "planned GB",
        "held / planned",
    )  # fmt: skip
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for name, row in found.items():
        held = row["allocated"]
        table.add_row(
            name,
            f"{row['rows']}",
            f"{row['tokens']}",
            f"{row['step_s']:.1f}",
            f"{row['tokens_per_s']:.0f}",
            f"{row['model_tflops']:.3g}",
            f"{100 * row['model_tflops'] / row['product_tflops']:.0f} %",
            f"{held / 1e9:.1f}" if held else "-",
            f"{row['planned_allocated'] / 1e9:.1f}",
            f"{held / row['planned_allocated']:.2f}" if held else "-",
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
