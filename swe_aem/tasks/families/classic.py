"""Rows of SWE-bench before version 5, and of SWE-Gym, which has the same columns: no image, no script, no parser.

The image follows from the id, the parser from the repository. The commands do not: swebench 5 no longer has them. For
SWE-Gym's repositories they ship with this package; for others they come from a `specs.yaml` beside the rows, which may
also name version 5 rows of the same ids to take them from.
"""

from functools import cache

from swe_aem.core import AnswerKey, Task, TaskRecord
from swe_aem.errors import UserError
from swe_aem.tasks.families.fields import Fields
from swe_aem.tasks.families.reading import Reading, SourceError
from swe_aem.tasks.families.rows import Row, Unreadable, read_rows
from swe_aem.tasks.families.script import evaluation_script
from swe_aem.tasks.families.specs_file import FILE, RepoSpec, Specs, swe_gym
from swe_aem.tasks.families.swebench import V5_COLUMNS, read_task
from swe_aem.tasks.families.swebench import read as read_v5

_V5_SETS = "SWE-bench/SWE-bench, SWE-bench/SWE-bench_Lite, SWE-bench/SWE-bench_Verified"


def recognise(row: Row) -> bool:
    """Does the row have the columns that every version of SWE-bench has?"""
    return {"instance_id", "repo", "base_commit", "patch", "test_patch"} <= row.keys()


def read(where: str, row: Row, reading: Reading) -> TaskRecord:
    """Turn one row into a record, with the commands from version 5 rows, a specs file or the bundled specs."""
    field = Fields(where, row)
    repo, version = field.text("repo"), field.version()
    newer = _v5_rows(reading.specs.v5).get(field.id())
    if newer is not None:
        return read_v5(where, {**row, **{column: newer[column] for column in V5_COLUMNS & newer.keys()}}, reading)
    for specs in (reading.specs, swe_gym()):
        spec = specs.spec(repo, version)
        if spec is not None:
            return read_with_spec(
                field, spec, image=specs.image_of(field.id()) or swebench_image(field.id()), reading=reading
            )
    raise UserError(
        f"{where}: {field.id()} is a row of SWE-bench before version 5, which does not say how {repo} {version} is "
        f"tested: load the data set in version 5's format ({_V5_SETS}), or name it, or the commands, in a {FILE} "
        "beside the rows (swe-aem docs datasets)"
    )


def read_with_spec(field: Fields, spec: RepoSpec, *, image: str, reading: Reading) -> TaskRecord:
    """The record of a row with SWE-bench's columns whose commands are known, in an image of SWE-bench's layout."""
    task = read_task(field, image=image)
    script = evaluation_script(spec, task.base_commit, field.text("test_patch"))
    return with_script(field, task, script, spec.log_parser, reading)


def with_script(field: Fields, task: Task, script: str, log_parser: str, reading: Reading) -> TaskRecord:
    """The record of a row with SWE-bench's columns whose evaluation script has been made."""
    key = AnswerKey(
        task_id=task.id,
        repo=task.repo,
        version=field.version() if field.has("version") else "",
        gold_patch=field.text("patch"),
        test_patch=field.text("test_patch"),
        eval_script=script,
        log_parser=log_parser,
        eval_type="pass_and_fail",
        fail_to_pass=field.names("FAIL_TO_PASS", required=True),
        pass_to_pass=field.names("PASS_TO_PASS", required=False),
        timeout_s=field.timeout(),
    )
    return TaskRecord(task=task, key=key, split=reading.split)


def swebench_image(task_id: str, namespace: str = "swebench") -> str:
    """The name under which SWE-bench publishes the image of an instance."""
    return Specs(image=f"{namespace}/sweb.eval.x86_64.{{id}}:latest").image_of(task_id) or ""


@cache
def _v5_rows(sources: tuple[str, ...]) -> dict[str, Row]:
    """The version 5 rows of the sources, by id."""
    rows: dict[str, Row] = {}
    for source in sources:
        try:
            found = [row for _, row in read_rows(source) if not isinstance(row, Unreadable)]
        except UserError as error:
            raise SourceError(str(error)) from error
        rows |= {row["instance_id"]: row for row in found if isinstance(row.get("instance_id"), str)}
    return rows
