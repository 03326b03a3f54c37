"""What the JSON files of a model directory say."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from swe_aem.errors import UserError


class EndTokens(NamedTuple):
    """Ids that end what a model says, by its own files."""

    ids: tuple[int, ...]
    file: str
    """Name of the file that has them; empty if none does."""


def json_of(file: Path) -> Mapping[str, Any]:
    """The object of a JSON file; empty if there is no file. Raises `UserError` if it cannot be read."""
    if not file.is_file():
        return {}
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read as JSON: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{file}: expected a JSON object")
    return values


def end_tokens(directory: Path) -> EndTokens:
    """The `eos_token_id` of generation_config.json, or else of config.json."""
    for name in ("generation_config.json", "config.json"):
        values = json_of(directory / name)
        written = values.get("eos_token_id", _section(values).get("eos_token_id"))
        ids = written if isinstance(written, list) else [written]
        if ids := tuple(one for one in ids if isinstance(one, int)):
            return EndTokens(ids, name)
    return EndTokens((), "")


def vocabulary_size(directory: Path) -> int | None:
    """Rows of the model's embedding as config.json has them; None if it does not say."""
    values = json_of(directory / "config.json")
    size = values.get("vocab_size", _section(values).get("vocab_size"))
    return size if isinstance(size, int) else None


def _section(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a configuration that describes the language model, where the model has other parts too."""
    section = values.get("text_config", {})
    return section if isinstance(section, dict) else {}
