"""`ModelFiles`: what the files of a model directory say of its chat format."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from swe_aem.errors import UserError
from swe_aem.policy.tokenizer import Tokenizer


class ModelFiles(NamedTuple):
    """The part of a model's files that tells its family. Everything may be missing."""

    tokens: frozenset[str] = frozenset()
    """Control tokens, which are the added tokens of the tokenizer."""
    template: str | None = None
    """The Jinja chat template, that for tools where there are several."""
    model_type: str | None = None
    """`model_type` of config.json, such as qwen3_moe."""
    architecture: str | None = None
    """The first of the `architectures` of config.json, such as Qwen3MoeForCausalLM."""


def known_files(tokenizer: Tokenizer) -> ModelFiles:
    """What the files beside a tokenizer's say; of one that is made here, its control tokens. Raises `UserError` for a
    file that is not JSON."""
    file = tokenizer.file
    if file is None:
        return ModelFiles(tokenizer.control_tokens)
    config = _read(file.with_name("config.json"))
    architectures = config.get("architectures") or (None,)
    return ModelFiles(
        tokens=tokenizer.control_tokens,
        template=_template(file.parent),
        model_type=config.get("model_type"),
        architecture=architectures[0],
    )


def _template(directory: Path) -> str | None:
    """The chat template, where the makers of models put it."""
    for name in ("additional_chat_templates/tool_use.jinja", "chat_template.jinja"):
        if (directory / name).is_file():
            return (directory / name).read_text(encoding="utf-8")
    for name in ("chat_template.json", "tokenizer_config.json"):
        template = _read(directory / name).get("chat_template")
        if isinstance(template, list):
            by_name = {one.get("name"): one.get("template") for one in template if isinstance(one, dict)}
            template = by_name.get("tool_use", by_name.get("default"))
        if isinstance(template, str):
            return template
    return None


def _read(file: Path) -> dict[str, Any]:
    """The JSON object of a file; an empty one if there is no file."""
    if not file.is_file():
        return {}
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file}: not a JSON file: {error}") from error
    return value if isinstance(value, dict) else {}
