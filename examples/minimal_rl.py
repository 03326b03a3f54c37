"""Reinforcement learning of a coding agent, with the training loop in plain sight.

    python examples/minimal_rl.py           some minutes on two CPU cores; needs the extra train and bubblewrap

A policy of two million parameters fixes bugs in small files: several attempts per task, each in a sandbox of its own.
The task's tests grade every patch. AEM turns a group's rewards into an advantage per token. Two updates follow.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

import swe_aem as sa

QUICKSTART = Path(__file__).parents[1] / "configs" / "quickstart"
AGENT = {
    "max_turns": 3,
    "max_response_tokens": 96,
    "max_context_tokens": 512,
    "describe_tools": False,
    "prompts": str(QUICKSTART / "prompts"),
}


def rolled_out(tasks: list[sa.TaskRecord], weights: Path, group: int, out: Path) -> list[sa.Trajectory]:
    """`group` graded trajectories per task, sampled with the weights of a directory."""
    run = sa.rollout(
        tasks,
        agent="native",
        policy=str(weights),
        tokenizer=str(QUICKSTART / "policy"),
        group_size=group,
        out=out,
        native=AGENT,
        renderer={"enable_thinking": False},
        limits=dict.fromkeys(("memory_bytes", "cpus", "pids", "disk_bytes")),  # this policy can do no harm with them
        time_limit_s=60,
        scheduling={"concurrency": 64},
    )
    return list(run.trajectories())


def scores(model: torch.nn.Module, trajectories: list[sa.Trajectory]) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, T) log-probability of each token given those before it, and entropy of the distribution it came from."""
    rows = [torch.tensor(one.token_ids) for one in trajectories]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)  # on the right, which a causal model does not see
    logp = model(ids).logits[:, :-1].float().log_softmax(-1)
    chosen, entropy = logp.gather(-1, ids[:, 1:, None]).squeeze(-1), -(logp.exp() * logp).sum(-1)
    return torch.nn.functional.pad(chosen, (1, 0)), torch.nn.functional.pad(entropy, (1, 0))  # the first has neither


def update(model: torch.nn.Module, optimiser: torch.optim.Optimizer, trajectories: list[sa.Trajectory]) -> float:
    """Two steps of the clipped policy gradient over all trajectories; the largest factor of AEM."""
    with torch.no_grad():
        old, entropy = scores(model, trajectories)
    entropies = [row[: len(one.token_ids)] for row, one in zip(entropy, trajectories, strict=True)]
    values, metrics = sa.advantages(trajectories, entropies)
    advantage = torch.nn.utils.rnn.pad_sequence(values, batch_first=True).float()
    for _ in range(2):
        now, _ = scores(model, trajectories)
        ratio = (now - old).exp()
        gain = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.28) * advantage)
        loss = -gain.sum() / sum(len(one.responses) for one in trajectories)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    return metrics.get("alpha_max", 1.0)


def main(arguments: list[str] | None = None) -> list[float]:
    """The share of solved attempts in each step."""
    options = argparse.ArgumentParser()
    for name, default in (("steps", 10), ("tasks", 8), ("group", 8)):
        options.add_argument(f"--{name}", type=int, default=default)
    given = options.parse_args(arguments)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(QUICKSTART / "policy", dtype=torch.float32)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.0)
    tasks = list(sa.load_tasks("tasks/nano", split="train", limit=given.tasks))
    curve: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        for step in range(1, given.steps + 1):
            weights = Path(scratch) / f"weights-{step}"
            model.save_pretrained(weights)
            trajectories = rolled_out(tasks, weights, given.group, Path(scratch) / f"step-{step}")
            solved = [one.outcome == sa.Outcome.RESOLVED for one in trajectories]
            curve.append(sum(solved) / len(solved))
            factor = update(model, optimiser, trajectories)
            bar = "#" * round(40 * curve[-1])
            print(f"step {step:2}  solved {curve[-1]:4.0%}  {bar:40}  largest alpha {factor:.2f}")
    return curve


if __name__ == "__main__":
    main()
