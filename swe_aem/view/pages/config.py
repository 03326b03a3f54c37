"""The settings of a run: each with what another run has, where one is named, and what is used that is not built in."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml

from swe_aem.errors import UserError
from swe_aem.rollout import read_manifest
from swe_aem.train.directory import CONFIG, recorded_extensions
from swe_aem.view.found import Kind, Run
from swe_aem.view.site import Asked, Crumb, NotThere, Shown, Site


class Row(NamedTuple):
    """One setting."""

    name: str
    value: str
    other: str
    differs: bool


def show(site: Site, asked: Asked) -> Shown:
    """The settings; beside them those of the run that the query's `with` names."""
    run = site.run(asked.values["run"])
    other = site.run(asked.query["with"]) if asked.query.get("with") else None
    mine, theirs = flat(settings(run)), flat(settings(other)) if other else {}
    names = sorted(mine.keys() | theirs.keys())
    rows = [
        Row(name, mine.get(name, ""), theirs.get(name, ""), other is not None and mine.get(name) != theirs.get(name))
        for name in names
    ]
    same_kind = [one for one in site.runs(run.kind) if one.name != run.name and one.kind is not Kind.GRADES]
    return Shown(
        template="config.html.jinja",
        title=f"Settings of {run.name}",
        crumbs=(Crumb(run.name, asked.link("run", run=run.name)),),
        values={
            "rows": sorted(rows, key=lambda row: not row.differs),
            "other": other,
            "others": [(one.name, asked.link("config", query={"with": one.name}, run=run.name)) for one in same_kind],
            "extensions": recorded_extensions(run.directory) or {} if run.kind is Kind.TRAINING else {},
        },
    )


def settings(run: Run) -> Mapping[str, Any]:
    """The settings as the run's directory has them; raises `NotThere` or `UserError`."""
    if run.kind is Kind.TRAINING:
        path = run.directory / CONFIG
        try:
            found = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError:
            raise NotThere(f"{run.name} has no {CONFIG}") from None
        except (ValueError, yaml.YAMLError) as error:
            raise UserError(f"{path} cannot be read: {error}") from None
        return found if isinstance(found, dict) else {}
    if (manifest := read_manifest(run.directory)) is None:
        raise NotThere(f"{run.name} has no config.json")
    return manifest.config.model_dump(mode="json")


def flat(values: Mapping[str, Any]) -> dict[str, str]:
    """Dotted name to value, as JSON, of each setting."""
    return dict(_flat(values, ""))


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value, default=str)
