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
        super().__init__(layers=[_Layer(self.lengths) for _ in layers])

    def add(self, states: torch.Tensor) -> None:
        """A row more, of (layers, 2, heads, tokens, head size)."""
        for layer, (keys, values) in zip(self.layers, states, strict=True):
            layer.put(keys, values)
        self.lengths.append(states.shape[3])

    def take(self, row: int) -> torch.Tensor:
        """Remove a row, whose place the last one takes; returns its states, a copy of them."""
        length, last = self.lengths[row], len(self.lengths) - 1
        states = torch.stack([layer.read(row, length) for layer in self.layers])
        for layer in self.layers:
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

    def put(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        row, tokens = len(self._lengths), keys.shape[1]
        self._make_room(row + 1, tokens, keys, values)
        self.keys[row, :, :tokens], self.values[row, :, :tokens] = keys, values

    def read(self, row: int, length: int) -> torch.Tensor:
        return torch.stack([self.keys[row, :, :length], self.values[row, :, :length]])

    def move(self, source: int, target: int) -> None:
        if source != target:
            self.keys[target], self.values[target] = self.keys[source], self.values[source]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write a token per row; keys and values of all rows with it."""
        rows, columns = len(self._lengths), max(self._lengths) + 1
        self._make_room(rows, columns, key_states[0], value_states[0])
        row = torch.arange(rows, device=key_states.device)
        column = torch.tensor(self._lengths, device=key_states.device)
        self.keys[row, :, column], self.values[row, :, column] = key_states[:, :, 0], value_states[:, :, 0]
        return self.keys[:rows, :, :columns], self.values[:rows, :, :columns]

    def get_seq_length(self) -> int:
        return max(self._lengths, default=0)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def _make_room(self, rows: int, columns: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """For so many rows and columns of the kind of `keys` and `values` (heads, any, size). What has no token is
        zero: the model reads it, with weight 0."""
        had_rows, had_columns = (self.keys.shape[0], self.keys.shape[2]) if self.is_initialized else (0, 0)
        if had_rows >= rows and had_columns >= columns:
            return
        rows = had_rows if rows <= had_rows else max(rows, 2 * had_rows)
        columns = had_columns if columns <= had_columns else max(columns, 2 * had_columns)
        new_keys, new_values = (one.new_zeros(rows, one.shape[0], columns, one.shape[2]) for one in (keys, values))
        if self.is_initialized:
            new_keys[:had_rows, :, :had_columns], new_values[:had_rows, :, :had_columns] = self.keys, self.values
        self.keys, self.values, self.is_initialized = new_keys, new_values, True
