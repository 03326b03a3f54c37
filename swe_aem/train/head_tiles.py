"""Tiles of the head: logits of some tokens over some words of the vocabulary at a time. Importable without torch.

TRL's fused head has tiles of up to 4,096 tokens and 32,768 words, whatever the vocabulary and the format of logits.
Here they have as many words as fit into `head_tile_mb`, and never more than there are.
"""

from collections.abc import Iterator
from contextlib import contextmanager

_TOKENS = 4096
"""Tokens of each of TRL's tiles (TOKEN_CHUNK_SIZE)."""
_STEP = 1024
"""Words of a tile are a multiple of this: TRL's kernel takes so many at a time."""
LEAST_MB = 16
"""A tile of 1,024 words in float32."""


def tile_tokens(tokens: int) -> int:
    """Tokens of a tile where so many are scored."""
    return min(tokens, _TOKENS)


def tile_columns(tile_mb: int, vocabulary: int, logit_bytes: int) -> int:
    """Words of a tile that takes at most `tile_mb` MiB, `LEAST_MB` or more."""
    fitting = tile_mb * 2**20 // (_TOKENS * logit_bytes)
    return min(vocabulary, fitting // _STEP * _STEP)


@contextmanager
def tiles_of(columns: int) -> Iterator[None]:
    """Forward passes in here have tiles of so many words, and the backward passes that belong to them."""
    from trl.trainer import utils

    before = utils._CHUNKED_LOGPROB_CHUNK_SIZE
    utils._CHUNKED_LOGPROB_CHUNK_SIZE = columns
    try:
        yield
    finally:
        utils._CHUNKED_LOGPROB_CHUNK_SIZE = before
