"""Cost of AEM: TRL's `GRPOTrainer`, and `AgentGRPOTrainer` without and with modulation, on the same rollouts.

    uv run --all-extras python benchmarks/trainer.py --json trainer.json

Each contender trains a Qwen3 of random weights in a process of its own, one after the other, several rounds. Rollouts
are scripted and ragged, so nothing is sampled. `--shape 1b --device cuda --dtype bfloat16 --tokens 16384` is
the same on a GPU. Compare the ratios.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from weights import random_model

CONTENDERS = {
    "trl": "plain GRPOTrainer",
    "lam=0": "AgentGRPOTrainer, no modulation",
    "lam=1": "AgentGRPOTrainer, AEM",
}
SHAPES: dict[str, dict[str, int]] = {
    "tiny": {},
    "small": {
        "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 8192,
    },
    "1b": {
        "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 20, "num_attention_heads": 16,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 32768,
    },
    "32b": {
        "hidden_size": 5120, "intermediate_size": 25600, "num_hidden_layers": 64, "num_attention_heads": 64,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
    },
}  # fmt: skip
"""Random weights in Qwen3's architecture; `32b` is Qwen3-32B's shape and needs `--lora`."""
GROUP = 4
WARM_UP_STEPS = 2
UNIT_TIMEOUT_S = 1800


def main() -> None:
    """Measure and report."""
    options = _options()
    if options.unit:
        print(json.dumps(_measure(options, options.unit)))
        return
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    for round in range(options.rounds):
        for name in CONTENDERS:
            print(f"round {round + 1} of {options.rounds}: {CONTENDERS[name]}", file=sys.stderr)
            samples[name].append(_in_a_process(name))
    rows = {
        name: {key: statistics.median(sample[key] for sample in found) for key in found[0]}
        for name, found in samples.items()
    }
    _show(rows)
    if options.json:
        settings = {key: value for key, value in vars(options).items() if key not in ("json", "unit")}
        with open(options.json, "w") as file:
            json.dump({"settings": settings, "medians": rows, "samples": samples}, file, indent=2)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="small", help="the model (default: small, 10M parameters)")
    parser.add_argument("--tokens", type=int, default=1024, help="longest row; rows are ragged (default: 1024)")
    parser.add_argument("--groups", type=int, default=2, help=f"groups of {GROUP} per generation (default: 2)")
    parser.add_argument("--micro", type=int, default=2, help="rows per micro-batch (default: 2)")
    parser.add_argument("--steps", type=int, default=6, help="optimiser steps that are timed (default: 6)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: 3)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--lora", action="store_true", help="train adapters of rank 16 instead of all weights")
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations in the backward pass")
    parser.add_argument("--json", help="file for all figures")
    parser.add_argument("--unit", choices=CONTENDERS, help=argparse.SUPPRESS)
    return parser.parse_args()


def _in_a_process(name: str) -> dict[str, float]:
    command = [sys.executable, *sys.argv, "--unit", name]
    env = {**os.environ, "TRL_EXPERIMENTAL_SILENCE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=UNIT_TIMEOUT_S, check=False)
    if done.returncode != 0:
        sys.exit(f"{name} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _measure(options: argparse.Namespace, name: str) -> dict[str, float]:
    """Measure one contender: seconds per step and in AEM, tokens per second, peak memory, a checksum of the weights."""
    import torch
    from datasets import Dataset
    from trl.trainer.grpo_trainer import GRPOTrainer

    from swe_aem.advantage.config import AEMConfig
    from swe_aem.testing.steps import ScriptedFeed, tiny_prompts, tiny_tokenizer
    from swe_aem.train import grpo as grpo_trainer

    per_response = max(4, options.tokens // 10)
    feed = ScriptedFeed(GROUP, responses=(1, 10), tokens=(per_response // 2, per_response - 3))
    model = random_model(
        device=options.device, dtype=options.dtype, positions=2 * options.tokens, **SHAPES[options.shape]
    )
    with tempfile.TemporaryDirectory(prefix="swe-aem-bench-") as directory:
        common: dict[str, Any] = {
            "model": model,
            "args": _config(options, directory),
            "train_dataset": Dataset.from_list(tiny_prompts(8)),
            "processing_class": tiny_tokenizer(),
            "rollout_func": feed,
            "peft_config": _adapters() if options.lora else None,
        }
        own_s: list[float] = []
        if name == "trl":
            trainer: Any = GRPOTrainer(reward_funcs=_rewards, **common)
        else:
            lam = float(name.removeprefix("lam="))
            advantage = AEMConfig(baseline="group_mean", lam=lam)
            trainer = grpo_trainer.AgentGRPOTrainer(advantage=advantage, **common)
            _time_calls(trainer, "_advantages", own_s, options.device)
        steps = _StepClock(options.device)
        trainer.add_callback(steps.callback())
        began = time.perf_counter()
        trainer.train()
        wall_s = time.perf_counter() - began
    timed = steps.seconds[WARM_UP_STEPS:]
    generations = (len(steps.seconds) + 1) // 2
    return {
        "step_s": statistics.median(timed),
        "wall_s": wall_s,
        "own_ms": 1000 * statistics.median(own_s) if own_s else 0.0,
        "own_percent": 100 * statistics.median(own_s) * generations / sum(steps.seconds) if own_s else 0.0,
        "tokens_per_s": trainer.state.num_input_tokens_seen * 2 / sum(steps.seconds),
        "peak_mib": _peak_mib(options.device),
        "weights": float(sum(parameter.detach().double().abs().sum() for parameter in trainer.model.parameters())),
        "parameters": float(sum(parameter.numel() for parameter in model.parameters())),
        "torch": float(torch.get_num_threads()),
    }


def _config(options: argparse.Namespace, directory: str) -> Any:
    from trl.trainer.grpo_config import GRPOConfig

    rows = options.groups * GROUP
    return GRPOConfig(
        output_dir=directory,
        per_device_train_batch_size=options.micro,
        gradient_accumulation_steps=max(1, rows // options.micro // 2),
        steps_per_generation=rows // options.micro,
        num_generations=GROUP,
        max_completion_length=options.tokens,
        max_steps=WARM_UP_STEPS + options.steps,
        learning_rate=1e-6,
        lr_scheduler_type="constant",
        loss_type="dr_grpo",
        scale_rewards="none",
        epsilon_high=0.28,
        bf16=options.dtype == "bfloat16",
        gradient_checkpointing=options.checkpointing,
        use_cpu=options.device == "cpu",
        report_to="none",
        save_strategy="no",
        logging_steps=10**6,
        disable_tqdm=True,
        seed=0,
    )


def _adapters() -> Any:
    from peft import LoraConfig

    return LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", exclude_modules=["lm_head"])


def _rewards(completions: list[Any], reward: list[float | None], **fields: Any) -> list[float | None]:
    return reward


class _StepClock:
    """Seconds of each optimiser step, including the generation that it waits for."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._last_s = 0.0
        self.seconds: list[float] = []

    def callback(self) -> Any:
        from transformers import TrainerCallback

        clock = self

        class Callback(TrainerCallback):
            def on_train_begin(self, *arguments: Any, **state: Any) -> None:
                clock._last_s = _now_s(clock._device)

            def on_step_end(self, *arguments: Any, **state: Any) -> None:
                now_s = _now_s(clock._device)
                clock.seconds.append(now_s - clock._last_s)
                clock._last_s = now_s

        return Callback()


def _time_calls(trainer: Any, method: str, seconds: list[float], device: str) -> None:
    inner = getattr(trainer, method)

    def timed(*arguments: Any) -> Any:
        began_s = _now_s(device)
        result = inner(*arguments)
        seconds.append(_now_s(device) - began_s)
        return result

    setattr(trainer, method, timed)


def _now_s(device: str) -> float:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
    return time.perf_counter()


def _peak_mib(device: str) -> float:
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _show(rows: dict[str, dict[str, float]]) -> None:
    reference = rows["trl"]
    table = Table(box=box.MARKDOWN)
    headings = ("trainer", "step s", "step / TRL's", "tokens/s", "AEM ms", "AEM % of steps", "peak MiB", "peak / TRL's")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "trainer" else "right")
    for name, row in rows.items():
        table.add_row(
            CONTENDERS[name],
            f"{row['step_s']:.3f}",
            f"{row['step_s'] / reference['step_s']:.2f}",
            f"{row['tokens_per_s']:.0f}",
            f"{row['own_ms']:.2f}",
            f"{row['own_percent']:.2f}",
            f"{row['peak_mib']:.0f}",
            f"{row['peak_mib'] / reference['peak_mib']:.2f}",
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
