"""The families of data sets: each recognises its rows by their columns and reads them. The first match counts."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from swe_aem.core import TaskRecord
from swe_aem.errors import UserError
from swe_aem.tasks.families import (
    classic,
    multiswe,
    r2egym,
    refused,
    swebench,
    swebenchlive,
    swelego,
    swerebench,
    swerebench_v2,
    swesmith,
)
from swe_aem.tasks.families.reading import LeftOut, Reading, SourceError, none_left, printable
from swe_aem.tasks.families.rows import Row, Unreadable


@dataclass(frozen=True)
class Family:
    """A format of rows that several data sets share."""

    name: str
    recognise: Callable[[Row], bool]
    read: Callable[[str, Row, Reading], TaskRecord]
    columns: str
    """The columns of its rows, for error messages."""
    claimed_id: Callable[[Row], object] = lambda row: row.get("instance_id")
    """The id that the task of a row would have, as far as the row says it; for rows that cannot be read."""


FAMILIES = (
    Family("SWE-bench 5", swebench.recognise, swebench.read, "instance_id, image, eval_script"),
    Family("Multi-SWE-bench", multiswe.recognise, multiswe.read, "org, repo, number, fix_patch", multiswe.task_id),
    Family("R2E-Gym", r2egym.recognise, r2egym.read, "docker_image, expected_output_json", r2egym.task_id),
    Family("SWE-bench Pro", refused.is_pro, refused.read_pro, "dockerhub_tag, selected_test_files_to_run"),
    Family("Scale-SWE", refused.is_scale_swe, refused.read_scale_swe, "image_url, pre_commands, f2p_script"),
    Family("SWE-bench-Live", swebenchlive.recognise, swebenchlive.read, "instance_id, test_cmds, log_parser"),
    Family("SWE-Lego", swelego.recognise, swelego.read, "instance_id, image_name, test_cmd, test_patch"),
    Family("SWE-rebench-V2", swerebench_v2.recognise, swerebench_v2.read, "instance_id, image_name, install_config"),
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
    """Turns the rows of one source into records. A row that cannot be read, or whose id came before, is left out."""

    def __init__(self) -> None:
        self.left_out: list[LeftOut] = []
        self._seen: dict[str, str] = {}

    def read(self, rows: Iterable[tuple[str, Row | Unreadable]], reading: Reading) -> Iterator[tuple[TaskRecord, Row]]:
        """Each record with its row. Raises `UserError` if there are rows and none is a task: such a problem is the
        source's, not a row's."""
        before, total = len(self.left_out), 0
        for where, row in rows:
            total += 1
            try:
                if isinstance(row, Unreadable):
                    raise UserError(f"{where}: {row.problem}")
                record = family_of(where, row).read(where, row, reading)
                self._check_first(where, record.task.id)
            except SourceError:
                raise
            except Exception as error:  # whatever is wrong with one row, the other rows are tasks
                self.left_out.append(LeftOut(_claimed_id(row), where, _reason(where, error)))
            else:
                yield record, row
        if total and len(self.left_out) - before == total:
            raise UserError(none_left(self.left_out[before:]))

    def _check_first(self, where: str, task_id: str) -> None:
        first = self._seen.setdefault(task_id, where)
        if first is not where:
            raise UserError(f"{where}: the id {task_id!r} was seen before ({first})")


def _claimed_id(row: Row | Unreadable) -> str:
    """The id of the task that a row would be; empty if it does not say."""
    if isinstance(row, Unreadable):
        return ""
    family = next((family for family in FAMILIES if family.recognise(row)), None)
    claimed = row.get("instance_id") if family is None else family.claimed_id(row)
    return claimed if isinstance(claimed, str) else ""


def _reason(where: str, error: Exception) -> str:
    if isinstance(error, UserError):
        return printable(str(error).removeprefix(f"{where}: "))
    return printable(f"cannot be read ({type(error).__name__}: {error})")
