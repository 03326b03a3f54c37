"""The settings of a run, by dotted name: as its directory has them, against the defaults, and against another run's."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from swe_aem.core.settings import check, read_mapping
from swe_aem.errors import UserError
from swe_aem.extensions import stored_names
from swe_aem.rollout import read_manifest
from swe_aem.train.config import TrainConfig
from swe_aem.train.directory import CONFIG
from swe_aem.view.found import Kind, Run
from swe_aem.view.site import NotThere


class Row(NamedTuple):
    """One setting, with a value for each column; None where there is none."""

    name: str
    values: tuple[str | None, ...]


class Settings(NamedTuple):
    """The settings of a run."""

    all: dict[str, str]
    """Dotted name to value, as JSON."""
    defaults: dict[str, str] | None
    """The same of the defaults; a setting that must be given is not in it. None where they are not known."""
    problem: str
    """Why the defaults are not known."""

    def changed(self) -> list[Row]:
        """The settings that are not the defaults, with both; also those that have no default."""
        return beside(self.all, self.defaults) if self.defaults is not None else []


def beside(one: Mapping[str, str], other: Mapping[str, str]) -> list[Row]:
    """The settings that differ, with both values. A section that is empty in one of the two is no setting."""
    rows = [Row(name, (one.get(name), other.get(name))) for name in dict.fromkeys((*one, *other))]
    return [row for row in rows if row.values[0] != row.values[1] and {*row.values} != {None, "{}"}]


def settings(run: Run) -> Settings:
    """The settings as the run's directory has them. What they name need not be installed and is not imported.
    Raises `NotThere`, or `UserError` for a file that cannot be read."""
    if run.kind is not Kind.TRAINING:
        if (manifest := read_manifest(run.directory)) is None:
            raise NotThere(f"{run.name} has no config.json")
        return _of(manifest.config)
    path = run.directory / CONFIG
    if not path.is_file():
        raise NotThere(f"{run.name} has no {CONFIG}")
    values = read_mapping(path)
    try:
        with stored_names():
            return _of(check(TrainConfig, values, where=str(path)))
    except UserError as error:  # of another version; what it holds can be read all the same
        return Settings(_flat(values), None, str(error))


def _of(config: BaseModel) -> Settings:
    return Settings(_flat(config.model_dump(mode="json")), _flat(_defaults(config)), "")


def _defaults(config: BaseModel) -> dict[str, Any]:
    """The defaults of all settings that have one, as deep as `config` goes."""
    found: dict[str, Any] = {}
    for name, field in type(config).model_fields.items():
        value, default = getattr(config, name), field.get_default(call_default_factory=True, validated_data={})
        if isinstance(value, BaseModel) and (default is PydanticUndefined or default is None):
            found[name] = _defaults(value)  # a section that was given, whose own settings have defaults
        elif default is not PydanticUndefined:
            found[name] = default.model_dump(mode="json") if isinstance(default, BaseModel) else default
    return found


def _flat(values: Mapping[str, Any]) -> dict[str, str]:
    return dict(_named(values, ""))


def _named(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _named(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value, default=str)
