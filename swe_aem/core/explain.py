"""`explain`: what is wrong with values that a pydantic model refuses, one plain clause per setting.

The clauses are made from the model's own fields: the full dotted name, what was given, and what is allowed. Words of
pydantic never reach a user.
"""

import json
import types
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

from swe_aem.suggest import did_you_mean

_LONGEST_VALUE = 60
"""Characters of a value that an error shows."""
_NOUNS = {bool: "true or false", int: "a whole number", float: "a number", str: "a string", Path: "a path"}


class Renamed(NamedTuple):
    """The new name of a setting, relative to its section. `RENAMED` of a model maps old names to these; `REFUSED` maps
    names that cannot be set to what is said of them."""

    name: str
    inverted: bool = False
    """The setting is a switch, and true now means what false meant."""
    example: str = ""
    """A value of the new setting, where those of the old one do not fit it."""


class _Place(NamedTuple):
    """Where in a model an error is."""

    name: str
    """Dotted name from the model's top; empty at the top."""
    kind: Any
    """Annotation of the field; None if it is not known."""
    bounds: tuple[Any, ...]
    """Metadata of the annotation: what bounds its values."""
    owner: type[BaseModel] | None
    """The model that has, or would have, the last part of the name."""


def explain(error: ValueError, model: type[BaseModel]) -> str:
    """What is wrong, in one line: a clause per setting of `model`, which refused the values; or that a text is not
    JSON, if `error` is the decoder's."""
    if not isinstance(error, ValidationError):
        return f"not JSON ({error})"
    clauses: dict[str, str] = {}
    for item in error.errors(include_url=False):
        place = _place(model, item["loc"])
        clauses.setdefault(place.name, _clause(place, item, model))
    return "; ".join(clauses.values())


def in_section(error: ValidationError, model: type[BaseModel]) -> ValidationError:
    """The same errors, for a validator of the section that stands for a `model` which its own type does not know.
    `explain` then says what it would say of the section's settings if it did."""
    lines = []
    for item in error.errors(include_url=False):
        place = _place(model, item["loc"])
        clause = _clause(place, item, model)
        said = clause.removeprefix(place.name) if place.name else f": {clause}"
        kind = PydanticCustomError("explained", "{said}", {"said": said})
        lines.append(InitErrorDetails(type=kind, loc=tuple(item["loc"]), input=item["input"]))
    return ValidationError.from_exception_data(model.__name__, lines)


def explain_yaml(error: Exception) -> str:
    """What is wrong with a text that PyYAML refuses, in one line."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if problem is None or mark is None:
        return f"not YAML ({' '.join(str(error).split())})"
    return f"not YAML (line {mark.line + 1}, column {mark.column + 1}: {problem})"


def settings_of(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Dotted name and field of each setting of a model, sections included; of a section that may be one of several
    models, the settings of all."""
    for name, field in model.model_fields.items():
        yield prefix + name, field
        kind, _ = _bare(field.annotation)
        inner = [kind] if _is_model(kind) else _tagged(kind).values()
        seen: dict[str, FieldInfo] = {}
        for one in inner:
            for setting, found in settings_of(one, f"{prefix}{name}."):
                seen.setdefault(setting, found)
        yield from seen.items()


def _clause(place: _Place, item: Mapping[str, Any], model: type[BaseModel]) -> str:
    """One error as a clause."""
    name, given = place.name, item["input"]
    match item["type"]:
        case "extra_forbidden":
            return _unknown(place, given, model)
        case "missing":
            return f"{name} is missing: give {_allowed(place.kind, place.bounds)}"
        case "value_error" | "assertion_error":
            return f"{name}: {item['ctx']['error']}" if name else str(item["ctx"]["error"])
        case "explained":
            return name + item["ctx"]["said"]
        case "json_invalid":
            return f"{name}: not JSON ({item['ctx']['error']})" if name else f"not JSON ({item['ctx']['error']})"
        case _ if not name:
            return f"expected a mapping of names to values, not {shown(given)}"
        case _:
            return f"{name} is {shown(given)}: give {_allowed(place.kind, place.bounds)}"


def _unknown(place: _Place, given: Any, model: type[BaseModel]) -> str:
    """What is said of a name that the model does not have."""
    section, _, last = place.name.rpartition(".")
    prefix = f"{section}." if section else ""
    refused = getattr(place.owner, "REFUSED", {}).get(last)
    if refused is not None:
        return f"{place.name} {refused}"
    renamed = getattr(place.owner, "RENAMED", {}).get(last)
    if renamed is not None:
        if not renamed.inverted:
            example = f": set it, e.g. to {renamed.example}" if renamed.example else ""
            return f"{place.name} is now called {prefix}{renamed.name}{example}"
        value = shown(not given) if isinstance(given, bool) else "true or false"
        new = prefix + renamed.name
        return f"{place.name} is now called {new} and means the opposite: set {new} to {value}"
    there = list(place.owner.model_fields) if place.owner is not None else []
    elsewhere = [name for name, _ in settings_of(model) if name.rpartition(".")[2] == last]
    if place.name in elsewhere:
        return f"{place.name} is a setting of another kind of {section}; here there are {', '.join(there)}"
    if len(elsewhere) == 1:
        return f"{place.name} is unknown (did you mean {elsewhere[0]}?)"
    suggestion = did_you_mean(place.name, [prefix + name for name in there])
    others = f"; there are {', '.join(there)}"
    return f"{place.name} is unknown{suggestion or others}"


def shown(value: Any, *, whole: bool = False) -> str:
    """A value as a user would write it in YAML, shortened unless `whole`."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if whole or len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def _place(model: type[BaseModel], loc: Sequence[int | str]) -> _Place:
    """The place in the model that an error's path leads to; a union of several kinds is one place."""
    name, owner = "", None
    kind, bounds = _bare(model)
    for part in loc:
        if (tagged := _tagged(kind).get(part)) is not None:
            kind, owner = tagged, None
            continue
        if _is_union(kind) or part == "[key]":
            break
        owner = kind if _is_model(kind) else None
        kind, bounds = _inside(kind, part)
        name = f"{name}[{part}]" if isinstance(part, int) else f"{name}.{part}" if name else part
    return _Place(name, kind, bounds, owner)


def _inside(kind: Any, part: int | str) -> tuple[Any, tuple[Any, ...]]:
    """Annotation and metadata of a part of a value, (None, ()) if they are not known."""
    if _is_model(kind):
        fields = kind.model_fields
        field = fields.get(part) or next((one for one in fields.values() if one.alias == part), None)
        if field is None:
            return None, ()
        inner, bounds = _bare(field.annotation)
        return inner, (*field.metadata, *bounds)
    arguments = get_args(kind)
    if get_origin(kind) is tuple and isinstance(part, int) and Ellipsis not in arguments:
        return _bare(arguments[part]) if part < len(arguments) else (None, ())
    if get_origin(kind) in (tuple, list):
        return _bare(arguments[0])
    if get_origin(kind) is dict:
        return _bare(arguments[1])
    return None, ()


def _bare(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """An annotation without `Annotated` and `| None`, and its metadata."""
    bounds: tuple[Any, ...] = ()
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *own = get_args(annotation)
            bounds += tuple(bound for one in own for bound in getattr(one, "metadata", (one,)))  # `Field` holds several
        elif get_origin(annotation) in (Union, types.UnionType) and not _is_union(annotation):
            (annotation,) = (one for one in get_args(annotation) if one is not types.NoneType)
        else:
            return annotation, bounds


def _tagged(kind: Any) -> dict[Any, type[BaseModel]]:
    """The models that a section may be one of, by their tags; empty for anything else."""
    if not _is_union(kind):
        return {}
    members = [get_args(one) for one in get_args(kind) if get_origin(one) is Annotated]
    return {mark.tag: model for model, *marks in members for mark in marks if isinstance(mark, Tag)}


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _is_union(kind: Any) -> bool:
    """Does a value have one of several kinds, null not counted?"""
    if get_origin(kind) not in (Union, types.UnionType):
        return False
    return sum(one is not types.NoneType for one in get_args(kind)) > 1


def _allowed(annotation: Any, bounds: Sequence[Any] = ()) -> str:
    """What a value may be, in words."""
    kind, own = _bare(annotation)
    bounds = (*bounds, *own)
    if kind in _NOUNS:
        return _NOUNS[kind] + _bounded(bounds)
    if _tagged(kind):
        return "a name, or a section with one and its settings"
    if _is_union(kind):
        return " or ".join(_allowed(one) for one in get_args(kind) if one is not types.NoneType)
    if _is_model(kind):
        return f"a section with settings ({', '.join(kind.model_fields)})"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"one of {', '.join(str(one.value) for one in kind)}"
    arguments = get_args(kind)
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if get_origin(kind) in (tuple, list):
        fewest = next((one.min_length for one in bounds if getattr(one, "min_length", None)), 0)
        return f"a list{f' of {fewest} or more' if fewest else ''}, each item {_allowed(arguments[0])}"
    if get_origin(kind) is dict:
        return "a mapping of names to values"
    return "another value"


def _bounded(bounds: Sequence[Any]) -> str:
    """` (at least 1)` and the like, from the metadata of an annotation."""
    said = []
    for bound in bounds:
        for attribute, words in (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below")):
            if (value := getattr(bound, attribute, None)) is not None:
                said.append(f"{words} {value:g}")
        if (pattern := getattr(bound, "pattern", None)) is not None:
            said.append(f"that matches {pattern}")
    return f" ({', '.join(said)})" if said else ""
