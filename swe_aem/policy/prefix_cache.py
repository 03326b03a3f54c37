"""Keys and values of token sequences that were computed before, found again by the longest beginning in common.

    ids ──blocks of 16──> chain of hashes ──> an entry that begins with the same blocks ──> its first N positions

A trajectory's next prompt begins with its last prompt and response, and the samples of a group share their first
prompt, so most of what an agent sends has been computed. Entries are dropped where others have been used since, once
all of them are larger than a bound. Whoever changes the weights clears the cache.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

_BLOCK = 16


@dataclass(frozen=True, eq=False)
class CachedSequence:
    """A sequence, and what the model made of it."""

    token_ids: tuple[int, ...]
    states: torch.Tensor
    """Keys and values: (layers, 2, heads, tokens, head size)."""


class PrefixCache:
    """Entries by the blocks that they begin with, the least recently used first."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[CachedSequence, None] = OrderedDict()
        self._by_blocks: dict[int, CachedSequence] = {}

    def longest(self, token_ids: Sequence[int]) -> torch.Tensor | None:
        """States of the longest known beginning of `token_ids`, of whole blocks and without the last token, whose
        logits the caller needs; None if nothing is known."""
        best: tuple[CachedSequence, int] | None = None
        for length, key in _blocks(token_ids[:-1]):
            entry = self._by_blocks.get(key)
            if entry is None or entry.token_ids[:length] != tuple(token_ids[:length]):
                break
            best = entry, length
        if best is None:
            return None
        entry, length = best
        self._entries.move_to_end(entry)
        return entry.states[:, :, :, :length]

    def add(self, token_ids: Sequence[int], states: torch.Tensor) -> None:
        """Keep the states of a sequence; what they are found by leads to the newest."""
        entry = CachedSequence(tuple(token_ids), states)
        self._entries[entry] = None
        self._bytes += states.nbytes
        self._by_blocks.update((key, entry) for _, key in _blocks(token_ids))
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()
        self._by_blocks.clear()
        self._bytes = 0

    def _drop(self, entry: CachedSequence) -> None:
        del self._entries[entry]
        self._bytes -= entry.states.nbytes
        for _, key in _blocks(entry.token_ids):
            if self._by_blocks.get(key) is entry:
                del self._by_blocks[key]


def _blocks(token_ids: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(length, hash) of all beginnings that are whole blocks."""
    key = 0
    for end in range(_BLOCK, len(token_ids) + 1, _BLOCK):
        key = hash((key, tuple(token_ids[end - _BLOCK : end])))
        yield end, key
