"""`load_tasks`: turns the value of `--tasks` into a `TaskSet`."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import swe_aem.tasks.families.harbor as harbor
from swe_aem.core import TaskRecord
from swe_aem.errors import UserError
from swe_aem.sandbox.images.names import FROM_HARBOR
from swe_aem.suggest import closest, did_you_mean
from swe_aem.tasks.built import built_set, is_recipe_set
from swe_aem.tasks.families.family import FAMILIES, Family
from swe_aem.tasks.families.reading import LeftOut, Reading, left_out_note, none_left, printable
from swe_aem.tasks.families.registry import Families, RowReader
from swe_aem.tasks.families.rows import DEFAULT_HUB_SPLIT, FILE_SUFFIXES, RawRows, read_file_rows, read_hub_rows
from swe_aem.tasks.families.specs_file import FILE as SPECS_FILE
from swe_aem.tasks.families.specs_file import Specs, read_specs
from swe_aem.tasks.library import FunctionLibrary
from swe_aem.tasks.packages import PackageStore, TreeStore
from swe_aem.tasks.taskset import TaskSet

LABEL_COLUMNS = ("mutation_kind", "package", "function", "difficulty", "part")
"""Columns beyond SWE-bench's that are kept as labels; the task itself does not use them."""
_PACKAGE = Path(__file__).resolve().parent
_BUNDLED = (_PACKAGE.parents[1] / "tasks", _PACKAGE.parent / "bundled" / "tasks")
"""Directories with the bundled sets: of a checkout, and of an installed wheel."""
_SHOWN = 5


def load_tasks(
    source: str | Path,
    *,
    split: str | None = None,
    ids: Sequence[str] | None = None,
    limit: int | None = None,
    family: Any = None,
) -> TaskSet:
    """Read the tasks of `source` into a `TaskSet`, a sequence of `TaskRecord`s.

    `source` is a directory with one file per split (the bundled sets are such directories, and `micro` alone finds the
    one of that name) or with Harbor task folders, a `.jsonl`, `.json` or `.parquet` file, or the id of a data set on
    the Hugging Face hub. Rows may be of any family in `families/registry.py`; a `specs.yaml` beside them is read too.
    `family` names what reads the rows, where their columns do not say it, or it is your own: a name,
    `package.module:object`, `file.py:object`, or in Python a function (where, row, reading) -> `TaskRecord`.
    `split` chooses a split (all of a directory by default, `test` of a hub data set); `ids` chooses tasks and keeps the
    source's order; `limit` then keeps the first ones.

    A row that cannot be a task is left out and named (`TaskSet.left_out`, and a line of `TaskSet.notes`). Raises
    `UserError` if a chosen id is one of those, if no row is left, and for everything that is wrong with the source.
    """
    if limit is not None and limit < 1:
        raise UserError(f"limit is {limit}; give at least 1")
    source = str(source)
    path = find_source(source)
    setting = None if family is None else FAMILIES.setting_of(family.read if isinstance(family, Family) else family)
    reader = RowReader(Families(setting))
    content = _read_hub(source, split or DEFAULT_HUB_SPLIT, reader) if path is None else _read_path(path, split, reader)
    kept = _choose(source, content, ids)
    total = len(content.records) + len(content.left_out)
    left_out = [left_out_note(source, content.left_out, total)] if content.left_out else []
    tasks = TaskSet(
        name=source,
        records=(),
        labels=content.labels,
        packages=content.packages,
        notes=(*left_out, *content.notes),
        left_out=tuple(content.left_out),
        builds=content.builds,
        split=split,
        family=setting,
        extensions=reader.families.extensions,
    )
    for record in kept:
        record._origin = tasks
    return replace(tasks, records=tuple(kept[:limit]), ids=None if ids is None else tuple(ids), limit=limit)


@dataclass
class _Content:
    """The content of a source."""

    records: list[TaskRecord] = field(default_factory=list)
    labels: dict[str, dict[str, str]] = field(default_factory=dict)
    packages: TreeStore | None = None
    notes: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    builds: dict[str, Path] = field(default_factory=dict)

    def add(self, rows: RawRows, reader: RowReader, reading: Reading) -> None:
        """Add the records of rows, and their label columns."""
        for record, row in reader.read(rows, reading):
            self.records.append(record)
            found = {column: row[column] for column in LABEL_COLUMNS if isinstance(row.get(column), str)}
            if found:
                self.labels[record.task.id] = found


def bundled(name: str) -> Path | None:
    """Directory of the bundled set of that name, if there is one."""
    for directory in _BUNDLED:
        if (directory / name).is_dir():
            return directory / name
    return None


def bundled_sets() -> tuple[str, ...]:
    """Names of the bundled sets."""
    return tuple(
        sorted({path.name for place in _BUNDLED if place.is_dir() for path in place.iterdir() if path.is_dir()})
    )


def find_source(source: str) -> Path | None:
    """The file or directory of `source`; for recipes, the set built from them. None for an id on the hub."""
    path = Path(source).expanduser()
    found = path if path.exists() else None
    if found is None and "/" not in source:
        found = bundled(source)
    # so that `tasks/micro`, as the documentation has it, works from any directory
    if found is None and len(path.parts) == 2 and path.parts[0] == "tasks":
        found = bundled(path.parts[1])
    if found is not None:
        return built_set(found) if is_recipe_set(found) else found
    if path.suffix.lower() in FILE_SUFFIXES or path.is_absolute() or source.startswith((".", "~")):
        raise UserError(f"{source}: no such file or directory; the bundled sets are {', '.join(bundled_sets())}")
    name = source.removeprefix("tasks/")
    if "/" not in name and (alike := closest(name, bundled_sets())):
        known = ", ".join(bundled_sets())
        raise UserError(f"no task set {source} (did you mean {alike}?); the bundled sets are {known}")
    return None


def _trees(directory: Path) -> TreeStore | None:
    """The store of the working trees of a set's tasks; None if images hold them."""
    for name, store in (("packages", PackageStore), ("functions", FunctionLibrary)):
        if (directory / name).is_dir():
            return store((directory / name).resolve())
    return None


def _read_hub(source: str, split: str, reader: RowReader) -> _Content:
    content = _Content()
    content.add(read_hub_rows(source, split), reader, Reading(split=split))
    content.left_out = reader.left_out
    return content


def _read_path(path: Path, split: str | None, reader: RowReader) -> _Content:
    if path.is_dir() and (folders := harbor.task_folders(path)):
        return _read_harbor(path, folders, split)
    directory = path if path.is_dir() else path.parent
    specs = directory / SPECS_FILE
    reading = Reading(specs=read_specs(specs) if specs.is_file() else Specs(), directory=directory)
    content = _Content(packages=_trees(directory))
    files = _split_files(path, split) if path.is_dir() else [(path, _split_of_file(path, split, content.packages))]
    for file, name in files:
        content.add(read_file_rows(file), reader, replace(reading, split=name))
    content.left_out = reader.left_out
    return content


def _read_harbor(path: Path, folders: list[Path], split: str | None) -> _Content:
    if split is not None:
        raise UserError(f"{path}: task folders have no split {split!r}; leave the split out")
    content = _Content()
    for folder in folders:
        try:
            record = harbor.read(folder, Reading())
        except (UserError, OSError) as error:
            reason = printable(str(error).removeprefix(f"{folder}: "))
            content.left_out.append(LeftOut(folder.resolve().name, str(folder), reason))
        else:
            content.records.append(record)
            if record.task.image.startswith(FROM_HARBOR):
                content.builds[record.task.image] = (folder / harbor.BUILD_CONTEXT).resolve()
    if not content.records:
        raise UserError(none_left(content.left_out))
    if content.builds:
        count = len(content.builds)
        content.notes.append(
            f"{count} tasks name no docker_image; `swe-aem images build --tasks {path}` builds their images"
        )
    return content


def _split_files(directory: Path, split: str | None) -> list[tuple[Path, str]]:
    """The files to read in a directory, each with the name of its split; the training split comes first."""
    files = {path.stem: path for path in sorted(directory.iterdir()) if path.suffix.lower() in FILE_SUFFIXES}
    if not files:
        raise UserError(
            f"{directory}: has no {', '.join(FILE_SUFFIXES)} file and no Harbor task; name a directory with one file "
            "per split"
        )
    if split is not None and split not in files:
        raise UserError(
            f"{directory}: has no split {split}{did_you_mean(split, files)}; it has {', '.join(sorted(files))}"
        )
    names = [split] if split is not None else sorted(files, key=lambda name: (name != "train", name))
    return [(files[name], name) for name in names]


def _split_of_file(path: Path, split: str | None, packages: TreeStore | None) -> str | None:
    # A file of a set with packages is one split of that set; any other file has no splits.
    own = path.stem if packages is not None else None
    if split is not None and split != own:
        raise UserError(f"{path}: a file has no split {split!r}; leave the split out or name the directory")
    return own


def _choose(source: str, content: _Content, ids: Sequence[str] | None) -> list[TaskRecord]:
    records = content.records
    if not records:
        raise UserError(f"{source}: has no tasks")
    if ids is None:
        return records
    wanted = set(ids)
    missing = wanted - {record.task.id for record in records}
    refused = [row for row in content.left_out if row.id in missing]
    if refused:
        told = "; ".join(f"{row.name} ({row.where}): {row.reason}" for row in refused[:_SHOWN])
        more = f" and {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else ""
        raise UserError(f"{source}: cannot be tasks: {told}{more}; leave them out of the choice")
    if missing:
        known = [record.task.id for record in records]
        shown = ", ".join(f"{id}{did_you_mean(id, known)}" for id in sorted(missing)[:_SHOWN])
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise UserError(f"{source}: has no task {shown}{more}; `swe-aem tasks list --tasks {source}` shows the ids")
    return [record for record in records if record.task.id in wanted]
