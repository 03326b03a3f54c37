"""The families of data sets: each recognises its rows by their columns and reads them. The first match counts."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from swe_aem.core import TaskRecord
from swe_aem.errors import UserError
from swe_aem.tasks.families import classic, multiswe, r2egym, swebench, swerebench, swesmith
from swe_aem.tasks.families.reading import Reading, SkipRow
from swe_aem.tasks.families.rows import Row


@dataclass(frozen=True)
class Family:
    """A format of rows that several data sets share."""

    name: str
    recognise: Callable[[Row], bool]
    read: Callable[[str, Row, Reading], TaskRecord]
    columns: str
    """The columns of its rows, for error messages."""


FAMILIES = (
    Family("SWE-bench 5", swebench.recognise, swebench.read, "instance_id, image, eval_script"),
    Family("Multi-SWE-bench", multiswe.recognise, multiswe.read, "org, repo, number, fix_patch"),
    Family("R2E-Gym", r2egym.recognise, r2egym.read, "docker_image, expected_output_json"),
    Family("SWE-rebench", swerebench.recognise, swerebench.read, "instance_id, install_config"),
    Family("SWE-smith", swesmith.recognise, swesmith.read, "instance_id, image_name, patch"),
    Family("SWE-bench before 5, SWE-Gym", classic.recognise, classic.read, "instance_id, patch, test_patch"),
)


def family_of(where: str, row: Row) -> Family:
    """The family of a row; raises `UserError` if it has the columns of none."""
    for family in FAMILIES:
        if family.recognise(row):
            return family
    known = "; ".join(f"{family.name} ({family.columns})" for family in FAMILIES)
    raise UserError(
        f"{where}: the row's columns ({', '.join(sorted(row)[:12]) or 'none'}) match no known family: {known}"
    )


class RowReader:
    """Turns the rows of one source into records, and refuses an id that comes twice."""

    def __init__(self) -> None:
        self.left_out: dict[str, int] = {}
        """Number of rows that are not tasks, by reason."""
        self._seen: dict[str, str] = {}

    def read(self, rows: Iterable[tuple[str, Row]], reading: Reading) -> Iterable[tuple[TaskRecord, Row]]:
        """Each record with its row; raises `UserError` at the first bad row or repeated id."""
        for where, row in rows:
            try:
                record = family_of(where, row).read(where, row, reading)
            except SkipRow as why:
                self.left_out[str(why)] = self.left_out.get(str(why), 0) + 1
                continue
            first = self._seen.setdefault(record.task.id, where)
            if first is not where:
                raise UserError(f"{where}: the id {record.task.id!r} was seen before ({first}); remove one of them")
            yield record, row

    def notes(self, source: str) -> tuple[str, ...]:
        """Notes for the user about rows that are not tasks."""
        return tuple(f"{source}: {count} rows left out: {why}" for why, count in self.left_out.items())
