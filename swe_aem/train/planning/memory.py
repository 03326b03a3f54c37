"""What a training process and a vLLM server hold in memory, by arithmetic. docs/memory.md explains each term.

    trainer  = (weights + gradients + 2 moments) / shards  +  weights to compute with  +  a micro-step
    server   = weights / tensor parallel  +  KV cache

All in bytes, per GPU. `micro_step` has what the rows of one forward and backward pass take.
"""

from swe_aem.core.base import Frozen
from swe_aem.train.passes import AS_IT_IS, PassSettings
from swe_aem.train.planning.micro_step import ADAPTER_DTYPE, BYTES, Rows, micro_step
from swe_aem.train.planning.shapes import ModelShape

_RUNTIME_BYTES = 2.5e9
"""CUDA context, NCCL and allocator slack."""


class TrainerMemory(Frozen):
    """Bytes per GPU of a training process."""

    weights: float
    gradients: float
    optimiser: float
    computing: float
    """Weights as layers compute with them: the whole layers of shards with their gradients on the way to their shards,
    the 16-bit copies of autocast."""
    kept: float
    """Activations that are kept between the passes."""
    layer: float
    """Most of the backward pass of one layer, which checkpointing computes again before."""
    head: float
    """Most of the backward passes of the head and of the last norm, beside which there is none of a layer."""
    buffers: float
    """What describes the rows: masks of attention, positions, ids."""
    runtime: float = _RUNTIME_BYTES

    @property
    def total(self) -> float:
        """The peak: all parts, but of `layer` and `head` the larger one."""
        return sum(self.model_dump().values()) - min(self.layer, self.head)


class ServerMemory(Frozen):
    """Bytes per GPU of a vLLM server."""

    weights: float
    cache: float
    """What is left for the KV cache."""
    cache_tokens: int
    """Tokens that it holds, over the GPUs of a server."""


def lora_parameters(shape: ModelShape, rank: int, *, experts: bool = False) -> int:
    """Parameters of an adapter on all linear layers but the head; those of a mixture's experts are none, and have one
    each where `experts` says so, with gate and up as one matrix."""
    hidden = shape.hidden_size
    queries = shape.num_attention_heads * shape.head_dim
    keys = shape.num_key_value_heads * shape.head_dim
    ends = shape.attention_layers * (4 * hidden + shape.query_outputs + queries + 2 * keys)
    if shape.delta_nets is not None:
        ends += shape.delta_nets.layers * shape.delta_nets.lora_ends(hidden)
    mlp = 0
    if not shape.num_experts:
        mlp = 3 * (hidden + shape.intermediate_size)
    elif experts:
        mlp = shape.num_experts * (2 * hidden + 3 * shape.intermediate_size)
    if shape.shared_expert_size:
        mlp += 3 * (hidden + shape.shared_expert_size) + hidden + 1
    return rank * (ends + shape.num_hidden_layers * mlp)


def whole_layer_bytes(shape: ModelShape, compute: str) -> float:
    """Most that a process that holds shards has of whole layers, whose gradients FSDP2 reduces in float32 after every
    micro-batch. In a layer's backward pass: that layer, the next one, the gradient of one, and what is being reduced,
    of the layer before or of the head. In the head's: it, and its gradient in float32 and as layers compute. A head
    that is the embedding stays whole, and its gradient, until the pass ends."""
    size, layer, head = BYTES[compute], shape.layer_parameters, shape.embedding_parameters
    tied = shape.tie_word_embeddings
    layers = 3 * size * layer + 4 * (layer if tied else max(layer, head)) + (2 * size * head if tied else 0)
    return float(max(layers, (2 * size + 4) * head))


def trainer_memory(
    shape: ModelShape,
    *,
    rows: Rows,
    dtype: str,
    compute: str,
    shards: int,
    checkpointing: bool,
    passes: PassSettings = AS_IT_IS,
    lora_rank: int | None = None,
    expert_adapters: bool = False,
) -> TrainerMemory:
    """Memory of one of `shards` processes that share the model, with the `rows` of its largest micro-step. `dtype` is
    what weights and moments are held in (an adapter's always in float32), `compute` what layers compute in: by autocast
    where they differ, unless the model is in shards, whose layers are gathered in it. Adapters on experts are added to
    the weights of a layer's experts, which a pass then holds once more, and their gradient."""
    size, autocast = BYTES[dtype], compute != dtype and shards == 1
    held = shape.parameters * size / shards
    trained = held
    if lora_rank is not None:
        trained = lora_parameters(shape, lora_rank, experts=expert_adapters) * BYTES[ADAPTER_DTYPE] / shards
        held += trained
    step = micro_step(
        shape,
        rows,
        compute,
        autocast=autocast,
        checkpointing=checkpointing,
        passes=passes,
        lora_rank=lora_rank,
        expert_adapters=expert_adapters,
        head_gradient=None if lora_rank is not None or shards > 1 else size,
    )
    # Autocast makes no copies of what grouped products take.
    stacked = shape.num_experts * shape.expert_parameters
    one = (shape.layer_parameters - (stacked if autocast else 0)) * BYTES[compute]
    computing = 0.0
    if shards > 1:
        computing = whole_layer_bytes(shape, compute)
    elif autocast and checkpointing and shape.delta_nets is not None:
        computing = one
    elif autocast and checkpointing:
        # Copies of all trained layers live as long as a forward pass, which has no layer of the backward pass yet.
        later = max(step.layer, step.head)
        computing = one if lora_rank is not None else max(one, shape.num_hidden_layers * one - later)
    elif autocast:
        computing = shape.num_hidden_layers * one
    if expert_adapters:
        computing += stacked * size * ((1 if checkpointing else shape.num_hidden_layers) + 1)
    return TrainerMemory(
        weights=held,
        gradients=trained,
        optimiser=2 * trained,
        computing=computing,
        **step.model_dump(),
    )


def cache_bytes_per_token(shape: ModelShape, dtype: str) -> int:
    """Keys and values of one token in all layers with attention."""
    return 2 * shape.attention_layers * shape.num_key_value_heads * shape.head_dim * BYTES[dtype]


def state_bytes(shape: ModelShape, dtype: str) -> int:
    """What a sequence of any length keeps beside its keys and values: the states of a hybrid's delta nets."""
    return 0 if shape.delta_nets is None else shape.delta_nets.state_bytes(BYTES[dtype])


def server_memory(
    shape: ModelShape, *, gpu_bytes: float, tensor_parallel: int, dtype: str = "bfloat16", utilisation: float = 0.9
) -> ServerMemory:
    """Memory of a server over `tensor_parallel` GPUs, of each of which vLLM takes the share `utilisation`."""
    weights = shape.parameters * BYTES[dtype] / tensor_parallel
    cache = gpu_bytes * utilisation - weights - _RUNTIME_BYTES
    tokens = int(max(0.0, cache) * tensor_parallel / cache_bytes_per_token(shape, dtype))
    return ServerMemory(weights=weights, cache=cache, cache_tokens=tokens)
