"""`write_package`: a small package of a user's own, as `swe-aem init` begins it.

A template is such a package itself: Python that is read by linters and type checkers as it stands, with the names of
`_names` in the place of those that the user gives.
"""

import importlib.util
import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

from swe_aem.errors import UserError
from swe_aem.extensions import ExtensionPoint

_TEMPLATES = Path(__file__).parent / "templates"
_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")


@dataclass(frozen=True)
class Kind:
    """What a package may add to swe-aem."""

    name: str
    point: str
    """`module:object` of its extension point."""
    summary: str
    """What `swe-aem init --help` says of it."""
    page: str
    """Its page, below `extend/` in the docs."""
    use: str
    """Command that uses it; `new-name` stands for its name."""

    def extension_point(self) -> ExtensionPoint[object]:
        """The point, imported."""
        module, _, name = self.point.partition(":")
        return getattr(import_module(module), name)


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            Kind(
                name="family",
                point="swe_aem.tasks.families.family:FAMILIES",
                summary="How the rows of a data set become tasks.",
                page="tasks",
                use="swe-aem tasks list --tasks ROWS.jsonl",
            ),
            Kind(
                name="reward",
                point="swe_aem.reward:REWARDS",
                summary="What a trajectory is paid.",
                page="reward",
                use="swe-aem rollout --agent gold --limit 4 --reward new-name --out runs/new-name",
            ),
            Kind(
                name="advantage",
                point="swe_aem.advantage.config:ADVANTAGES",
                summary="How rewards become advantages.",
                page="advantage",
                use="swe-aem train configs/quickstart.yaml --set advantage=new-name --out runs/new-name",
            ),
            Kind(
                name="agent",
                point="swe_aem.agent:AGENTS",
                summary="The loop between a policy and a sandbox.",
                page="agent",
                use="swe-aem rollout --agent new-name --policy gold --limit 4 --out runs/new-name",
            ),
            Kind(
                name="sandbox",
                point="swe_aem.sandbox:SANDBOXES",
                summary="What commands run in.",
                page="sandbox",
                use="swe-aem rollout --agent gold --limit 4 --sandbox new-name --out runs/new-name",
            ),
            Kind(
                name="task-sampler",
                point="swe_aem.train.task_samplers:TASK_SAMPLERS",
                summary="Which tasks a step of training rolls out.",
                page="sampler",
                use="swe-aem train configs/quickstart.yaml --set task_sampler=new-name --out runs/new-name",
            ),
        )
    }
)
"""What can be begun, by name."""


@dataclass(frozen=True)
class Package:
    """A package that was written."""

    directory: Path
    files: tuple[str, ...]
    use: str
    """Command that uses it once it is installed."""


def write_package(kind: Kind, name: str, directory: Path | None = None) -> Package:
    """Write a package into a new directory, its name's unless another is given.

    Raises `UserError` for a name that cannot be one or is taken, and for a directory that exists.
    """
    _check(kind, name)
    target = directory or Path(name)
    texts = {
        _filled(file.name, name, kind): _filled(file.read_text(encoding="utf-8"), name, kind)
        for folder in ("shared", kind.name)
        for file in sorted((_TEMPLATES / folder).iterdir())
        if file.is_file()
    }
    try:
        target.mkdir(parents=True)
    except FileExistsError:
        raise UserError(f"{target} exists already: choose another name, or another directory with --out") from None
    for file, text in texts.items():
        (target / file).write_text(text, encoding="utf-8")
    return Package(target, tuple(texts), _filled(kind.use, name, kind))


def _check(kind: Kind, name: str) -> None:
    """Raise `UserError` unless a package, its module and its entry point can have this name."""
    if not _NAME.fullmatch(name):
        better = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-0123456789")
        such = f", such as {better}" if _NAME.fullmatch(better) else ""
        raise UserError(f"{name!r} is no name for a package: lower-case letters, digits and hyphens{such}")
    if name in kind.extension_point().names:
        raise UserError(f"{name}: there is a {kind.extension_point().what} of this name already; choose another name")
    module = name.replace("-", "_")
    if keyword.iskeyword(module) or importlib.util.find_spec(module) is not None:
        raise UserError(f"{name}: Python has a module {module} already, which it would hide; choose another name")


def _filled(text: str, name: str, kind: Kind) -> str:
    """A template's text with the names of one package."""
    module, point = name.replace("-", "_"), kind.extension_point()
    names = {
        "new-use": kind.use.replace("new-name", name),
        "new-name": name,
        "new_name": module,
        "NewName": "".join(part.capitalize() for part in module.split("_")),
        "new-kind": kind.name,
        "new-what": f"{'An' if point.what[0] in 'aeiou' else 'A'} {point.what}",
        "new-page": kind.page,
        "new-group": point.group,
    }
    return re.sub("|".join(map(re.escape, names)), lambda found: names[found[0]], text)
