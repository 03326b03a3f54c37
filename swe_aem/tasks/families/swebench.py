"""SWE-bench version 5 rows (https://github.com/SWE-bench/SWE-bench): Full, Lite, Verified, Multilingual, Multimodal.

What an agent may see goes into `Task`; `patch`, `test_patch`, `eval_script` and the test lists go into `AnswerKey`;
`hints_text` (the discussion below an issue, which often names the fix) is dropped.
"""

from swe_aem.core import AnswerKey, Task, TaskRecord
from swe_aem.tasks.families.fields import Fields
from swe_aem.tasks.families.reading import Reading
from swe_aem.tasks.families.rows import Row

EVAL_TYPES = ("pass_and_fail", "fail_only")
V5_COLUMNS = frozenset({"image", "eval_script", "log_parser", "eval_type"})
"""Columns that version 5 added; rows of older versions cannot be graded without them."""
_NEEDS_BLACKHOLE = frozenset({"psf/requests"})
"""Repositories whose tests need packets to be swallowed instead of refused: they wait for a connect timeout."""


def recognise(row: Row) -> bool:
    """Does the row have an evaluation script?"""
    return "eval_script" in row


def read(where: str, row: Row, reading: Reading) -> TaskRecord:
    """Turn one row into a record."""
    field = Fields(where, row)
    task = read_task(field, image=field.text("image"))
    key = AnswerKey(
        task_id=task.id,
        repo=task.repo,
        version=field.version(),
        gold_patch=field.text("patch"),
        test_patch=field.text("test_patch"),
        eval_script=field.text("eval_script"),
        log_parser=field.parser(),
        eval_type=field.choice("eval_type", EVAL_TYPES),
        fail_to_pass=field.names("FAIL_TO_PASS", required=True),
        pass_to_pass=field.names("PASS_TO_PASS", required=False),
        timeout_s=field.timeout(),
    )
    return TaskRecord(task=task, key=key, split=reading.split)


def read_task(field: Fields, *, image: str, workdir: str = Task.model_fields["workdir"].default) -> Task:
    """The part of a task that an agent may see, from the columns that SWE-bench and its variants share."""
    repo = field.text("repo")
    return Task(
        id=field.id(),
        repo=repo,
        base_commit=field.commit(),
        problem_statement=field.text("problem_statement"),
        image=image,
        workdir=workdir,
        network="blackhole" if repo in _NEEDS_BLACKHOLE else "none",
    )
