"""SWE-Lego (https://huggingface.co/datasets/SWE-Lego/SWE-Lego-Real-Data): SWE-bench's columns, an image of its layout,
and in `test_cmd` the whole test command: it names the files, and nothing is installed again."""

from swe_aem.core import TaskRecord
from swe_aem.tasks.families.classic import with_script
from swe_aem.tasks.families.fields import Fields
from swe_aem.tasks.families.reading import Reading
from swe_aem.tasks.families.rows import Row
from swe_aem.tasks.families.script import evaluation_script
from swe_aem.tasks.families.specs_file import RepoSpec
from swe_aem.tasks.families.swebench import read_task

_PARSER = "parse_log_pytest"
"""All its tests are pytest's; a row may name another parser in a column of its own."""


def recognise(row: Row) -> bool:
    """Does the row name an image, its test command and a test patch?"""
    return {"image_name", "test_cmd", "test_patch"} <= row.keys()


def read(where: str, row: Row, reading: Reading) -> TaskRecord:
    """Turn one row into a record."""
    field = Fields(where, row)
    parser = field.parser() if field.has("log_parser") else _PARSER
    commands = field.commands("test_cmd", row["test_cmd"])
    if parser == _PARSER and not any("-r" in command for command in commands):
        raise field.fail("test_cmd", "does not make pytest list its tests; add -rA")
    spec = RepoSpec(test_cmd=commands, log_parser=parser, select="none")
    task = read_task(field, image=field.text("image_name"))
    script = evaluation_script(spec, task.base_commit, field.text("test_patch"))
    return with_script(field, task, script, parser, reading)
