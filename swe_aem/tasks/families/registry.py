"""The built-in families of data sets: each recognises its rows by their columns and reads them. `RowReader` reads the
rows of a source: by the family that a setting names, else by the first that recognises them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from swe_aem.core import TaskRecord
from swe_aem.errors import UserError
from swe_aem.extensions import ExtensionPoint
from swe_aem.tasks.families import (
    classic,
    git,
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
from swe_aem.tasks.families.family import FAMILIES, Family, RowFamily, family_of_setting, instance_id
from swe_aem.tasks.families.log_parsers import LOG_PARSERS, is_own_parser, log_parser
from swe_aem.tasks.families.reading import LeftOut, Reading, SourceError, none_left, printable
from swe_aem.tasks.families.rows import Row, Unreadable

SWEBENCH = Family("SWE-bench 5", swebench.recognise, swebench.read, "instance_id, image, eval_script")
MULTI_SWE_BENCH = Family(
    "Multi-SWE-bench", multiswe.recognise, multiswe.read, "org, repo, number, fix_patch", multiswe.task_id
)
R2E_GYM = Family("R2E-Gym", r2egym.recognise, r2egym.read, "docker_image, expected_output_json", r2egym.task_id)
SWE_BENCH_PRO = Family("SWE-bench Pro", refused.is_pro, refused.read_pro, "dockerhub_tag, selected_test_files_to_run")
SCALE_SWE = Family("Scale-SWE", refused.is_scale_swe, refused.read_scale_swe, "image_url, pre_commands, f2p_script")
SWE_BENCH_LIVE = Family(
    "SWE-bench-Live", swebenchlive.recognise, swebenchlive.read, "instance_id, test_cmds, log_parser"
)
SWE_LEGO = Family("SWE-Lego", swelego.recognise, swelego.read, "instance_id, image_name, test_cmd, test_patch")
SWE_REBENCH_V2 = Family(
    "SWE-rebench-V2", swerebench_v2.recognise, swerebench_v2.read, "instance_id, image_name, install_config"
)
SWE_REBENCH = Family("SWE-rebench", swerebench.recognise, swerebench.read, "instance_id, install_config")
SWE_SMITH = Family("SWE-smith", swesmith.recognise, swesmith.read, "instance_id, image_name, patch")
CLASSIC = Family("SWE-bench before 5, SWE-Gym", classic.recognise, classic.read, "instance_id, patch, test_patch")
GIT = Family("git", git.recognise, git.read, "instance_id, repository, fix_commit")


class Families:
    """The families that may read the rows of a source, and what was used of those that are not built in."""

    def __init__(self, setting: str | Mapping[str, Any] | None = None) -> None:
        """`setting` names the family of all rows. Raises `UserError` if there is none."""
        self.extensions: dict[str, str] = {}
        """Setting to the identity of each family and log parser that is not built in and was used."""
        self._forced = None if setting is None else FAMILIES.name_of(setting)
        self._known: dict[str, RowFamily] = {}
        if self._forced is not None:
            self._known[self._forced] = family_of_setting(setting or self._forced)

    def of(self, where: str, row: Row) -> RowFamily:
        """The family of a row; raises `UserError` if it has the columns of none."""
        name = self._name_of(row)
        if name is None:
            known = "; ".join(f"{one.name} ({one.columns})" for one in map(self._family, FAMILIES.names))
            raise UserError(
                f"{where}: the row's columns ({', '.join(sorted(row)[:12]) or 'none'}) match no known family: {known}. "
                "What reads rows of your own is the setting family (swe-aem docs extend/tasks)"
            )
        if not FAMILIES.is_builtin(name):
            self._record("family" if name == self._forced else f"family.{name}", FAMILIES, name)
        return self._family(name)

    def read(self, where: str, row: Row, reading: Reading) -> TaskRecord:
        """The task of a row. Raises `UserError` if it cannot be one, and what the code of a family raises."""
        record = self.of(where, row).read(where, row, reading)
        if not isinstance(record, TaskRecord):
            raise UserError(f"{where}: its family made {record!r:.60} of it, which is no TaskRecord")
        if is_own_parser(name := record.key.log_parser):
            log_parser(name)
            self._record(f"log_parser.{name}", LOG_PARSERS, name)
        return record

    def claimed_id(self, row: Row) -> str:
        """The id of the task that a row would be; empty if it does not say."""
        name = self._name_of(row)
        family = None if name is None else self._family(name)
        claimed = getattr(family, "claimed_id", instance_id)(row)
        return claimed if isinstance(claimed, str) else ""

    def is_own(self, row: Row) -> bool:
        """Is what reads the row not built in?"""
        name = self._name_of(row)
        return name is not None and not FAMILIES.is_builtin(name)

    def _record(self, setting: str, point: ExtensionPoint[Any], name: str) -> None:
        """Keep the identity of what was used, which takes seconds to compute: once, not for each row."""
        if setting not in self.extensions:
            self.extensions[setting] = point.identity(name)

    def _name_of(self, row: Row) -> str | None:
        """The name of a row's family: the one that all rows are of, or the first that recognises it."""
        if self._forced is not None:
            return self._forced
        return next((name for name in FAMILIES.names if self._family(name).recognise(row)), None)

    def _family(self, name: str) -> RowFamily:
        if name not in self._known:
            self._known[name] = family_of_setting(name)
        return self._known[name]


class RowReader:
    """Turns the rows of one source into records. A row that cannot be read, or whose id came before, is left out."""

    def __init__(self, families: Families | None = None) -> None:
        self.left_out: list[LeftOut] = []
        self.families = families or Families()
        self._seen: dict[str, str] = {}

    def read(self, rows: Iterable[tuple[str, Row | Unreadable]], reading: Reading) -> Iterator[tuple[TaskRecord, Row]]:
        """Each record with its row. Raises `UserError` if there are rows and none is a task: such a problem is the
        source's, not a row's. What the code of an own family raises, other than `UserError`, is raised as it is."""
        before, total = len(self.left_out), 0
        for where, row in rows:
            total += 1
            try:
                if isinstance(row, Unreadable):
                    raise UserError(f"{where}: {row.problem}")
                record = self.families.read(where, row, reading)
                self._check_first(where, record.task.id)
            except SourceError:
                raise
            except Exception as error:  # whatever is wrong with one row, the other rows are tasks
                if not isinstance(error, UserError) and isinstance(row, dict) and self.families.is_own(row):
                    error.add_note(f"This is the code of a family, reading {where}. It refuses a row by a UserError.")
                    raise
                self.left_out.append(LeftOut(self._claimed_id(row), where, _reason(where, error)))
            else:
                yield record, row
        if total and len(self.left_out) - before == total:
            raise UserError(none_left(self.left_out[before:]))

    def _check_first(self, where: str, task_id: str) -> None:
        first = self._seen.setdefault(task_id, where)
        if first is not where:
            raise UserError(f"{where}: the id {task_id!r} was seen before ({first})")

    def _claimed_id(self, row: Row | Unreadable) -> str:
        return "" if isinstance(row, Unreadable) else self.families.claimed_id(row)


def _reason(where: str, error: Exception) -> str:
    if isinstance(error, UserError):
        return printable(str(error).removeprefix(f"{where}: "))
    return printable(f"cannot be read ({type(error).__name__}: {error})")
