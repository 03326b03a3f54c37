"""`Family`: a format of rows that several data sets share, and `FAMILIES`, where families are found by name."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from swe_aem.core import TaskRecord
from swe_aem.errors import UserError
from swe_aem.extensions import ExtensionPoint
from swe_aem.tasks.families.reading import Reading
from swe_aem.tasks.families.rows import Row

ReadRow = Callable[[str, Row, Reading], TaskRecord]
"""(place of the row, row, what it is read with) to its task; raises `UserError` for a row that cannot be one."""


class RowFamily(Protocol):
    """What reads the rows of a family: `Family`, or an object of a class with settings."""

    @property
    def name(self) -> str:
        """Its name in messages."""
        ...

    @property
    def columns(self) -> str:
        """The columns of its rows, for error messages."""
        ...

    @property
    def recognise(self) -> Callable[[Row], bool]:
        """Does the family read rows with these columns?"""
        ...

    @property
    def read(self) -> ReadRow:
        """The task of a row."""
        ...


def instance_id(row: Row) -> object:
    """The id that most families' rows have."""
    return row.get("instance_id")


def _every_row(row: Row) -> bool:
    return True


@dataclass(frozen=True)
class Family:
    """A format of rows that several data sets share."""

    name: str
    recognise: Callable[[Row], bool]
    read: ReadRow
    columns: str
    """The columns of its rows, for error messages."""
    claimed_id: Callable[[Row], object] = instance_id
    """The id that the task of a row would have, as far as the row says it; for rows that cannot be read."""


FAMILIES: ExtensionPoint[Any] = ExtensionPoint(
    "family",
    group="swe_aem.families",
    builtin={
        name: f"swe_aem.tasks.families.registry:{constant}"
        for name, constant in (
            ("swebench", "SWEBENCH"),
            ("multi-swe-bench", "MULTI_SWE_BENCH"),
            ("r2e-gym", "R2E_GYM"),
            ("swe-bench-pro", "SWE_BENCH_PRO"),
            ("scale-swe", "SCALE_SWE"),
            ("swe-bench-live", "SWE_BENCH_LIVE"),
            ("swe-lego", "SWE_LEGO"),
            ("swe-rebench-v2", "SWE_REBENCH_V2"),
            ("swe-rebench", "SWE_REBENCH"),
            ("swe-smith", "SWE_SMITH"),
            ("swebench-classic", "CLASSIC"),
            ("git", "GIT"),
        )
    },
)
"""Families by name. Rows that name none are read by the first built-in one, and then the first of an installed package,
that recognises their columns."""


def family_of_setting(setting: str | Mapping[str, Any]) -> RowFamily:
    """The family that a setting names: a `Family`, an object with the same attributes, or a function that reads a row.

    Raises `UserError` if it is none of these.
    """
    made: Any = FAMILIES.make(setting)
    name = FAMILIES.name_of(setting)
    if inspect.isfunction(made):
        return Family(name, _every_row, made, "any")
    lacks = [part for part in ("name", "columns", "recognise", "read") if not hasattr(made, part)]
    if lacks:
        raise UserError(
            f"family {name} is {made!r:.60}, which has no {', '.join(lacks)}: give a function (where, row, reading) -> "
            "TaskRecord, or a swe_aem.Family of one"
        )
    return made
