"""What the rows of one forward and backward pass take on a GPU, by arithmetic. docs/memory.md explains each term.

    kept between the passes  +  buffers  +  the larger of (a layer's backward pass, the head's)

In bytes, and exact but for adapters on mixtures. What kernels take on their way is not in it.
"""

from swe_aem.core.base import Frozen
from swe_aem.train.head_tiles import tile_columns, tile_tokens
from swe_aem.train.passes import AS_IT_IS, PassSettings
from swe_aem.train.planning.shapes import ModelShape

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
ADAPTER_DTYPE = "float32"
"""peft holds adapters of 16-bit models in it."""
_IDS_BYTES = 34
"""Bytes of a token: its id, position and label, what it is scored with, and the scales of two norms."""
_NORM_WIDTHS = 24
"""Bytes per width of the model in the backward pass of a norm: what it keeps, and its gradients in float32."""


class Rows(Frozen):
    """The rows of a pass."""

    tokens: int
    """Tokens of all rows, padding included."""
    mask_entries: int = 0
    """Entries of the mask that keeps rows and what comes later apart; 0: attention needs none."""
    stores_matrix: bool = False
    """Does attention store a matrix for each head, with an entry for each of the mask (eager)?"""


class MicroStep(Frozen):
    """Bytes of a pass, beside weights and what belongs to them."""

    kept: float
    layer: float
    head: float
    buffers: float


def micro_step(
    shape: ModelShape,
    rows: Rows,
    compute: str,
    *,
    autocast: bool,
    checkpointing: bool,
    passes: PassSettings = AS_IT_IS,
    lora_rank: int | None = None,
    expert_adapters: bool = False,
    head_gradient: int | None = None,
) -> MicroStep:
    """A pass of these rows. `head_gradient` is the bytes of a weight of the head where it is trained and not in shards:
    its gradient is summed in float32 beside the one that is kept."""
    tokens, layers = rows.tokens, shape.num_hidden_layers
    between = 4 if autocast else BYTES[compute]
    saved = layer_bytes(shape, compute, lora_rank, autocast=autocast, expert_adapters=expert_adapters)
    saved += 8 * shape.num_attention_heads + 4 * shape.num_key_value_heads
    flight = in_flight_bytes(shape, compute, lora_rank, autocast=autocast)
    inputs = shape.hidden_size * between
    attended = BYTES[compute] * shape.num_attention_heads * shape.head_dim + 4 * shape.num_attention_heads
    if shape.delta_nets is not None:  # what layers of a hybrid keep is not known, and not counted
        kept, layer = layers * inputs, 0.0
    elif not checkpointing:
        kept, layer = layers * saved, flight
        if lora_rank is None and between == BYTES[compute] == 4:
            layer += inputs
    else:
        kept = (1 if passes.activation_offloading else layers) * inputs
        layer = saved + flight
        if passes.selective_checkpointing:
            kept += layers * attended
            layer -= attended
    in_layers, of_all = _matrix_bytes(shape, rows, compute, between, checkpointing=checkpointing)
    return MicroStep(
        kept=float(tokens * kept + (0 if checkpointing else in_layers)),
        layer=float(tokens * layer + (in_layers if checkpointing else 0)),
        head=max(
            _head_bytes(shape, tokens, compute, between, passes, head_gradient),
            float(tokens * shape.hidden_size * _NORM_WIDTHS),
        ),
        buffers=float(tokens * (2 * shape.head_dim * between + _IDS_BYTES) + of_all),
    )


def in_flight_bytes(shape: ModelShape, compute: str, lora_rank: int | None, *, autocast: bool) -> float:
    """Per token, what a layer's backward pass has at its peak beside what is kept of the layer: in the gate of the MLP,
    or where tokens come back from experts."""
    size, hidden = BYTES[compute], shape.hidden_size
    if shape.num_experts:
        return (0 if autocast or size == 4 else 2 * hidden) + 3 * (
            4 if autocast else size
        ) * shape.num_experts_per_tok * hidden
    gates = 2 * size * shape.intermediate_size
    if lora_rank is None:
        return gates + (0 if autocast or size == 4 else 2 * hidden)
    if autocast:
        return gates + size * shape.intermediate_size + 10 * hidden
    return gates + (0 if size == 4 else 12 * hidden)


def _matrix_bytes(
    shape: ModelShape, rows: Rows, compute: str, between: int, *, checkpointing: bool
) -> tuple[float, float]:
    """What a mask of attention and its matrices take in the layers that are held at once, and in all."""
    held = 1 if checkpointing else shape.num_hidden_layers
    if rows.stores_matrix:
        heads, size = shape.num_attention_heads, BYTES[compute]
        kept = heads * (4 if size == 4 else 6)
        return float(rows.mask_entries * ((held - 1) * kept + 12 * heads)), float(rows.mask_entries * between)
    return float(rows.mask_entries * held * BYTES[compute]), float(rows.mask_entries)


def _head_bytes(
    shape: ModelShape, tokens: int, compute: str, between: int, passes: PassSettings, head_gradient: int | None
) -> float:
    """Most of the head's backward pass: what the last norm keeps, the values that are scored, their gradient in float32
    and as layers take it, a tile of logits, what it is made of, and the gradient of the weights."""
    size, hidden = BYTES[compute], shape.hidden_size
    columns, high = tile_columns(passes.head_tile_mb, shape.vocab_size, size), tile_tokens(tokens)
    values = hidden * (4 + 2 * between + 4 + (between if between != 4 else 0))
    tile = high * columns * size + (0 if between == size else (2 * columns + high) * hidden * size)
    gradient = (
        0 if head_gradient is None else shape.embedding_parameters * (4 + (0 if head_gradient == 4 else head_gradient))
    )
    return float(tokens * values + tile + gradient)


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
