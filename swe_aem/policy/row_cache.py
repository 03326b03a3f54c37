"""The KV cache of a batch whose rows have different lengths and come and go (torch, Hugging Face's cache interface).

    column  0 1 2 3 4 5        rows begin at column 0; the next token of a row goes behind its own last one;
    row 0   x x x x . .        a row that leaves is replaced by the last row
    row 1   x x . . . .

No step copies more than the new tokens, and no coming or going more than the row: only where rows or columns run out
are all copied, to twice the room.
"""

from typing import Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from swe_aem.errors import UserError


class RowCache(Cache):
    """Keys and values of rows. Pass it to the model with one token per row and `mask()`, then call `advance`."""

    def __init__(self, model: Any) -> None:
        """Raises `UserError` for a model that has other layers than full attention: these cannot be kept by row."""
        layers = DynamicCache(config=model.config).layers
        if any(type(layer) is not DynamicLayer for layer in layers):
            raise UserError("this model has layers without full attention; serve it with vLLM (swe-aem serve)")
        self.lengths: list[int] = []
        """Tokens of each row."""
        self._device = model.device
        self._layers = [_Layer(self.lengths) for _ in layers]
        super().__init__(layers=[*self._layers])

    def add(self, states: torch.Tensor) -> None:
        """A row more, of (layers, 2, heads, tokens, head size)."""
        for layer, of_layer in zip(self._layers, states, strict=True):
            layer.put(of_layer)
        self.lengths.append(states.shape[3])

    def take(self, row: int) -> torch.Tensor:
        """Remove a row, whose place the last one takes; returns its states, a copy of them."""
        length, last = self.lengths[row], len(self.lengths) - 1
        states = torch.stack([layer.read(row, length) for layer in self._layers])
        for layer in self._layers:
            layer.move(last, row)
        self.lengths[row] = self.lengths[last]
        del self.lengths[last]
        return states

    def positions(self) -> torch.Tensor:
        """Of the next token: (rows, 1)."""
        return torch.tensor(self.lengths, device=self._device).unsqueeze(1)

    def mask(self) -> torch.Tensor:
        """(rows, columns): 1 where a row has a token or is about to get one."""
        columns = torch.arange(max(self.lengths) + 1, device=self._device)
        return (columns <= self.positions()).long()

    def advance(self) -> None:
        """Count the token that the model has just read for every row."""
        self.lengths[:] = [length + 1 for length in self.lengths]


class _Layer(DynamicLayer):
    """The rows of one layer; `lengths` are the cache's."""

    def __init__(self, lengths: list[int]) -> None:
        super().__init__()
        self._lengths = lengths
        self._room = torch.zeros(2, 0, 0, 0, 0)
        """Keys and values: (2, rows or more, heads, columns or more, head size). What has no token is zero: the model
        reads it, with weight 0."""

    def put(self, states: torch.Tensor) -> None:
        """A row more, of (2, heads, tokens, head size)."""
        row, tokens = len(self._lengths), states.shape[2]
        if not self._room.numel():
            self._room = states.new_zeros(2, 0, states.shape[1], 0, states.shape[3])
        self._make_room(row + 1, tokens)
        self._room[:, row, :, :tokens] = states

    def read(self, row: int, length: int) -> torch.Tensor:
        """States of a row, as `put` takes them."""
        return self._room[:, row, :, :length]

    def move(self, source: int, target: int) -> None:
        """Copy a row over another."""
        self._room[:, target] = self._room[:, source]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write a token per row; keys and values of all rows with it."""
        rows, columns = len(self._lengths), max(self._lengths) + 1
        states = torch.stack([key_states[:, :, 0], value_states[:, :, 0]])
        self._make_room(rows, columns)
        row = torch.arange(rows, device=states.device)
        column = torch.tensor(self._lengths, device=states.device)
        for number in (0, 1):
            self._room[number, row, :, column] = states[number]
        keys, values = self._room[:, :rows, :, :columns]
        return keys, values

    def get_seq_length(self) -> int:
        """Columns so far."""
        return max(self._lengths, default=0)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """(columns with the tokens that come, the first of them)."""
        return self.get_seq_length() + query_length, 0

    def _make_room(self, rows: int, columns: int) -> None:
        _, had_rows, heads, had_columns, size = self._room.shape
        if had_rows >= rows and had_columns >= columns:
            return
        rows = had_rows if rows <= had_rows else max(rows, 2 * had_rows)
        columns = had_columns if columns <= had_columns else max(columns, 2 * had_columns)
        room = self._room.new_zeros(2, rows, heads, columns, size)
        room[:, :had_rows, :, :had_columns] = self._room
        self._room = room
