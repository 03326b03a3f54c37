"""The fingerprint of a tokenizer: a digest of what decides token ids.

    vocabulary, merges, scores, added tokens    as they are
    normaliser, pre-tokeniser, the rest         by what they do: the ids of a text that has something of everything

Of two tokenizers with one fingerprint each token id means the same text, and a text has the same ids. How a file spells
its settings makes no difference, for libraries do that differently from version to version and when they save what they
have loaded. Padding, truncation, the tokens that a post-processor adds and the chat template are no part of it: the
ids of a store are those of a rendered conversation, and its settings (`config.json`) have the chat format.
"""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swe_aem.policy.tokenizer import byte_level, read_backend, tokenizer_file

if TYPE_CHECKING:
    import tokenizers

_TEXT = (
    "Plain words, don't they're I'LL; CamelCase snake_case kebab-case x2 3.14 1234567890 0xFF 1e-9 2026-11-28\r\n"
    "def f(a, b=None):\r\n    return [a[i:j] for i in range(10) if a != b]  # 100%\n\n\n"
    '\tif (x<=y && !z) { s += "\\n\\"quoted\\""; }   \t  \n   trailing   \n'
    "+++ b/src/a.py @@ -1,7 +1,9 @@ https://e.org/p?q=1&r=%20#f name@host ~/.x $HOME ../..\n"
    "\xdcn\xefc\xf6d\xe9 STRASSE stra\xdfe \ufb01 \u212b \xc5 A\u030a \xe9 e\u0301 \u0130 \u01c5 \xbd \xb2 \u2167"
    " \uff10\uff11\uff12 \u0440\u0443\u0441\u0441\u043a\u0438\u0439 \u039b\u039b\u0397\u039d\u0399\u03a3 \u05e2"
    "\u05d1\u05e8\u05d9\u05ea \u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u0939\u093f\u0928\u094d\u0926\u0940 "
    "\u0e44\u0e17\u0e22 \u4e2d\u6587\u5b57\u7b26\uff0c\u6ca1\u6709\u7a7a\u683c\u3002 \u65e5\u672c\u8a9e\u30c6"
    "\u30ad\u30b9\u30c8 \uff76\uff85 \ud55c\uad6d\uc5b4 \U0001f600 \U0001f469\u200d\U0001f4bb\n"
    "\u00a0\u2003\u200b\u200d\ufeff\ufffd\u2028\u00ab\u00bb\u201c\u201d\u2018\u2019\u2013\u2014\u2026\u2022\u2192\u2211"
    "\u2260\u20ac\u2122 \x00\x07\x1b[31m\x7f \u2581\u0120##a </s><s>[CLS]<unk>\n"
)
"""Scripts, forms of the same letter, digits, white space, line ends, control characters, code."""
_FROM_VOCABULARY = 8192
"""Most tokens whose own text is a part of the text that is encoded."""


def tokenizer_fingerprint(path: str | None) -> str:
    """The fingerprint of the tokenizer that `load_tokenizer` reads at `path`, 16 hexadecimal digits. Raises `UserError`
    if there is no readable tokenizer; one that agents could not use has a fingerprint too."""
    if path is None:
        return fingerprint(byte_level())
    file = tokenizer_file(path).resolve()
    known = file.stat()
    return _of_file(file, known.st_mtime_ns, known.st_size, known.st_ino)


@lru_cache(maxsize=32)
def _of_file(file: Path, *version: int) -> str:
    """The fingerprint of a file; `version` tells its contents from earlier ones."""
    return fingerprint(read_backend(file))


def fingerprint(backend: "tokenizers.Tokenizer") -> str:
    """The fingerprint of a tokenizer of the library. A second or so for 150,000 tokens."""
    model = json.loads(backend.to_str())["model"]
    vocabulary = sorted((number, token) for token, number in backend.get_vocab(with_added_tokens=True).items())
    scores = model["vocab"] if isinstance(model["vocab"], list) else []
    merges = [pair.split(" ", 1) if isinstance(pair, str) else pair for pair in model.get("merges", [])]
    added = [
        (number, token.content, token.single_word, token.lstrip, token.rstrip, token.normalized)
        for number, token in sorted(backend.get_added_tokens_decoder().items())
    ]
    ids = backend.encode(_text(vocabulary), add_special_tokens=False).ids
    content: list[Any] = [vocabulary, scores, merges, added, ids]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _text(vocabulary: list[tuple[int, str]]) -> str:
    """The text that is encoded: the fixed one, and the tokens of the vocabulary, evenly chosen, with the spaces that
    byte-level and SentencePiece vocabularies write as a letter."""
    every = -(-len(vocabulary) // _FROM_VOCABULARY) or 1
    chosen = [token.replace("\u0120", " ").replace("\u2581", " ") for _, token in vocabulary[::every]]
    return _TEXT + "\n".join(chosen)
