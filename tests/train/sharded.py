"""Train the tiny policy under FSDP2 in one of two gloo processes: `sharded.py RANK PORT LIMIT OUT`, or unsharded with
UNSHARDED behind. Prints a line of what was held after each micro-batch.
"""

import json
import sys
import weakref
from pathlib import Path
from typing import Any

from tests.train import pair

rank, port, _, out, *unsharded = sys.argv[1:]
pair.join(rank, port)

import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torch.distributed.fsdp import FSDPModule  # noqa: E402
from torch.distributed.tensor import DTensor  # noqa: E402

from swe_aem.advantage.config import AEMConfig  # noqa: E402
from swe_aem.serve.handover import consume  # noqa: E402
from swe_aem.serve.pieces import write_pieces  # noqa: E402
from swe_aem.testing.steps import ScriptedFeed, tiny_model, tiny_prompts, tiny_tokenizer  # noqa: E402
from swe_aem.train.grpo import AgentGRPOTrainer  # noqa: E402
from swe_aem.train.processes import Processes  # noqa: E402
from swe_aem.train.weight_stream import WeightStream  # noqa: E402
from tests.train.fsdp import shard_on_cpus  # noqa: E402
from tests.train.tiny_config import tiny_config  # noqa: E402
from tests.train.written import rise  # noqa: E402


def managed(model: Any) -> list[Any]:
    """What FSDP2 knows of each parameter."""
    states = {module._get_fsdp_state() for module in model.modules() if isinstance(module, FSDPModule)}
    return [one for state in states for group in state._fsdp_param_groups for one in group.fsdp_params]


def held(model: Any) -> dict[str, Any]:
    """What this process holds of the gradients: elements of whole ones and of shards, and their formats."""
    whole, shards, formats = 0, 0, set()
    for one in managed(model):
        if (kept := one.unsharded_accumulated_grad) is not None:
            whole += kept.numel()
            formats.add(str(kept.dtype))
        if one.sharded_param.grad is not None:
            shards += one.sharded_param.grad.to_local().numel()
            formats.add(str(one.sharded_param.grad.dtype))
    return {"whole": whole, "shards": shards, "formats": sorted(formats)}


class Watched(AgentGRPOTrainer):
    """Tells what is held after each micro-batch."""

    def training_step(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        loss = super().training_step(model, *args, **kwargs)
        if not unsharded:
            print(json.dumps(held(model)), flush=True)
        return loss


class Held:
    """Names of a stream that change nothing, and count the whole tensors that there are at once."""

    def __init__(self) -> None:
        self._alive: list[Any] = []
        self.most = 0

    def __call__(self, tensors: Any) -> Any:
        for name, tensor in tensors:
            if not tensor.is_meta:
                self._alive.append(weakref.ref(tensor))
            self.most = max(self.most, sum(one() is not None for one in self._alive))
            yield name, tensor
            del tensor


def compare(trainer: Any, gathered: dict[str, Any], dtype: str | None) -> None:
    """Tell whether the stream, written in pieces, is what was gathered."""
    watched = Held()
    stream = WeightStream(trainer, watched, dtype=dtype)
    if rank != "0":
        stream.take_part()
        return
    described = stream.described()
    directory = Path(f"{out}.pieces-{dtype}")
    directory.mkdir()
    assert consume(stream, lambda tensors: write_pieces(directory, described, tensors, piece_bytes=4096)) is None
    pieces = list(directory.glob("*.safetensors"))
    found = {name: one for piece in pieces for name, one in load_file(piece).items()}
    tied = trainer.model.config.tie_word_embeddings
    wanted = {name: one for name, one in gathered.items() if not tied or name != "lm_head.weight"}
    same = found.keys() == wanted.keys() and all(
        torch.equal(found[name], one.to(found[name].dtype)) for name, one in wanted.items()
    )
    print(json.dumps({
        "stream": dtype, "same": same, "formats": sorted({str(one.dtype) for one in found.values()}),
        "tensors": len(found), "at once": watched.most, "pieces": len(pieces),
    }), flush=True)  # fmt: skip


def main() -> None:
    """Train an update of four micro-batches; the first process writes the weights."""
    if not unsharded:
        shard_on_cpus("bf16")
    config = tiny_config(
        f"{out}.runs",
        per_device_train_batch_size=1,
        gradient_accumulation_steps=4,
        steps_per_generation=4,
        max_steps=1,
        optim="sgd",
        bf16=True,
        shuffle_dataset=False,
    )
    trainer = Watched(
        model=tiny_model(),
        args=config,
        train_dataset=Dataset.from_list(tiny_prompts(8)),
        processing_class=tiny_tokenizer(),
        rollout_func=ScriptedFeed(4),
        advantage=AEMConfig(),
    )
    trainer.train()
    model: Any = trainer.model_wrapped
    if not unsharded:
        parameters = list(model.parameters())
        reduced_in = {str(one.reduce_dtype) for one in managed(model)}
        print(json.dumps({
            "all sharded": all(isinstance(one, DTensor) for one in parameters),
            "mine": sum(one.to_local().numel() for one in parameters),
            "all": sum(one.numel() for one in parameters),
            "reduced in": sorted(reduced_in),
        }), flush=True)  # fmt: skip
    weights = trainer.accelerator.get_state_dict(model)
    if not unsharded:
        compare(trainer, weights, None)
        compare(trainer, weights, "bfloat16")
        print(json.dumps(rise(Path(f"{out}.models"), first=rank == "0")), flush=True)
    if rank == "0":
        torch.save(dict(weights), out)


pair.meet(port)
with Processes(cpu=True, collective_timeout_s=200):
    main()
