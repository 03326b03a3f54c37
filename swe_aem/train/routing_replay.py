"""`RoutingReplay`: the trainer's tokens go to the experts that they went to when they were sampled (R3).

The server and the trainer compute the same router in different ways, and where two experts are nearly as good, each
picks its own. One other expert changes a token's log-probability far more than rounding does, and the importance ratio
with it. Replay takes the sampler's choice; how much each chosen expert counts is still computed from the trainer's own
router, which learns from it.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from swe_aem.core import RoutedExperts
from swe_aem.errors import UserError
from swe_aem.train.architecture import SOFTMAX_ROUTERS
from swe_aem.train.training_row import ResponseRoutes

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
        config = model.config
        self._shape = (config.num_hidden_layers, config.num_experts_per_tok)
        self._experts = config.num_experts

    def routes_of(self, rows: Sequence[Any] | None, width: int) -> Tensor:
        """(B, width, layers, experts per token) int16 on the CPU: the routes of rows, each `ResponseRoutes` of its
        responses or an array of that shape without B; `FREE` beyond their ends and where no response was sampled.
        Raises `UserError` for a row without, and for routes of another model."""
        if rows is None or any(one is None for one in rows):
            raise UserError("routing_replay needs the experts that tokens went to, and a row has none")
        routes = torch.full((len(rows), width, *self._shape), FREE, dtype=torch.int16)
        for number, row in enumerate(rows):
            for start, part in _parts(row):
                found = torch.as_tensor(part)
                self._require_own(found)
                routes[number, start : start + len(found)] = found
        return routes

    def _require_own(self, routes: Tensor) -> None:
        """Raise `UserError` for routes, (tokens, layers, experts per token), that cannot be of this model."""
        found, most = tuple(routes.shape[1:]), int(routes.max())
        if found != self._shape or most >= self._experts:
            raise UserError(
                f"routes of another model: (layers, experts per token) are {found} and experts go up to number {most}, "
                f"and the trained model has {self._shape} and {self._experts} experts; serve the model that is trained"
            )

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
        self._routes = self._routes.to(own.device)  # once for all layers
        wanted = self._routes[:, :, layer].reshape(-1, own.size(1)).to(own)
        if wanted.size(0) != own.size(0):
            raise ValueError(f"there are routes for {wanted.size(0)} tokens, and the router sees {own.size(0)}")
        chosen = torch.where(wanted == FREE, own, wanted)
        weights = logits.softmax(-1, dtype=torch.float).gather(1, chosen)
        if getattr(router, "norm_topk_prob", True):
            weights = weights / weights.sum(-1, keepdim=True)
        return logits, weights.to(logits.dtype), chosen


def _parts(row: Any) -> list[tuple[int, Any]]:
    """The first place of each part of a row's routes, and the part."""
    if isinstance(row, list) and all(isinstance(one, ResponseRoutes) for one in row):
        return [(one.start, _array_of(one.experts)) for one in row]
    return [(0, row)]


def _array_of(experts: RoutedExperts) -> Any:
    """(tokens, layers, experts per token) int32, which has all numbers that a store may have."""
    numbers = np.frombuffer(experts.ids, dtype=f"<u{experts.id_bytes}").astype(np.int32)
    return numbers.reshape(experts.tokens, experts.layers, experts.experts_per_token)
