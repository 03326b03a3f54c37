"""Train the tiny policy under FSDP2 in one of two gloo processes, its rows one by one and packed: `sharded_packed.py
RANK PORT LIMIT OUT`. With COMPILED behind, the layers that take packed rows are compiled. Prints how far the weights
have moved, and how far apart they are.
"""

import json
import sys
from typing import Any

from tests.train import pair

rank, port, _, out, *compiled = sys.argv[1:]
pair.join(rank, port)

import torch  # noqa: E402
from datasets import Dataset  # noqa: E402

from swe_aem.advantage.config import AEMConfig  # noqa: E402
from swe_aem.testing.steps import ScriptedFeed, tiny_model, tiny_prompts, tiny_tokenizer  # noqa: E402
from swe_aem.train.grpo import AgentGRPOTrainer  # noqa: E402
from swe_aem.train.passes import PassSettings  # noqa: E402
from swe_aem.train.processes import Processes  # noqa: E402
from tests.train.fsdp import shard_on_cpus  # noqa: E402
from tests.train.tiny_config import tiny_config  # noqa: E402

MICRO_STEPS = [0, 1, 1, 2]
"""Of the rows of each process."""


def trained(*, packed: bool) -> dict[str, Any]:
    """The weights after an update of four rows in each process; only the first process has them."""
    alone = 1 if packed else len(MICRO_STEPS)
    config = tiny_config(
        f"{out}.runs",
        per_device_train_batch_size=len(MICRO_STEPS) // alone,
        gradient_accumulation_steps=alone,
        steps_per_generation=alone,
        max_steps=1,
        optim="sgd",
        shuffle_dataset=False,
    )
    feed = ScriptedFeed(4)
    trainer = AgentGRPOTrainer(
        model=tiny_model(),
        args=config,
        train_dataset=Dataset.from_list(tiny_prompts(8)),
        processing_class=tiny_tokenizer(),
        rollout_func=lambda prompts, trainer: {**feed(prompts, trainer), "micro_step": MICRO_STEPS},
        advantage=AEMConfig(),
        packed=packed,
        passes=PassSettings(compile="layers" if packed and compiled else "none"),
    )
    trainer.train()
    if packed and compiled:
        assert trainer.state.log_history[0]["compile/graphs"] > 0
    return trainer.accelerator.get_state_dict(trainer.model_wrapped)


def main() -> None:
    """Train twice and compare."""
    torch.compiler.set_default_backend("eager")  # layers become graphs, and no code is generated
    shard_on_cpus("no")
    before = {name: one.detach() for name, one in tiny_model().named_parameters()}
    alone, packed = (trained(packed=each) for each in (False, True))
    if rank == "0":
        print(json.dumps({
            "apart": max(float((one - packed[name]).abs().max()) for name, one in alone.items()),
            "moved": max(float((one - before[name]).abs().max()) for name, one in alone.items()),
        }), flush=True)  # fmt: skip


pair.meet(port)
with Processes(cpu=True, collective_timeout_s=200):
    main()
