"""`CheckpointNames`: the tensors of a model in memory, under the names and in the shapes of its checkpoint.

transformers holds some tensors otherwise than checkpoints do. The experts of a layer, which checkpoints of Qwen3-MoE
have one by one as `experts.N.gate_proj.weight`, are one tensor, `experts.gate_up_proj`. `save_pretrained` reverses that
for a whole model; here it is reversed for each tensor as it comes, so that a model is sent without a second copy of it.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any


class CheckpointNames:
    """Reverses transformers' conversion of one model: of what its checkpoint was loaded with, or of its architecture if
    it was not loaded from one."""

    def __init__(self, model: Any) -> None:
        """Asks transformers what becomes of each tensor of the model's state dict; no weights are read or copied."""
        from swe_aem.train.weight_stream import empty_state

        self._model = model
        empty = empty_state(model)
        whole = self._reverted(empty)
        self.shapes: Mapping[str, tuple[int, ...]] = {name: tuple(tensor.shape) for name, tensor in whole.items()}
        """Shapes of the checkpoint's tensors, by name."""
        self._together = {name for name, tensor in empty.items() if not self._alone(name, tensor)}

    def __call__(self, tensors: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
        """The checkpoint's names and tensors, made from those of the state dict as they come. A tensor of the
        checkpoint may be a view into one of the model. Those that several tensors of the model make are held until the
        last of them is there."""
        waiting: dict[str, Any] = {}
        for name, tensor in tensors:
            if name in self._together:
                waiting[name] = tensor
            else:
                yield from self._reverted({name: tensor}).items()
        yield from self._reverted(waiting).items()

    def _alone(self, name: str, tensor: Any) -> bool:
        """Does the tensor, reverted without any other, give what it gives among all?"""
        try:
            found = self._reverted({name: tensor})
        except Exception:  # whatever an operation of transformers raises that lacks its other tensors
            return False
        return all(self.shapes.get(one) == tuple(made.shape) for one, made in found.items())

    def _reverted(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        from transformers.core_model_loading import revert_weight_conversion

        return revert_weight_conversion(self._model, dict(tensors))
