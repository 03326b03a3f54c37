"""SWE-rebench-V2 (https://huggingface.co/datasets/nebius/SWE-rebench-V2): 20 languages, an image per row.

The repository is at /<its name>, everything is installed, and `install_config.test_cmd` runs the tests as they are. As
upstream (SWE-rebench/SWE-rebench-V2, scripts/eval.py; 2026-11-28), nothing is installed again and no environment is
activated. A row names one of 76 log parsers of its own. Those that swebench has too, with the same rules, are read;
rows with others are left out, for no log parser here gives the names of their tests.
"""

from swe_aem.core import TaskRecord
from swe_aem.tasks.families.classic import with_script
from swe_aem.tasks.families.fields import NAME, Fields
from swe_aem.tasks.families.reading import Reading
from swe_aem.tasks.families.rows import Row
from swe_aem.tasks.families.script import evaluation_script
from swe_aem.tasks.families.specs_file import RepoSpec
from swe_aem.tasks.families.swebench import read_task

PARSERS = frozenset(
    f"parse_log_{name}"
    for name in (
        *("ant", "calypso", "cargo", "chart_js", "cucumber", "doctest", "googletest", "gotest", "jest", "jest_json"),
        *("jq", "karma", "marked", "micropython_test", "minitest", "p5js", "pytest", "pytest_options", "pytest_v2"),
        *("redis", "rspec_transformed_json", "ruby_unit", "tap", "vitest"),
    )
)
"""Log parsers whose rules are those of swebench 5.0.2's of the same name. Not so are those of phpunit, maven,
gradle_custom and react_pdf: there swebench's give other names."""
_JAVA = "export _JAVA_OPTIONS=-Djava.net.preferIPv6Addresses=false"
_APPLY = "-v --recount --ignore-space-change --whitespace=nowarn"
"""Upstream's options, but for --3way, which needs an index that agrees with the work tree."""


def recognise(row: Row) -> bool:
    """Does the row say how it is tested, and name its language or an image that has not SWE-bench's layout?"""
    config = row.get("install_config")
    if not config:
        return False
    image_is_own = not row.get("docker_image") and isinstance(row.get("image_name"), str) and not _at_testbed(row)
    return "language" in row or image_is_own or (isinstance(config, str | dict) and "base_image_name" in config)


def read(where: str, row: Row, reading: Reading) -> TaskRecord:
    """Turn one row into a record."""
    field = Fields(where, row)
    config = field.object("install_config")
    parser = config.get("log_parser")
    if parser not in PARSERS:
        raise field.fail(
            "install_config.log_parser",
            f"is {parser!r}, and no log parser here has the rules of SWE-rebench-V2's of that name",
        )
    name = field.text("repo").rpartition("/")[2]
    if not NAME.fullmatch(name):
        raise field.fail("repo", f"is {row['repo']!r}, not owner/name")
    for column in ("FAIL_TO_PASS", "PASS_TO_PASS"):
        field.names_that_last(column, required=column == "FAIL_TO_PASS")
    spec = RepoSpec(
        test_cmd=field.commands("install_config.test_cmd", config.get("test_cmd")),
        log_parser=parser,
        eval_commands=(_JAVA,),
        select="none",
    )
    image = field.text("image_name")
    if _at_testbed(row):
        raise field.fail("image_name", f"is {image!r}, and the repository of such an image is not at /{name}")
    task = read_task(field, image=image, workdir=f"/{name}")
    script = evaluation_script(
        spec, task.base_commit, field.text("test_patch"), workdir=task.workdir, activate=(), apply_options=_APPLY
    )
    return with_script(field, task, script, parser, reading)


def _at_testbed(row: Row) -> bool:
    """Is its image one of those whose repository is at /testbed?"""
    return "sweb.eval." in str(row.get("image_name"))
