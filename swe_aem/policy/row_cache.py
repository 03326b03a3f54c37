"""The KV cache of a batch whose rows have different lengths, join and leave (torch, Hugging Face's cache interface).

    column  0 1 2 3 4 5        rows begin at column 0; the next token of a row goes behind its own last one;
    row 0   x x x x . .        a row that leaves is replaced by the last row
    row 1   x x . . . .

A step copies only the new tokens, and a row that joins or leaves only itself. When rows or columns run out, everything
is copied into a storage of twice the size.
"""

from typing import Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer


@torch.inference_mode()
def keeps_rows(model: Any) -> bool:
    """Can the states of `model` be kept by row? Yes if each layer has keys and values of one size for every token, and
    nothing else: not with sliding windows, linear attention or compressed keys."""
    cache = DynamicCache(config=model.config)
    if any(type(layer) is not DynamicLayer for layer in cache.layers):
        return False
    model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=model.device), past_key_values=cache, use_cache=True)
    layers: list[Any] = cache.layers
    return all(layer.keys.shape == layer.values.shape and layer.keys.shape[2] == 1 for layer in layers)


class RowCache(Cache):
    """Keys and values of the rows of a batch. Pass it to the model with one token per row and `mask()`, then call
    `advance`."""

    def __init__(self, model: Any) -> None:
        """For models of which `keeps_rows` is true."""
        layers = DynamicCache(config=model.config).layers
        self.lengths: list[int] = []
        """Tokens of each row."""
        self._device = model.device
        self._layers = [_Layer(self.lengths) for _ in layers]
        super().__init__(layers=[*self._layers])

    def add(self, states: torch.Tensor) -> None:
        """Add a row with states (layers, 2, heads, tokens, head size)."""
        for layer, of_layer in zip(self._layers, states, strict=True):
            layer.put(of_layer)
        self.lengths.append(states.shape[3])

    def take(self, row: int) -> torch.Tensor:
        """Remove a row and return a copy of its states; the last row takes its place."""
        length, last = self.lengths[row], len(self.lengths) - 1
        states = torch.stack([layer.read(row, length) for layer in self._layers])
        for layer in self._layers:
            layer.move(last, row)
        self.lengths[row] = self.lengths[last]
        del self.lengths[last]
        return states

    def positions(self) -> torch.Tensor:
        """Position of each row's next token: (rows, 1)."""
        return torch.tensor(self.lengths, device=self._device).unsqueeze(1)

    def mask(self) -> torch.Tensor:
        """(rows, columns): 1 where a row has a token or is about to get one."""
        columns = torch.arange(max(self.lengths) + 1, device=self._device)
        return (columns <= self.positions()).long()

    def advance(self) -> None:
        """Count the token of each row that the model has just read."""
        self.lengths[:] = [length + 1 for length in self.lengths]


class _Layer(DynamicLayer):
    """The rows of one layer; `lengths` is the list of the `RowCache`."""

    def __init__(self, lengths: list[int]) -> None:
        super().__init__()
        self._lengths = lengths
        self._storage = torch.zeros(2, 0, 0, 0, 0)
        """Keys and values: (2, at least rows, heads, at least columns, head size). Positions without a token are zero:
        the model reads them with weight 0."""

    def put(self, states: torch.Tensor) -> None:
        """Add a row with states (2, heads, tokens, head size)."""
        row, tokens = len(self._lengths), states.shape[2]
        if not self._storage.numel():
            self._storage = states.new_zeros(2, 0, states.shape[1], 0, states.shape[3])
        self._grow(row + 1, tokens)
        self._storage[:, row, :, :tokens] = states

    def read(self, row: int, length: int) -> torch.Tensor:
        """States of a row, in the shape that `put` takes."""
        return self._storage[:, row, :, :length]

    def move(self, source: int, target: int) -> None:
        """Copy a row over another row."""
        self._storage[:, target] = self._storage[:, source]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write one token per row, and return the keys and values of all rows with it."""
        rows, columns = len(self._lengths), max(self._lengths) + 1
        states = torch.stack([key_states[:, :, 0], value_states[:, :, 0]])
        self._grow(rows, columns)
        row = torch.arange(rows, device=states.device)
        column = torch.tensor(self._lengths, device=states.device)
        for number in (0, 1):
            self._storage[number, row, :, column] = states[number]
        keys, values = self._storage[:, :rows, :, :columns]
        return keys, values

    def get_seq_length(self) -> int:
        """Number of columns so far."""
        return max(self._lengths, default=0)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """The number of columns with the coming tokens, and the first column."""
        return self.get_seq_length() + query_length, 0

    def _grow(self, rows: int, columns: int) -> None:
        _, had_rows, heads, had_columns, size = self._storage.shape
        if had_rows >= rows and had_columns >= columns:
            return
        rows = had_rows if rows <= had_rows else max(rows, 2 * had_rows)
        columns = had_columns if columns <= had_columns else max(columns, 2 * had_columns)
        grown = self._storage.new_zeros(2, rows, heads, columns, size)
        grown[:, :had_rows, :, :had_columns] = self._storage
        self._storage = grown
