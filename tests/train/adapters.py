"""Adapters that change what a model says: fresh ones add nothing, for their second matrices are zero. Needs torch."""

from typing import Any

import torch


def disturbed(model: Any, std: float) -> Any:
    """The model with random numbers, always the same, in the second matrices of its adapters."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=std)
    return model
