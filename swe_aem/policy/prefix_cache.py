"""A cache of keys and values of token sequences, searched by the longest common prefix.

    ids ──blocks of 16──> chained hashes ──> a sequence that begins with the same blocks ──> its first N positions

A trajectory's next prompt begins with its last prompt and response, and the samples of a group share their first
prompt, so most of what an agent sends has been computed before. Once the cache is larger than its bound, the least
recently used sequences are dropped. The caller that changes the weights clears it.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

_BLOCK = 16


@dataclass(frozen=True, eq=False)
class CachedSequence:
    """A token sequence with its keys and values."""

    token_ids: tuple[int, ...]
    states: torch.Tensor
    """Keys and values: (layers, 2, heads, tokens, head size)."""


class PrefixCache:
    """Sequences by the blocks that they begin with, in the order of their last use."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._sequences: OrderedDict[CachedSequence, None] = OrderedDict()
        self._by_blocks: dict[int, CachedSequence] = {}

    def longest(self, token_ids: Sequence[int]) -> torch.Tensor | None:
        """States of the longest cached prefix of `token_ids` that consists of whole blocks and lacks the last token,
        whose logits the caller needs. None if no prefix is cached."""
        best: tuple[CachedSequence, int] | None = None
        for length, key in _blocks(token_ids[:-1]):
            entry = self._by_blocks.get(key)
            if entry is None or entry.token_ids[:length] != tuple(token_ids[:length]):
                break
            best = entry, length
        if best is None:
            return None
        entry, length = best
        self._sequences.move_to_end(entry)
        return entry.states[:, :, :, :length]

    def add(self, token_ids: Sequence[int], states: torch.Tensor) -> None:
        """Keep the states of a sequence. A prefix that several sequences share is found in the newest of them."""
        entry = CachedSequence(tuple(token_ids), states)
        self._sequences[entry] = None
        self._bytes += states.nbytes
        self._by_blocks.update((key, entry) for _, key in _blocks(token_ids))
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._sequences)))

    def clear(self) -> None:
        """Drop everything."""
        self._sequences.clear()
        self._by_blocks.clear()
        self._bytes = 0

    def _drop(self, entry: CachedSequence) -> None:
        del self._sequences[entry]
        self._bytes -= entry.states.nbytes
        for _, key in _blocks(entry.token_ids):
            if self._by_blocks.get(key) is entry:
                del self._by_blocks[key]


def _blocks(token_ids: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Length and hash of each prefix of whole blocks."""
    key = 0
    for end in range(_BLOCK, len(token_ids) + 1, _BLOCK):
        key = hash((key, tuple(token_ids[end - _BLOCK : end])))
        yield end, key
