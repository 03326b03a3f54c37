"""Text to token ids and back, with control tokens that untrusted text cannot forge.

A chat format marks its structure with *control tokens* (`<|im_end|>`, `<tool_call>`, ...). A tokenizer turns their text
into their ids wherever it finds it, so a file that merely contains `<|im_end|>` would end the turn that shows it. Text
from outside therefore passes through `Tokenizer.untrusted`, which brackets every control token's text with the
noncharacter U+FDD0; `encode` then encodes what is between the brackets as ordinary text. Everything else is split and
encoded as the model's own tokenizer does it, and the text that comes back from `decode` is the same in both cases.

Reads a Hugging Face `tokenizer.json` with the `tokenizers` library; `transformers` is not needed.
"""

import json
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swe_aem.errors import UserError

if TYPE_CHECKING:
    import tokenizers

BYTE_TOKENIZER_NAME = "bytes"
"""`name_or_path` of the built-in tokenizer."""

QWEN3_CONTROL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
)
_MARK = "\ufdd0"
"""A noncharacter, which has no meaning in text. Where it occurs in text it is bracketed too."""


class Tokenizer:
    """The tokenizer interface of the `renderers` library, over a `tokenizers.Tokenizer`."""

    def __init__(
        self,
        backend: "tokenizers.Tokenizer",
        name_or_path: str,
        eos_token: str | None = None,
        file: Path | None = None,
    ) -> None:
        self._backend = backend
        self._plain = _without_control_tokens(backend, name_or_path)
        self.name_or_path = name_or_path
        self.file = file
        """The `tokenizer.json` that it was read from, None if it was made here."""
        self.unk_token_id: int | None = None
        self.eos_token_id = None if eos_token is None else backend.token_to_id(eos_token)
        added = backend.get_added_tokens_decoder()
        self.control_token_ids = frozenset(added)
        self.control_tokens: frozenset[str] = frozenset(token.content for token in added.values())

    def __len__(self) -> int:
        """Number of token ids, control tokens included."""
        return self._backend.get_vocab_size(with_added_tokens=True)

    @cached_property
    def _guarded(self) -> re.Pattern[str]:
        """A pattern of everything that `untrusted` has to bracket, longest first."""
        texts = [token.content for token in self._backend.get_added_tokens_decoder().values()]
        return re.compile("|".join(map(re.escape, sorted([*texts, _MARK], key=len, reverse=True))))

    @cached_property
    def _bracketed(self) -> re.Pattern[str]:
        return re.compile(f"{_MARK}({self._guarded.pattern}){_MARK}")

    def untrusted(self, text: str) -> str:
        """`text` in a form that `encode` turns into ordinary tokens alone, whatever it contains.

        Unpaired surrogates, which have no encoding, become U+FFFD.
        """
        encodable = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return self._guarded.sub(lambda match: f"{_MARK}{match[0]}{_MARK}", encodable)

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Token ids of `text`. Control tokens become their ids, except inside what `untrusted` returned."""
        ids: list[int] = []
        for n, part in enumerate(self._bracketed.split(text)):
            backend = self._plain if n % 2 else self._backend
            ids += backend.encode(part, add_special_tokens=add_special_tokens).ids if part else []
        return ids

    def decode(self, token_ids: Iterable[int], skip_special_tokens: bool = False, **_: Any) -> str:
        """Text of `token_ids`; invalid UTF-8 becomes U+FFFD and ids outside the vocabulary vanish."""
        return self._backend.decode(list(token_ids), skip_special_tokens=skip_special_tokens)

    def convert_tokens_to_ids(self, tokens: str | Sequence[str]) -> Any:
        """The id of a token, or the ids of several; None for a token that is not in the vocabulary."""
        if isinstance(tokens, str):
            return self._backend.token_to_id(tokens)
        return [self._backend.token_to_id(token) for token in tokens]


def load_tokenizer(path: str | None) -> Tokenizer:
    """The tokenizer of a model directory or a `tokenizer.json`; None is the built-in byte-level one.

    The built-in has one token per byte (its value is its id) and Qwen3's control tokens from 256 on, so that scripted
    policies and tests need no model. Raises `UserError` if there is no readable tokenizer at `path`.
    """
    if path is None:
        return Tokenizer(byte_level(), BYTE_TOKENIZER_NAME, eos_token="<|im_end|>")
    file = tokenizer_file(path)
    eos_token = _eos_token(file.with_name("tokenizer_config.json"))
    return Tokenizer(read_backend(file), str(path), eos_token=eos_token, file=file)


def tokenizer_file(path: str) -> Path:
    """The `tokenizer.json` of a model directory, or the file itself; raises `UserError` if there is none."""
    file = Path(path) / "tokenizer.json" if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise UserError(f"{path}: no tokenizer.json there; name a model directory that has one, or the file itself")
    return file


def read_backend(file: Path) -> "tokenizers.Tokenizer":
    """The library's tokenizer of a file, without what would cut, fill up or vary the ids of a text: truncation, padding
    and BPE dropout are for other uses. Raises `UserError` for a file that the library cannot read."""
    import tokenizers

    try:
        backend = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exception for any defect of the file
        raise UserError(f"{file}: not a tokenizer that the tokenizers library can read: {error}") from error
    backend.no_truncation()
    backend.no_padding()
    if getattr(backend.model, "dropout", None):
        backend.model.dropout = None
    return backend


def byte_level(control_tokens: Iterable[str] = QWEN3_CONTROL_TOKENS) -> "tokenizers.Tokenizer":
    """The library's tokenizer that has one token per byte and, from id 256 on, the control tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {_byte_character(byte): byte for byte in range(256)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(text, normalized=False) for text in control_tokens])
    return backend


def _byte_character(byte: int) -> str:
    """The printable character that stands for a byte in byte-level BPE (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    if byte in printable:
        return chr(byte)
    return chr(0x100 + sum(other not in printable for other in range(byte)))


def _without_control_tokens(backend: "tokenizers.Tokenizer", name: str) -> "tokenizers.Tokenizer":
    """A copy that knows no control token and therefore encodes their text as ordinary text."""
    import tokenizers

    plain = tokenizers.Tokenizer.from_str(json.dumps({**json.loads(backend.to_str()), "added_tokens": []}))
    for token_id, token in backend.get_added_tokens_decoder().items():
        if token_id in plain.encode(token.content, add_special_tokens=False).ids:
            raise UserError(
                f"{name}: its base vocabulary holds the control token {token.content!r}, so text in a repository could "
                "forge it; use a tokenizer that has it as an added token only"
            )
    return plain


def _eos_token(config: Path) -> str | None:
    if not config.is_file():
        return None
    try:
        token = json.loads(config.read_text(encoding="utf-8")).get("eos_token")
    except (ValueError, AttributeError) as error:
        raise UserError(f"{config}: not a JSON object: {error}") from error
    return token.get("content") if isinstance(token, dict) else token
