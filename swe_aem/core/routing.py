"""`RoutedExperts`: to which experts of a mixture a server sent the tokens of a response."""

from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from swe_aem.core.base import Frozen

_Count = Annotated[int, Field(ge=1)]


def _bytes_of(value: Any) -> Any:
    return b64decode(value, validate=True) if isinstance(value, str) else value


Base64 = Annotated[
    bytes,
    BeforeValidator(_bytes_of),
    PlainSerializer(lambda value: b64encode(value).decode("ascii"), return_type=str, when_used="json"),
]
"""Bytes that JSON has as base64."""


class RoutedExperts(Frozen):
    """For each token of a response, the experts that the token before it went to, from which it was sampled."""

    layers: _Count
    """Layers of the model, those without experts included."""
    experts_per_token: _Count
    id_bytes: Literal[1, 2]
    """Bytes of an expert's number, little-endian."""
    ids: Base64
    """Numbers of experts, from 0: token by token, in each layer by layer, in each the chosen ones."""

    @model_validator(mode="after")
    def _are_whole_tokens(self) -> "RoutedExperts":
        if len(self.ids) % self._token_bytes:
            raise ValueError(f"{len(self.ids)} bytes of routed experts are no multiple of {self._token_bytes}")
        return self

    @property
    def tokens(self) -> int:
        """How many tokens it is of."""
        return len(self.ids) // self._token_bytes

    @property
    def _token_bytes(self) -> int:
        return self.layers * self.experts_per_token * self.id_bytes

    @staticmethod
    def joined(parts: Sequence["RoutedExperts"]) -> "RoutedExperts":
        """Those of a response whose parts these are of. Raises `ValueError` if models of different shapes made them."""
        first = parts[0]
        if any(one._shape != first._shape for one in parts):
            raise ValueError("the parts of a response have routed experts of models of different shapes")
        return first.model_copy(update={"ids": b"".join(one.ids for one in parts)})

    @property
    def _shape(self) -> tuple[int, int, int]:
        return self.layers, self.experts_per_token, self.id_bytes


def check_routed_experts(routed: RoutedExperts | None, tokens: int) -> None:
    """Raise `ValueError` unless they are of that many tokens, where there are any."""
    if routed is not None and routed.tokens != tokens:
        raise ValueError(f"routed experts of {routed.tokens} tokens, for a response of {tokens}")
