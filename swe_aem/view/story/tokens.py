"""`token_texts`: what each token of a stream says, and the tokenizer of a store."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from swe_aem.policy import Tokenizer, load_tokenizer
from swe_aem.rollout import read_manifest, require_tokenizer

CONTEXT = 4
"""Tokens before a part of a stream that are decoded with it: some tokenizers write a token by the one before it."""
_LONGEST = 8
"""Tokens that one character has at most."""


def store_tokenizer(directory: Path) -> Tokenizer:
    """The tokenizer of the token ids in a store. Raises `UserError` where it is not at hand, or is another one now."""
    manifest = read_manifest(directory)
    path = manifest.config.tokenizer_path if manifest else None
    return _loaded(str(directory), path, _changed(directory / "config.json"), _changed(Path(path)) if path else 0)


@lru_cache(maxsize=8)
def _loaded(directory: str, path: str | None, *_changed_ns: int) -> Tokenizer:
    require_tokenizer(Path(directory), path)
    return load_tokenizer(path)


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def token_texts(tokenizer: Tokenizer, ids: Sequence[int], context: Sequence[int] = ()) -> list[str]:
    """The text of each token after those of `context`. A character that several tokens make stands at the last one."""
    stream = [*context, *ids]
    begin, read = 0, len(context)
    before = tokenizer.decode(stream[begin:read])
    texts = []
    for end in range(len(context) + 1, len(stream) + 1):
        decoded = tokenizer.decode(stream[begin:end])
        if decoded.endswith("\ufffd") and end - read < _LONGEST and end < len(stream):
            texts.append("")
            continue
        texts.append(decoded[len(before) :])
        begin, read = read, end
        before = tokenizer.decode(stream[begin:read])
    return texts
