"""Train the tiny policy for some steps, in this process or as one of two: `processes.py RANK PORT LIMIT OUT ROWS`. The
first process writes its parameters.
"""

import sys

from tests.train import pair


def train(out: str, rows: int) -> None:
    """Train with so many rows per process, and write parameters and figures to the file `out`."""
    import torch
    from datasets import Dataset

    from swe_aem.advantage.config import AEMConfig, ImportanceSamplingConfig
    from swe_aem.testing.steps import ScriptedFeed, tiny_model, tiny_prompts, tiny_tokenizer
    from swe_aem.train.grpo import AgentGRPOTrainer
    from tests.train.tiny_config import tiny_config

    config = tiny_config(
        f"{out}.runs",
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=2,
        num_iterations=2,
        optim="sgd",
        shuffle_dataset=False,
    )
    trainer = AgentGRPOTrainer(
        model=tiny_model(),
        args=config,
        train_dataset=Dataset.from_list(tiny_prompts(8)),
        processing_class=tiny_tokenizer(),
        rollout_func=ScriptedFeed(4, lost=[1]),
        advantage=AEMConfig(),
        importance_sampling=ImportanceSamplingConfig(mode="mask", low=0.002),
    )
    trainer.train()
    if trainer.accelerator.is_main_process:
        logged = [entry for entry in trainer.state.log_history if "aem/alpha_std" in entry]
        ours = [name for name in logged[0] if name.startswith(("aem/", "importance/"))]
        figures = {name: [entry[name] for entry in logged] for name in ours}
        model = trainer.accelerator.unwrap_model(trainer.model)
        torch.save({"parameters": [p.detach() for p in model.parameters()], "figures": figures}, out)


if __name__ == "__main__":
    rank, port, _, out, rows = sys.argv[1:]
    pair.join(rank, port)
    train(out, int(rows))
