"""`specs.yaml`: how to test repositories whose rows lack the commands (SWE-Gym, SWE-bench's classic rows).

v5: [SWE-bench/SWE-bench_Verified]      # rows of the same ids, by file or hub id, whose columns are taken over
image: registry/sweb.eval.x86_64.{id}   # {id}: the id in lower case, "__" replaced by `separator`
separator: _s_
repos:
  owner/name:
    "*": {test_cmd: pytest -rA, log_parser: parse_log_pytest, install: python -m pip install -e .}
    "1.2": {test_cmd: pytest -rA tests/unit}
"""

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from swe_aem.core.base import Frozen
from swe_aem.errors import UserError
from swe_aem.tasks.families.log_parsers import PARSERS
from swe_aem.tasks.yaml_text import parse_yaml

FILE = "specs.yaml"


def _lines(value: object) -> object:
    return [value] if isinstance(value, str) else value


_Command = Annotated[str, Field(min_length=1)]


class RepoSpec(Frozen):
    """How one version of one repository is installed and tested."""

    test_cmd: Annotated[tuple[_Command, ...], BeforeValidator(_lines), Field(min_length=1)]
    """The test command, or several, a line each; the selection of tests is appended to the last."""
    log_parser: str = "parse_log_pytest"
    install: Annotated[tuple[_Command, ...], BeforeValidator(_lines)] = ()
    """Commands that are run before the tests, without a network. Empty: the image's installation is tested as it is."""
    eval_commands: Annotated[tuple[_Command, ...], BeforeValidator(_lines)] = ()
    """Lines at the start of the script, e.g. an `export`."""
    select: Literal["files", "modules", "cases", "none"] = "files"
    """What is appended to the command: the files of the test patch, the same as dotted modules (Django), its
    `[case name]`s joined by "or" (mypy), or nothing."""

    @field_validator("log_parser")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in PARSERS:
            raise ValueError(f"there is no log parser {name!r}; `swe-aem docs datasets` lists them")
        return name


class Specs(Frozen):
    """The content of a `specs.yaml`."""

    v5: Annotated[tuple[str, ...], BeforeValidator(_lines)] = ()
    """Files or hub ids with version 5 rows."""
    image: str = ""
    separator: str = "_1776_"
    repos: dict[str, dict[str, RepoSpec]] = {}
    """Repository to version to spec; the version "*" is any other."""

    def spec(self, repo: str, version: str) -> RepoSpec | None:
        """The spec of a version of a repository, if there is one; upper and lower case are the same."""
        versions = next((found for name, found in self.repos.items() if name.lower() == repo.lower()), {})
        return versions.get(version) or versions.get("*")

    def image_of(self, task_id: str) -> str | None:
        """The image of a task; None if the file has no pattern for images."""
        return self.image.format(id=task_id.lower().replace("__", self.separator)) if self.image else None


def read_specs(path: Path) -> Specs:
    """Read a specs file; files in `v5` are relative to its directory. Raises `UserError`."""
    try:
        specs = parse_yaml(path.read_text(encoding="utf-8"), Specs, str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    beside = (path.parent / source for source in specs.v5)
    sources = tuple(str(file) if file.exists() else source for file, source in zip(beside, specs.v5, strict=True))
    return specs.model_copy(update={"v5": sources})


@cache
def swe_gym() -> Specs:
    """The specs of SWE-Gym's repositories, which ship with this package."""
    name = "swe-gym.yaml"
    return parse_yaml(
        resources.files("swe_aem.tasks.families").joinpath("specs", name).read_text(encoding="utf-8"), Specs, name
    )
