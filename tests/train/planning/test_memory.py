"""The formula of docs/memory.md against what real models hold on this CPU."""

import copy
import json
import weakref
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the train extra")

from swe_aem.errors import UserError  # noqa: E402
from swe_aem.train.planning.memory import (  # noqa: E402
    lora_parameters,
    server_memory,
    trainer_memory,
    whole_layer_bytes,
)
from swe_aem.train.planning.micro_step import BYTES, Rows, layer_bytes  # noqa: E402
from swe_aem.train.planning.shapes import KNOWN, ModelShape, shape_of  # noqa: E402

pytestmark = pytest.mark.torch

TOKENS = 192
SHAPES = [
    {"hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 384},
    {"hidden_size": 256, "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 768},
    {"hidden_size": 128, "num_attention_heads": 8, "num_key_value_heads": 2, "intermediate_size": 512},
]


@pytest.fixture(params=SHAPES, ids=["base", "wide", "heads"], scope="module")
def made(request):
    """(shape, a model of it, float32)."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    fields = {**request.param, "num_hidden_layers": 3, "head_dim": 32, "vocab_size": 512}
    config = Qwen3Config(**fields, max_position_embeddings=1024, tie_word_embeddings=False)
    return ModelShape(**fields), Qwen3ForCausalLM(config).float().train()


def forward_bytes(shape, compute, *, checkpointing, lora_rank=None, autocast=False, expert_adapters=False):
    """What a token keeps of all layers, or with checkpointing of their inputs and the layer that is computed again; and
    of the last norm."""
    layer = layer_bytes(shape, compute, lora_rank, autocast=autocast, expert_adapters=expert_adapters)
    between = 4 if autocast else BYTES[compute]
    inputs = shape.num_hidden_layers * shape.hidden_size * between
    of_layers = inputs + layer if checkpointing else shape.num_hidden_layers * layer
    return shape.hidden_size * (4 + between) + of_layers


def kept_bytes(model, run):
    """Bytes of what autograd keeps for the backward pass, weights of the model not counted."""
    weights = {one.untyped_storage()._cdata for one in (model.parameters() if model is not None else ())}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:  # not the address of its data: shards are freed, and addresses come again
            kept[storage._cdata] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = run()
    assert output is not None
    return sum(size for size, _ in kept.values())


def test_weights_gradients_and_moments_are_exact(made):
    shape, model = made
    estimate = trainer_memory(
        shape, rows=Rows(tokens=TOKENS), dtype="float32", compute="float32", shards=1, checkpointing=False
    )
    optimiser = torch.optim.AdamW(model.parameters())
    model(torch.randint(0, 512, (1, 8)), labels=torch.randint(0, 512, (1, 8))).loss.backward()
    optimiser.step()
    assert sum(one.numel() for one in model.parameters()) == shape.parameters
    assert sum(one.nbytes for one in model.parameters()) == estimate.weights
    assert sum(one.grad.nbytes for one in model.parameters()) == estimate.gradients
    moments = [one for state in optimiser.state.values() for one in state.values() if one.dim()]
    assert sum(one.nbytes for one in moments) == estimate.optimiser
    model.zero_grad()


HELD = pytest.mark.parametrize(
    ("dtype", "compute"), [("float32", "float32"), ("bfloat16", "bfloat16"), ("float32", "bfloat16")],
    ids=["float32", "bfloat16", "autocast"],
)  # fmt: skip
"""What weights are held in, and what layers compute in."""


@pytest.mark.parametrize("adapter", [False, True], ids=["full", "lora"])
@HELD
def test_activations_are_within_a_twentieth(made, dtype, compute, adapter):
    """And autocast's copies of the layers' weights to the last byte, but for those of norms, which it leaves alone."""
    from peft import LoraConfig, get_peft_model

    shape, model = made
    model = copy.deepcopy(model).to(getattr(torch, dtype))
    rank, autocast = 16 if adapter else None, dtype != compute
    inner = model.model
    if adapter:
        model = get_peft_model(model, LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"))

    def kept(tokens):
        hidden = torch.randn(1, tokens, shape.hidden_size, dtype=getattr(torch, dtype), requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return kept_bytes(model, lambda: inner(inputs_embeds=hidden, use_cache=False).last_hidden_state)

    per_token = (kept(2 * TOKENS) - kept(TOKENS)) / TOKENS
    assert per_token == pytest.approx(
        forward_bytes(shape, compute, checkpointing=False, lora_rank=rank, autocast=autocast), rel=0.05
    )
    copies = kept(TOKENS) - TOKENS * per_token
    estimate = trainer_memory(
        shape, rows=Rows(tokens=TOKENS), dtype=dtype, compute=compute, shards=1, checkpointing=False, lora_rank=rank
    )
    adapters = 2 * lora_parameters(shape, 16) if adapter and autocast else 0
    assert copies == pytest.approx(estimate.computing + adapters, rel=0.01, abs=100)


@pytest.mark.parametrize("adapter", [False, True], ids=["full", "lora"])
def test_autocasts_copies_of_what_is_trained_live_as_long_as_a_forward_pass(made, adapter):
    """Checkpointing or not; they are gone before the backward pass."""
    from peft import LoraConfig, get_peft_model
    from torch.utils._python_dispatch import TorchDispatchMode

    shape, model = made
    model = copy.deepcopy(model)
    inner = model.model
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if adapter:
        model = get_peft_model(model, LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    weights = {one.data_ptr() for one in model.parameters()}
    copies = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, op, types, args=(), kwargs=None):
            result = op(*args, **(kwargs or {}))
            if op is torch.ops.aten._to_copy.default and args[0].data_ptr() in weights:
                copies.append((weakref.ref(result), result.nbytes))
            return result

    def alive():
        return sum(size for copied, size in copies if copied() is not None)

    with torch.autocast("cpu", torch.bfloat16), Watch():
        hidden = inner(torch.randint(0, 512, (1, 64)), use_cache=False).last_hidden_state
        found = alive()
    trained = lora_parameters(shape, 16) if adapter else shape.num_hidden_layers * shape.layer_parameters
    assert found == pytest.approx(2 * trained, rel=0.01)
    assert alive() == 0
    assert hidden.requires_grad


@pytest.mark.parametrize(("name", "tokens", "forward"), [("Qwen3-8B", 1024, True), ("Qwen3-1.7B", 32768, False)])
def test_a_forward_pass_counts_where_its_copies_take_more_than_a_backward_passes_layer(name, tokens, forward):
    shape = KNOWN[name]
    found = trainer_memory(
        shape, rows=Rows(tokens=tokens), dtype="float32", compute="bfloat16", shards=1, checkpointing=True
    )
    backward = max(found.layer, found.head)
    one = 2 * shape.layer_parameters
    assert found.computing == pytest.approx(shape.num_hidden_layers * one - backward if forward else one)


@pytest.fixture
def alone():
    """A mesh of this process and its CPU."""
    import torch.distributed as dist

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield dist.init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_shards_compute_in_the_dtype_that_layers_are_gathered_in(made, alone, checkpointing):
    """FSDP2's policy as the trainer sets it casts what goes into a layer: autocast around it changes nothing."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    shape, model = made
    model = copy.deepcopy(model).model
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, output_dtype=torch.bfloat16)
    for part in (*model.layers, model):
        fully_shard(part, mesh=alone, mp_policy=policy)

    def kept(tokens):
        ids = torch.randint(0, 512, (1, tokens))
        with torch.autocast("cpu", torch.bfloat16):
            return kept_bytes(None, lambda: model(ids, use_cache=False).last_hidden_state)

    per_token = (kept(2 * TOKENS) - kept(TOKENS)) / TOKENS
    estimate = forward_bytes(shape, "bfloat16", checkpointing=checkpointing)
    if checkpointing:
        estimate -= layer_bytes(shape, "bfloat16")
    assert per_token == pytest.approx(estimate, rel=0.05)


@pytest.mark.parametrize("tied", [False, True])
def test_what_is_whole_beside_shards_is_the_head_and_its_gradients(alone, tied):
    """To a thousandth, where the head is larger than layers; grouped as accelerate groups a model."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
    from torch.utils._python_dispatch import TorchDispatchMode
    from transformers import Qwen3Config, Qwen3ForCausalLM

    utils = pytest.importorskip("trl.trainer.utils", reason="needs the train extra")
    fields = {**SHAPES[0], "num_hidden_layers": 3, "head_dim": 32, "vocab_size": 16384, "tie_word_embeddings": tied}
    shape, model = ModelShape(**fields), Qwen3ForCausalLM(Qwen3Config(**fields)).train()
    utils.add_fused_lm_head(model)
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, output_dtype=torch.bfloat16)
    ends = [model.model.norm, *([model.model.embed_tokens] if tied else []), model.lm_head]
    for part in (*model.model.layers, *([] if tied else [model.model.embed_tokens])):
        fully_shard(part, mesh=alone, mp_policy=policy, reshard_after_forward=True)
    fully_shard(ends, mesh=alone, mp_policy=policy, reshard_after_forward=False)
    fully_shard(model, mesh=alone, mp_policy=policy)

    def micro_batch():
        ids = torch.randint(0, 512, (1, 4))
        with torch.autocast("cpu", torch.bfloat16):
            model(input_ids=ids, labels=ids, fused_lm_head=True).loss.backward()

    seen, peaks = {}, [0]

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, op, types, args=(), kwargs=None):
            result = op(*args, **(kwargs or {}))
            for one in torch.utils._pytree.tree_leaves((result, args, kwargs)):
                if type(one) is torch.Tensor:
                    seen[one.untyped_storage()._cdata] = weakref.ref(one.untyped_storage())
            alive = [storage for one in seen.values() if (storage := one()) is not None]
            peaks[0] = max(peaks[0], sum(storage.nbytes() for storage in alive))
            return result

    micro_batch()
    with Watch():
        micro_batch()
    weights_and_gradients = 2 * 4 * shape.parameters
    assert peaks[0] - weights_and_gradients == pytest.approx(whole_layer_bytes(shape, "bfloat16"), rel=1e-3)


@HELD
def test_checkpointed_activations_are_layer_inputs_and_one_layer(made, dtype, compute):
    """What is kept between the passes, and what one layer keeps while it is computed again."""
    shape, model = made
    model, autocast = copy.deepcopy(model).to(getattr(torch, dtype)), dtype != compute
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    def between(tokens):
        ids = torch.randint(0, 512, (1, tokens))
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return kept_bytes(model, lambda: model.model(ids, use_cache=False).last_hidden_state)

    def layer(tokens):
        hidden = torch.randn(1, tokens, shape.hidden_size, dtype=getattr(torch, dtype), requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            positions = model.model.rotary_emb(hidden, torch.arange(tokens)[None])
            return kept_bytes(model, lambda: model.model.layers[0](hidden, position_embeddings=positions))

    found = between(2 * TOKENS) - between(TOKENS)
    model.gradient_checkpointing_disable()
    found += layer(2 * TOKENS) - layer(TOKENS)
    assert found / TOKENS == pytest.approx(
        forward_bytes(shape, compute, checkpointing=True, autocast=autocast), rel=0.06
    )


def test_an_adapter_is_exact(made):
    from peft import LoraConfig, get_peft_model

    shape, model = made
    adapted = get_peft_model(copy.deepcopy(model), LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    trained = sum(one.numel() for one in adapted.parameters() if one.requires_grad)
    assert trained == lora_parameters(shape, 4)


@given(st.sampled_from(sorted(KNOWN)), st.integers(1, 64), st.integers(1, 65536))
def test_more_shards_never_take_more_and_more_tokens_never_less(name, shards, tokens):
    def total(shards, tokens):
        return trainer_memory(
            KNOWN[name],
            rows=Rows(tokens=tokens),
            dtype="float32",
            compute="bfloat16",
            shards=shards,
            checkpointing=True,
        )

    one, more = total(shards, tokens), total(2 * shards, tokens)
    assert more.weights + more.gradients + more.optimiser < one.weights + one.gradients + one.optimiser
    assert total(shards, 2 * tokens).total > one.total


def test_known_shapes_are_of_the_size_in_their_name():
    for name, shape in KNOWN.items():
        size = next(part for part in name.split("-")[1:] if part.endswith("B"))
        assert shape.parameters / 1e9 == pytest.approx(float(size[:-1]), rel=0.28)
    assert KNOWN["Qwen3-8B"].parameters == 8_190_735_360
    assert KNOWN["Qwen3-32B"].parameters == 32_762_123_264


def test_a_model_directory_tells_its_shape(tmp_path):
    assert shape_of("configs/quickstart/policy").num_hidden_layers == 4
    assert shape_of("models/Qwen3-8B") == KNOWN["Qwen3-8B"]
    with pytest.raises(UserError, match=r"no config\.json"):
        shape_of(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "other"}))
    with pytest.raises(UserError, match="not a decoder"):
        shape_of(str(tmp_path))


@pytest.mark.parametrize("path", sorted(Path("configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_plans_without_a_gpu(path):
    """Which also says what is missing here; where a size is planned, it fits."""
    from swe_aem.train.config import read_config
    from swe_aem.train.planning.plan import plan

    lines = "\n".join(plan(read_config(path), Path("runs") / path.stem))
    assert "million parameters" in lines
    assert "DOES NOT FIT" not in lines
    if path.stem != "quickstart":
        assert "memory per trainer GPU" in lines
        assert "MISSING server" in lines
        assert "MISSING model: hf download" in lines


def test_a_missing_server_is_named_with_the_command_that_starts_it():
    from swe_aem.train.config import read_config
    from swe_aem.train.planning.plan import plan

    expected = {
        "lora-1gpu": "swe-aem serve models/Qwen3-8B --port 8000 --sync lora --dtype bfloat16"
        " --max-model-tokens 16384 -- --gpu-memory-utilization 0.4",
        "qwen3-8b-1node": "CUDA_VISIBLE_DEVICES=7 swe-aem serve models/Qwen3-8B --port 8003 --sync file"
        " --dtype bfloat16 --max-model-tokens 32768 -- --gpu-memory-utilization 0.9",
        "qwen3-32b-8xh200": "CUDA_VISIBLE_DEVICES=4,5 swe-aem serve models/Qwen3-32B --port 8001 --sync lora"
        " --dtype bfloat16 --tensor-parallel 2 --max-model-tokens 32768 -- --gpu-memory-utilization 0.9",
    }
    for name, command in expected.items():
        lines = list(plan(read_config(Path("configs") / f"{name}.yaml"), Path("runs") / name))
        assert any(line.startswith("MISSING server") and line.endswith(command) for line in lines), lines


def test_what_does_not_fit_says_so():
    from swe_aem.train.config import read_config
    from swe_aem.train.planning.plan import plan

    config = read_config(Path("configs/qwen3-8b-1node.yaml"), ["hardware.trainer_gpus=1", "hardware.sharding=none"])
    lines = list(plan(config, Path("runs/x")))
    assert any(line.startswith("REFUSED: 32768 tokens in a micro-step take") for line in lines)
    assert any(line.endswith("of 80; DOES NOT FIT") for line in lines)
    small = server_memory(KNOWN["Qwen3-32B"], gpu_bytes=40e9, tensor_parallel=1)
    assert small.cache_tokens == 0


@pytest.mark.parametrize(("settings", "copies"), [(["dtype=float32"], 36 + 4), (["dtype=bfloat16"], 18 + 4)])
def test_the_planned_disk_holds_the_third_checkpoint_while_it_is_written(settings, copies):
    """Two are kept, each of weights and two moments; servers take weights in bfloat16, twice."""
    from swe_aem.train.config import read_config
    from swe_aem.train.planning.plan import plan

    lines = list(plan(read_config(Path("configs/qwen3-8b-1node.yaml"), settings), Path("runs/x")))
    assert f"disk: {KNOWN['Qwen3-8B'].parameters * copies / 1e9:.0f} GB for checkpoints" in lines[-1]


@pytest.mark.bubblewrap
@pytest.mark.usefixtures("require_bubblewrap")
def test_a_plan_counts_images_that_are_not_here(tmp_path):
    from swe_aem.train.config import read_config
    from swe_aem.train.planning.plan import plan

    rows = [json.loads(line) for line in Path("tasks/nano/train.jsonl").read_text().splitlines()[:3]]
    (tmp_path / "functions").symlink_to(Path("tasks/nano/functions").resolve())
    config = read_config(Path("configs/quickstart.yaml"), [f"rollout.tasks={tmp_path}"])
    for images, expected in (
        (["a:1", "b:1", "b:1"], "MISSING images: 2 of 2, e.g. image 'a:1' has no unpacked root"),
        (None, "images: 1, all here"),
    ):
        made = [row | {"image": image} for row, image in zip(rows, images, strict=True)] if images else rows
        (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
        lines = list(plan(config, tmp_path / "run"))
        assert lines[0].startswith("3 tasks, ")
        assert lines[1].startswith(expected)
