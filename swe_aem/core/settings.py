"""Settings: read from a YAML file, options and `a.b=c` assignments, checked by a model, and compared.

Every error is a `UserError` that names the setting by its dotted name, what was given, and what is allowed.
"""

import copy
import json
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from swe_aem.core.explain import explain, explain_yaml, shown
from swe_aem.errors import UserError, why_unreadable

Model = TypeVar("Model", bound=BaseModel)


def load(
    model: type[Model],
    source: Path | Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    assignments: Sequence[str] = (),
) -> Model:
    """A model of the values of `source`, a YAML file or what was read from one; of options by dotted name; and of
    `a.b=c` assignments. The last one wins. Paths and names in a file that begin with ./ or ../ are relative to it."""
    values: dict[str, Any] = (
        _beside(read_mapping(source), source.parent) if isinstance(source, Path) else copy.deepcopy(dict(source or {}))
    )
    for name, value in (options or {}).items():
        _assign(values, name, value, model)
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise UserError(f"--set {assignment}: expected NAME=VALUE")
        _assign(values, name.strip(), _plain(assignment, text), model)
    return check(model, values)


def check(model: type[Model], values: Any, *, where: str = "") -> Model:
    """A model of plain values. Errors have one clause per wrong setting, behind `where` if that is given."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{where}: {explain(error, model)}" if where else explain(error, model)) from None


def read_mapping(file: Path) -> dict[str, Any]:
    """The settings of a YAML file; an empty file has none."""
    import yaml

    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{file}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read ({why_unreadable(error)})") from error
    except yaml.YAMLError as error:
        raise UserError(f"{file}: {explain_yaml(error)}") from error
    if not isinstance(values, dict | None):
        raise UserError(f"{file}: expected a mapping of settings at the top, not {shown(values)}")
    return values or {}


def changed(
    old: BaseModel | Mapping[str, Any],
    new: BaseModel | Mapping[str, Any],
    *,
    free: Collection[str] = (),
    may_grow: Collection[str] = (),
) -> list[str]:
    """One sentence per setting that differs, by dotted name.

    Settings in `free`, and those of a section in it, may differ. A number in `may_grow` may be raised, or be given up
    for null, which is larger than any number.
    """
    found = []
    for name, was, now in _changes(old, new, free, may_grow):
        note = " (may only grow)" if name in may_grow else ""
        found.append(f"{name} was {shown(was, whole=True)} and is now {shown(now, whole=True)}{note}")
    return found


def as_before(
    old: BaseModel | Mapping[str, Any],
    new: BaseModel | Mapping[str, Any],
    *,
    free: Collection[str] = (),
    may_grow: Collection[str] = (),
) -> str:
    """The assignments that make the settings of sections those of `old` again, for a command line; empty if there are
    none. Settings at the top have options of their own."""
    plain = [
        f"--set {shlex.quote(f'{name}={was if isinstance(was, str) else json.dumps(was)}')}"
        for name, was, _ in _changes(old, new, free, may_grow)
        if "." in name and isinstance(was, str | int | float | None)
    ]
    return " ".join(plain)


def _changes(
    old: BaseModel | Mapping[str, Any],
    new: BaseModel | Mapping[str, Any],
    free: Collection[str],
    may_grow: Collection[str],
) -> Iterator[tuple[str, Any, Any]]:
    """Name, old and new value of each setting that differs and must not."""
    for name, was, now in sorted(_pairs(_as_mapping(old), _as_mapping(new)), key=lambda pair: pair[0]):
        if was == now or any(f"{name}.".startswith(f"{one}.") for one in free):
            continue
        if not (name in may_grow and _size(now) > _size(was)):
            yield name, was, now


def _beside(value: Any, directory: Path) -> Any:
    """The value with every path that begins with ./ or ../ taken from `directory`."""
    if isinstance(value, dict):
        return {name: _beside(inner, directory) for name, inner in value.items()}
    if isinstance(value, list):
        return [_beside(inner, directory) for inner in value]
    if isinstance(value, str) and value.startswith(("./", "../")):
        return str(directory / value)
    return value


def _plain(assignment: str, text: str) -> Any:
    """The value of an assignment, read as YAML."""
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"--set {assignment}: {explain_yaml(error)}") from error


def _assign(values: dict[str, Any], name: str, value: Any, model: Any) -> None:
    """Set a value by its dotted name, making sections on the way, also of a plain name that is short for one."""
    *sections, last = name.split(".")
    for number, section in enumerate(sections):
        field = getattr(model, "model_fields", {}).get(section)
        model = field.annotation if field is not None else None
        key = _name_key(model)
        if key is not None and isinstance(values.get(section), str):
            values[section] = {key: values[section]}
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            path = ".".join(sections[: number + 1])
            raise UserError(f"{name}: {path} is {shown(values)} and has no settings of its own")
    values[last] = value


def _name_key(kind: Any) -> str | None:
    """The key that a plain name stands for, where a section may be one: `NAME_KEY` of its model, or of each that it may
    be."""
    key = getattr(kind, "NAME_KEY", None)
    return key if key is not None else next((one for one in map(_name_key, get_args(kind)) if one is not None), None)


def _as_mapping(values: BaseModel | Mapping[str, Any]) -> Mapping[str, Any]:
    return values.model_dump(mode="json") if isinstance(values, BaseModel) else values


def _pairs(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted name, old and new value of each setting. Sections are compared setting by setting, and as a whole where
    one side has a plain value, as with a name and a mapping of `type`."""
    for name in old.keys() | new.keys():
        was, now = old.get(name), new.get(name)
        sections = [one for one in (was, now) if one is not None]
        if sections and all(isinstance(one, dict) for one in sections):
            yield from _pairs(was or {}, now or {}, f"{prefix}{name}.")
        else:
            yield prefix + name, was, now


def _size(value: float | None) -> float:
    """A number, with null as the largest of all."""
    return float("inf") if value is None else value
