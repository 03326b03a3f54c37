"""What a run uses that is not built in: recorded when it begins, so that a rerun with other code is refused."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from swe_aem.extensions import ExtensionPoint


def identities(setting: str, point: ExtensionPoint[Any], value: Any) -> dict[str, str]:
    """The identity of each extension that a setting names, by the setting's dotted name; empty for built-ins and None.

    `value` is a name, a mapping or model with the point's key, or several of those, in a mapping by name or in a list.
    Imports what is named. Raises `UserError` if nothing has such a name.
    """
    if isinstance(value, BaseModel):
        value = {name: getattr(value, name) for name in value.model_fields_set | type(value).model_fields.keys()}
    if isinstance(value, str) or (isinstance(value, Mapping) and point.key in value):
        identity = point.identity(point.name_of(value))
        return {setting: identity} if identity else {}
    several: Mapping[Any, Any] = {}
    if isinstance(value, Mapping):
        several = value
    elif isinstance(value, Sequence):
        several = dict(enumerate(value))
    found: dict[str, str] = {}
    for name, one in several.items():
        found |= identities(f"{setting}.{name}", point, one)
    return found


def changed_extensions(old: Mapping[str, str] | None, new: Mapping[str, str]) -> list[str]:
    """One sentence per setting whose extension is another one than before. `old` is None where an older version of
    this package recorded nothing: then there is nothing to compare with."""
    if old is None:
        return []
    return [
        f"{name} was {_named(old.get(name))} and is now {_named(new.get(name))}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _named(identity: str | None) -> str:
    return "built in" if identity is None else f"the code of {identity}"
