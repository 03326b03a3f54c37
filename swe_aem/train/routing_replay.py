"""`RoutingReplay`: the trainer's tokens go to the experts that they went to when they were sampled (R3).

The server and the trainer compute the same router in different ways, and where two experts are nearly as good, each
picks its own. One other expert changes a token's log-probability far more than rounding does, and the importance ratio
with it. Replay takes the sampler's choice; how much each chosen expert counts is still computed from the trainer's own
router, which learns from it.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from swe_aem.errors import UserError
from swe_aem.train.architecture import SOFTMAX_ROUTERS

FREE = -1
"""In place of an expert: the trainer's router decides."""


class RoutingReplay:
    """Sits on all routers of a model, and does nothing before it is given routes."""

    def __init__(self, model: Any) -> None:
        """Raises `UserError` for a model whose routers are not known to choose by a softmax over all experts."""
        kind = model.config.model_type
        routers = {name: one for name, one in model.named_modules() if name.endswith(".mlp.gate")}
        if kind not in SOFTMAX_ROUTERS or not routers:
            raise UserError(
                f"routing_replay knows the routers of {', '.join(sorted(SOFTMAX_ROUTERS))}, and the model is of the "
                f"kind {kind}: leave it out"
            )
        self._routes: Tensor | None = None
        for name, router in routers.items():
            layer = int(name.removesuffix(".mlp.gate").rpartition(".")[2])
            router.register_forward_hook(partial(self._choose, layer))

    def use(self, routes: Tensor | None, prompt: int = 1) -> None:
        """Replay these routes in each pass from now on, also in those that a backward pass makes again; None ends it.

        `routes` is (B, T, layers, experts per token) for rows of `prompt` + T tokens: where a token went, or `FREE`, at
        the position before each of the last T tokens, from which that token was sampled.
        """
        # Nothing before the last prompt token was sampled from, nor from the last token.
        self._routes = None if routes is None else pad(routes, (0, 0, 0, 0, prompt - 1, 1), value=FREE)

    def _choose(self, layer: int, router: Any, args: Any, output: tuple[Tensor, Tensor, Tensor]) -> Any:
        """The router's output with the wanted experts: logits, weights and numbers of the chosen, a row per token."""
        if self._routes is None:
            return None
        logits, _, own = output
        wanted = self._routes[:, :, layer].reshape(-1, own.size(1)).to(own)
        if wanted.size(0) != own.size(0):
            raise ValueError(f"there are routes for {wanted.size(0)} tokens, and the router sees {own.size(0)}")
        chosen = torch.where(wanted == FREE, own, wanted)
        weights = logits.softmax(-1, dtype=torch.float).gather(1, chosen)
        if getattr(router, "norm_topk_prob", True):
            weights = weights / weights.sum(-1, keepdim=True)
        return logits, weights.to(logits.dtype), chosen


def routes_of(rows: Sequence[Any] | None, width: int, device: Any) -> Tensor:
    """(B, width, layers, experts per token) int16: the routes of rows, `FREE` beyond their ends. Raises `UserError` for
    a row without."""
    if rows is None or any(one is None for one in rows):
        raise UserError("routing_replay needs the experts that tokens went to, and a row has none")
    found = [torch.as_tensor(one, dtype=torch.int16) for one in rows]
    return torch.stack([pad(one, (0, 0, 0, 0, 0, width - one.size(0)), value=FREE) for one in found]).to(device)
