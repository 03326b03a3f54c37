"""The page of all settings, from the classes that check them."""

import types
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from swe_aem.policy.chat_config import ChatConfig, LitellmConfig
from swe_aem.policy.completions import CompletionsConfig
from swe_aem.rollout import RolloutConfig
from swe_aem.sandbox.config import BubblewrapConfig, DockerConfig, PodmanConfig
from swe_aem.train.config import TrainConfig

MARK = "<!-- settings -->"

_BESIDE_A_NAME: dict[str, Sequence[type[BaseModel]]] = {
    "policy": (CompletionsConfig, ChatConfig, LitellmConfig),
    "sandbox": (BubblewrapConfig, DockerConfig, PodmanConfig),
}
"""Settings that stand beside the name of what a section chooses, where the type does not say so."""


def with_settings(markdown: str) -> str:
    """The page with a section for each part of a configuration in the place of its mark."""
    lines = ["## Training\n", *_sections(TrainConfig, "", leave={"rollout"})]
    lines += ["## Rollouts\n", "In a training configuration these stand below `rollout:`.\n"]
    return markdown.replace(MARK, "\n".join([*lines, *_sections(RolloutConfig, "")]))


def _sections(model: type[BaseModel], path: str, leave: set[str] | None = None) -> Iterator[str]:
    """The table of a class's settings, then the sections of those that are sections themselves."""
    yield from _table(model)
    for name, field in model.model_fields.items():
        if name in (leave or ()):
            continue
        dotted = f"{path}.{name}".lstrip(".")
        classes = [*_models(field.annotation), *_BESIDE_A_NAME.get(dotted, ())]
        for found in classes:
            title = dotted if len(classes) == 1 else f"{dotted}: {found.__name__.removesuffix('Config')}"
            yield f"### {title}\n"
            yield f"{' '.join((found.__doc__ or '').split())}\n"
            yield from _sections(found, dotted)


def _table(model: type[BaseModel]) -> Iterator[str]:
    rows = [_row(name, field) for name, field in model.model_fields.items()]
    if rows:
        yield "| setting | takes | default | |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"


def _row(name: str, field: FieldInfo) -> str:
    described = " ".join((field.description or "").split()).replace("|", "\\|")
    kind = " or ".join(dict.fromkeys(_kinds(field.annotation))).replace("|", "\\|")
    return f"| `{name}` | {kind} | {_default(field)} | {described} |"


def _default(field: FieldInfo) -> str:
    value = field.default
    if field.is_required():
        return "required"
    if isinstance(value, BaseModel) or value is PydanticUndefined:
        return "below"
    if value is None or value == ():
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


_NAMES = {int: "whole number", float: "number", str: "text", bool: "true, false", type(None): "null"}


def _kinds(annotation: Any) -> Iterator[str]:
    """What a setting may be, in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _kinds(arguments[0])
    elif origin in (Union, types.UnionType):
        for argument in arguments:
            yield from _kinds(argument)
    elif origin is Literal:
        yield ", ".join(f"`{argument}`" for argument in arguments)
    elif origin in (tuple, list):
        yield "list of " + " or ".join(_kinds(arguments[0]))
    elif origin is dict or annotation is dict:
        yield "mapping"
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield "section"
    else:
        yield _NAMES.get(annotation, "path" if getattr(annotation, "__name__", "") == "Path" else "name or mapping")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Classes of sections within the type of a setting."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for argument in get_args(annotation):
        yield from _models(argument)
