"""What a training process and a vLLM server hold in memory, by arithmetic. docs/memory.md explains each term.

    trainer  = (weights + gradients + 2 moments) / shards  +  weights to compute with  +  activations  +  head
    server   = weights / tensor parallel  +  KV cache

All in bytes, per GPU. Exact for weights, gradients, moments and KV cache; activations are what autograd keeps for the
backward pass of an attention that stores no matrix (SDPA, flash), and the largest layer while it is computed again.
"""

from swe_aem.core.base import Frozen
from swe_aem.train.planning.shapes import ModelShape

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_HEAD_TOKENS = 256
"""Tokens whose logits TRL's fused head has at a time."""
ADAPTER_DTYPE = "float32"
"""peft holds adapters of 16-bit models in it."""
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
    activations: float
    head: float
    runtime: float = _RUNTIME_BYTES

    @property
    def total(self) -> float:
        """Sum of all parts."""
        return sum(self.model_dump().values())


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


def layer_bytes(
    shape: ModelShape,
    compute: str,
    lora_rank: int | None = None,
    *,
    autocast: bool = False,
    expert_adapters: bool = False,
) -> float:
    """Per token, what autograd keeps of one layer. Norms keep their inputs in float32: the layer's twice, queries and
    keys. Full training also keeps what goes into each product of matrices and out of each norm, attention's inputs and
    output, and the gate's. Where the matrices are frozen their inputs are not kept, but an adapter keeps its own, in
    float32, its own copy of each unless the layer computes in that anyway. Under autocast norms give float32, each of
    the five products behind them keeps a 16-bit copy of its own, and adapters compute in 16 bits too."""
    if shape.num_experts:
        return _mixture_layer_bytes(shape, compute, lora_rank, autocast=autocast, expert_adapters=expert_adapters)
    hidden, gate = shape.hidden_size, shape.intermediate_size
    queries = shape.num_attention_heads * shape.head_dim
    keys = shape.num_key_value_heads * shape.head_dim
    norms = 4 * (2 * hidden + queries + keys)
    size = BYTES[compute]
    if lora_rank is None:
        normed = 4 * 2 * hidden + size * 5 * hidden if autocast else size * 4 * hidden
        return norms + normed + size * (3 * queries + 3 * keys + 4 * gate)
    if compute == "float32":
        return norms + 4 * (7 * lora_rank + 2 * hidden + 2 * queries + 2 * keys + 4 * gate)
    adapter = size if autocast else BYTES[ADAPTER_DTYPE]
    copies = adapter * (7 * lora_rank + 5 * hidden + queries + gate)
    return norms + copies + size * (2 * queries + 2 * keys + 3 * gate)


def _mixture_layer_bytes(
    shape: ModelShape, compute: str, lora_rank: int | None, *, autocast: bool, expert_adapters: bool
) -> float:
    """`layer_bytes` of a layer with experts. Behind the norm are four products, the fourth the router's. For each
    expert that a token goes to, the grouped products keep their inputs and the gate's where experts or their
    adapters are trained, the gate's and the output in any case, and places of 36 bytes; autocast leaves them in
    float32. The router's softmax is float32."""
    hidden, gate = shape.hidden_size, shape.intermediate_size
    queries = shape.num_attention_heads * shape.head_dim
    keys = shape.num_key_value_heads * shape.head_dim
    size = BYTES[compute]
    norms = 4 * (2 * hidden + queries + keys)
    trained = lora_rank is None or expert_adapters
    chosen = (4 if autocast else size) * (2 * hidden + 4 * gate if trained else hidden + 3 * gate) + 36
    experts = shape.num_experts_per_tok * chosen + 4 * shape.num_experts
    if lora_rank is None:
        normed = 4 * 2 * hidden + size * 4 * hidden if autocast else size * 4 * hidden
        return norms + normed + size * (3 * queries + 3 * keys) + experts
    if compute == "float32":
        return norms + 4 * (4 * lora_rank + hidden + 2 * queries + 2 * keys) + experts
    adapter = size if autocast else BYTES[ADAPTER_DTYPE]
    return norms + adapter * (4 * lora_rank + 3 * hidden + queries) + size * (2 * queries + 2 * keys) + experts


def activation_bytes(
    shape: ModelShape,
    tokens: int,
    compute: str,
    *,
    checkpointing: bool,
    lora_rank: int | None = None,
    autocast: bool = False,
    expert_adapters: bool = False,
) -> float:
    """What `tokens` tokens keep in one forward pass: all layers, or with checkpointing their inputs and the one layer
    that is computed again; and the last norm. Under autocast what goes from layer to layer is float32. Of a hybrid,
    what its layers keep is not known, and not counted."""
    between = 4 if autocast else BYTES[compute]
    last = shape.hidden_size * (4 + between)
    inputs = shape.num_hidden_layers * shape.hidden_size * between
    if shape.delta_nets is not None:
        return float(tokens * (last + inputs))
    layer = layer_bytes(shape, compute, lora_rank, autocast=autocast, expert_adapters=expert_adapters)
    return float(tokens * (last + (inputs + layer if checkpointing else shape.num_hidden_layers * layer)))


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
    tokens: int,
    dtype: str,
    compute: str,
    shards: int,
    checkpointing: bool,
    lora_rank: int | None = None,
    expert_adapters: bool = False,
) -> TrainerMemory:
    """Memory of one of `shards` processes that share the model. `tokens` is the longest row times the rows of a micro
    batch, `dtype` what weights and moments are held in (an adapter's always in float32), `compute` what layers compute
    in: by autocast where they differ, unless the model is in shards, whose layers are gathered in it. Adapters on
    experts are added to the weights of a layer's experts, which a pass then holds once more, and their gradient."""
    size, autocast = BYTES[dtype], compute != dtype and shards == 1
    held = shape.parameters * size / shards
    trained = held
    if lora_rank is not None:
        trained = lora_parameters(shape, lora_rank, experts=expert_adapters) * BYTES[ADAPTER_DTYPE] / shards
        held += trained
    activations = activation_bytes(
        shape,
        tokens,
        compute,
        checkpointing=checkpointing,
        lora_rank=lora_rank,
        autocast=autocast,
        expert_adapters=expert_adapters,
    )
    hidden = tokens * shape.hidden_size * (4 if autocast else BYTES[compute])
    head = 2 * 4 * _HEAD_TOKENS * shape.vocab_size + hidden
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
        later = tokens * layer_bytes(shape, compute, lora_rank, autocast=True, expert_adapters=expert_adapters) + head
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
        activations=activations,
        head=float(head),
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
