"""SWE-bench-Live (https://github.com/SWE-bench-Live/SWE-bench-Live): SWE-bench's columns, and in `test_cmds` a list of
commands that run the tests in an image of SWE-bench's layout, without an environment to activate.

Its later rows (Windows, MultiLang) bring their log parser as Python code. That is not run here, so they are left out.
"""

from swe_aem.core import TaskRecord
from swe_aem.tasks.families.classic import swebench_image, with_script
from swe_aem.tasks.families.fields import Fields
from swe_aem.tasks.families.reading import Reading
from swe_aem.tasks.families.rows import Row
from swe_aem.tasks.families.script import evaluation_script
from swe_aem.tasks.families.specs_file import RepoSpec
from swe_aem.tasks.families.swebench import read_task

_NAMESPACE = "starryzhang"
"""Where its images are published."""
_PARSERS = {"pytest": "parse_log_pytest"}
"""The names that its rows have for log parsers (swebench/harness/test_spec/test_spec.py there, 2025-05-20)."""
_NOT_READ = ("rebuild_cmds", "print_cmds")
"""Commands of its later rows, between the patch and the tests and after them."""


def recognise(row: Row) -> bool:
    """Does the row have a list of test commands?"""
    return "test_cmds" in row and "instance_id" in row


def read(where: str, row: Row, reading: Reading) -> TaskRecord:
    """Turn one row into a record."""
    field = Fields(where, row)
    for column in _NOT_READ:
        if row.get(column) is not None and len(row[column]):
            raise field.fail(column, "has commands of SWE-bench-Live's later format, which is not read here")
    name = field.text("log_parser")
    if name not in _PARSERS:
        raise field.fail("log_parser", f"is {name!r:.60}, and of SWE-bench-Live's log parsers only pytest is read")
    commands = field.commands("test_cmds", field.value("test_cmds"))
    spec = RepoSpec(test_cmd=commands, log_parser=_PARSERS[name], select="none")
    image = field.text("docker_image") if field.has("docker_image") else swebench_image(field.id(), _NAMESPACE)
    task = read_task(field, image=image)
    script = evaluation_script(spec, task.base_commit, field.text("test_patch"), activate=())
    return with_script(field, task, script, spec.log_parser, reading)
