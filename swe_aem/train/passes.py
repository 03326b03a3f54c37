"""How the trainer makes its passes over the model: which activations are kept, where they wait, the tiles of the head,
and whether layers are compiled. Importable without torch.

Checkpointing (`grpo.gradient_checkpointing`) keeps the inputs of layers and computes the rest again in the backward
pass.

    selective    also keeps what attention gave, so that all but attention is computed again
    offloading   the inputs wait in the host's memory; what attention gave does not

The first is TRL's code, whose GRPO trainer has no setting for it, the second one transformers'.
"""

from typing import Annotated, Any

from pydantic import Field

from swe_aem.core.base import Frozen
from swe_aem.errors import UserError
from swe_aem.train.compiled_layers import Compile, compile_layers
from swe_aem.train.head_tiles import LEAST_MB

TileMb = Annotated[int, Field(ge=LEAST_MB)]


class PassSettings(Frozen):
    """The settings of a training run that its passes follow, under the same names."""

    selective_checkpointing: bool = False
    """Checkpointed layers keep the outputs of attention."""
    activation_offloading: bool = False
    """The inputs of checkpointed layers wait in the host's memory."""
    head_tile_mb: TileMb = 256
    """Most that a tile of logits takes, in MiB."""
    compile: Compile = "none"
    """What torch compiles: layers, each kind of layer once; none, nothing."""

    def prepare(self, model: Any) -> None:
        """Have a model make its passes so, and checkpoint layers so whenever checkpointing is turned on: TRL turns it
        off and on again in each step. Raises `UserError` for attention whose outputs cannot be kept."""
        base = model.get_base_model() if hasattr(model, "peft_config") else model
        if self.selective_checkpointing:
            _keep_attention(base)
        if self.activation_offloading:
            _offload(base, selective=self.selective_checkpointing)
        if self.compile == "layers":
            compile_layers(base)


def _keep_attention(model: Any) -> None:
    from trl.models.selective_activation_checkpointing import enable_selective_activation_checkpointing

    if model.config._attn_implementation == "eager":
        raise UserError(
            "selective_checkpointing keeps what a kernel of attention gives, and this model attends by products of "
            "matrices (eager): leave it out, or set another attention"
        )
    enable_selective_activation_checkpointing(model)


def _offload(model: Any, *, selective: bool) -> None:
    # Otherwise torch warns of a change to come. It fails where attention's outputs are told to wait there too.
    kept = {"respect_saved_tensors_hooks": False} if selective else {}
    enable = model.gradient_checkpointing_enable

    def offloading(gradient_checkpointing_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        of_checkpoint = {**(gradient_checkpointing_kwargs or {"use_reentrant": False}), **kept}
        enable(gradient_checkpointing_kwargs=of_checkpoint, **{**kwargs, "offload": True})

    model.gradient_checkpointing_enable = offloading


AS_IT_IS = PassSettings()
"""Nothing is kept but inputs, and on the device; nothing is compiled."""
