"""Stand-in tokenizers: the control tokens of a model family over bytes, where a model's own files are not at hand.

They say nothing of how a model's tokenizer splits text. What a format does with control tokens, calls and thinking can
be tried with them.
"""

import json
from pathlib import Path

from swe_aem.agent.families.builtin import FAMILIES
from swe_aem.policy.tokenizer import Tokenizer, byte_level


def stand_in_tokenizer(family: str) -> Tokenizer:
    """The stand-in tokenizer of a built-in model family, named `stand-in of FAMILY`."""
    return Tokenizer(byte_level(FAMILIES[family].tokens), f"stand-in of {family}")


def write_stand_in(family: str, directory: Path) -> Path:
    """Write a stand-in tokenizer as the files of a model directory by which its family is chosen: `tokenizer.json`, the
    family's marks as a chat template (it renders no conversation), and `config.json` where a `model_type` is known.
    Returns the directory."""
    kind = FAMILIES[family]
    directory.mkdir(parents=True, exist_ok=True)
    byte_level(kind.tokens).save(str(directory / "tokenizer.json"))
    template = "".join(f"{{# {mark} #}}\n" for mark in kind.template)
    (directory / "chat_template.jinja").write_text(template, encoding="utf-8")
    if kind.models:
        (directory / "config.json").write_text(json.dumps({"model_type": kind.models[0]}), encoding="utf-8")
    return directory
