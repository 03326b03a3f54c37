"""A Qwen3 with random weights, created on the device that trains it: no checkpoint, no copy through the host."""

from typing import Any


def random_model(*, device: str, dtype: str, positions: int, **shape: Any) -> Any:
    """Create the model. `shape` has fields of `Qwen3Config`; missing ones are those of the tiny model."""
    import torch

    from swe_aem.testing.steps import tiny_model

    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with torch.device(device):
            return tiny_model(sharpness=10.0, max_position_embeddings=positions, **shape)
    finally:
        torch.set_default_dtype(before)
