"""`choose_family`: which model family a model is of, told by its own files.

The control tokens say which formats a tokenizer can write at all, and the chat template which of them the model was
trained with. The architecture decides only where there is no template: models of one architecture differ in format.
"""

from pathlib import Path
from typing import NamedTuple

from swe_aem.agent.families.builtin import FAMILIES, QWEN3
from swe_aem.agent.families.family import Family
from swe_aem.agent.families.files import ModelFiles, known_files
from swe_aem.errors import UserError
from swe_aem.policy.tokenizer import load_tokenizer


class Choice(NamedTuple):
    """A family that was chosen."""

    family: str
    reason: str
    """What of the model's files it was chosen by, in a line."""


def choose_family(path: str | Path | None) -> Choice:
    """The family of a model directory or of a `tokenizer.json`; None is the built-in byte tokenizer.

    Raises `UserError`, which says what was seen, if no family fits or more than one does.
    """
    tokenizer = load_tokenizer(None if path is None else str(path))
    return choose(known_files(tokenizer), tokenizer.name_or_path)


def choose(files: ModelFiles, name: str) -> Choice:
    """The family that what is known of a model's files says; `name` is the model's, for messages."""
    able = [family for family in FAMILIES.values() if files.tokens.issuperset(family.tokens)]
    if files.template is not None:
        fitting = [family for family in able if _has_marks(files.template, family)]
        if len(fitting) == 1:
            return Choice(fitting[0].name, f"its chat template and control tokens; {_architecture(files)}")
        raise UserError(_refusal(files, name, able, fitting))
    of_type = [family for family in able if files.model_type in family.models]
    if len(of_type) == 1:
        return Choice(of_type[0].name, f"{_architecture(files)} and control tokens; it has no chat template")
    if not of_type and QWEN3 in able and files.model_type not in _known_types():
        return Choice(QWEN3.name, f"its control tokens; it has no chat template, and {_architecture(files)}")
    raise UserError(_refusal(files, name, able, of_type))


def _has_marks(template: str, family: Family) -> bool:
    return all(mark in template for mark in family.template) and not any(mark in template for mark in family.without)


def _known_types() -> set[str]:
    return {model for family in FAMILIES.values() for model in family.models}


def _architecture(files: ModelFiles) -> str:
    return f"architecture {files.architecture or files.model_type or 'unknown'}"


def _refusal(files: ModelFiles, name: str, able: list[Family], fitting: list[Family]) -> str:
    seen = f"{_architecture(files)}, {'a' if files.template is not None else 'no'} chat template"
    if fitting:
        told = f"more than one model family fits {name}: {', '.join(family.name for family in fitting)} ({seen})"
    elif able:
        names = ", ".join(family.name for family in able)
        told = f"{name} has the control tokens of {names}, but the chat format of none of these ({seen})"
    else:
        told = f"{name} is of no model family that is known ({seen}){_closest(files)}"
    return (
        f"{told}. Name its family (--set renderer.family=NAME, one of {', '.join(FAMILIES)}, or your own: "
        "swe-aem docs extend/model-family), and see whether it fits: swe-aem models check DIR --family NAME"
    )


def _closest(files: ModelFiles) -> str:
    """The family of the model's type, or whose control tokens are most nearly all there, and which it lacks."""
    if not files.tokens:
        return ": its tokenizer has no control tokens"
    typed = [family for family in FAMILIES.values() if files.model_type in family.models]
    best = min(typed or FAMILIES.values(), key=lambda one: len(set(one.tokens) - files.tokens) / len(one.tokens))
    lacking = [token for token in best.tokens if token not in files.tokens]
    shown = ", ".join(lacking[:4]) + (f" and {len(lacking) - 4} more" if len(lacking) > 4 else "")
    return f"; of {best.name} its tokenizer lacks the control tokens {shown}"
