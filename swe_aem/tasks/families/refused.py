"""Families whose rows are known and cannot be graded: each is refused by its name, with what its rows lack."""

from collections.abc import Callable

from swe_aem.core import TaskRecord
from swe_aem.errors import UserError
from swe_aem.tasks.families.reading import Reading
from swe_aem.tasks.families.rows import Row

Read = Callable[[str, Row, Reading], TaskRecord]


def is_pro(row: Row) -> bool:
    """Is it a row of SWE-bench Pro (https://huggingface.co/datasets/ScaleAI/SWE-bench_Pro)?"""
    return "selected_test_files_to_run" in row


def is_scale_swe(row: Row) -> bool:
    """Is it a row of Scale-SWE (https://huggingface.co/datasets/AweAI-Team/Scale-SWE)?"""
    return "image_url" in row and not {"f2p_script", "f2p_patch", "pre_commands"}.isdisjoint(row)


def refuse(family: str, why: str) -> Read:
    """What reads the rows of a family: it raises `UserError` with that reason."""

    def read(where: str, row: Row, reading: Reading) -> TaskRecord:
        raise UserError(f"{where}: is a row of {family}, which cannot be graded from its rows: {why}")

    return read


read_pro = refuse(
    "SWE-bench Pro",
    "the scripts that run its tests and read their output (run_scripts/ID/run_script.sh and parser.py of "
    "scaleapi/SWE-bench_Pro-os) are not in them; make a Harbor task folder of each, and give their directory",
)
read_scale_swe = refuse(
    "Scale-SWE",
    "its images are not at the task's commit until pre_commands have run, and no sandbox here runs commands of a data "
    "set before an agent; build images in which they have run, and make a Harbor task folder of each",
)
