"""SWE-rebench (https://huggingface.co/datasets/nebius/SWE-rebench): SWE-bench's columns, and in `install_config` how
each instance is installed and tested. Version 2's rows are those of `swerebench_v2.py`."""

from swe_aem.core import TaskRecord
from swe_aem.tasks.families.classic import read_with_spec, swebench_image
from swe_aem.tasks.families.fields import Fields
from swe_aem.tasks.families.reading import Reading
from swe_aem.tasks.families.rows import Row
from swe_aem.tasks.families.specs_file import RepoSpec

_LOCALE = "LANG=C.UTF-8 LC_ALL=C.UTF-8"
"""Set before the commands, as in SWE-rebench/SWE-bench-fork (swebench/harness/utils.py)."""


def recognise(row: Row) -> bool:
    """Does the row say how it is installed?"""
    return bool(row.get("install_config"))


def read(where: str, row: Row, reading: Reading) -> TaskRecord:
    """Turn one row into a record."""
    field = Fields(where, row)
    config = field.object("install_config")
    for name in ("test_cmd", "log_parser"):
        if config.get(name) is None:
            raise field.fail("install_config", f"has no {name}")

    def commands(name: str, prefix: str = "", *, required: bool = False) -> tuple[str, ...]:
        found = field.commands(f"install_config.{name}", config.get(name), required=required)
        return tuple(f"{prefix}{command}" for command in found)

    spec = RepoSpec(
        test_cmd=commands("test_cmd", f"{_LOCALE} ", required=True),
        log_parser=field.known_parser("install_config.log_parser", str(config["log_parser"])),
        install=commands("install", f"{_LOCALE} "),
        eval_commands=commands("eval_commands"),
    )
    image = field.text("docker_image") if field.has("docker_image") else swebench_image(field.id(), "swerebench")
    return read_with_spec(field, spec, image=image, reading=reading)
