"""SWE-rebench (https://huggingface.co/datasets/nebius/SWE-rebench): SWE-bench's columns, and in `install_config` how
each instance is installed and tested. Version 2's rows (20 languages, other working directories) are not read."""

from pydantic import ValidationError

from swe_aem.core import TaskRecord
from swe_aem.errors import UserError
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
    if field.has("language") and str(row["language"]).lower() != "python":
        raise UserError(f"{where}: is a row of SWE-rebench-V2, which is not supported; use nebius/SWE-rebench")
    config = field.object("install_config")
    for name in ("test_cmd", "log_parser"):
        if not config.get(name):
            raise field.fail("install_config", f"has no {name}")
    field.known_parser("install_config.log_parser", str(config["log_parser"]))
    install = config.get("install")
    try:
        spec = RepoSpec(
            test_cmd=f"{_LOCALE} {config['test_cmd']}",
            log_parser=config["log_parser"],
            install=f"{_LOCALE} {install}" if install else "",
            eval_commands=config.get("eval_commands", ()),
        )
    except ValidationError as error:
        raise field.fail("install_config", f"has a wrong {error.errors()[0]['loc'][0]}") from error
    image = field.text("docker_image") if field.has("docker_image") else swebench_image(field.id(), "swerebench")
    return read_with_spec(field, spec, image=image, reading=reading)
