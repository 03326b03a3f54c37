"""Evaluation scripts in SWE-bench's format, made from a row and the commands of its repository."""

import re
import shlex
from dataclasses import dataclass
from typing import assert_never

from swe_aem.tasks.families.specs_file import RepoSpec

START = ": '>>>>> Start Test Output'"
END = ": '>>>>> End Test Output'"
ACTIVATE = ("source /opt/miniconda3/bin/activate", "conda activate testbed")
_NO_TESTS = (".json", ".png", ".csv", ".txt", ".md", ".jpg", ".jpeg", ".pkl", ".yml", ".yaml", ".toml")
"""Suffixes of files in a test patch that are not tests."""


@dataclass(frozen=True)
class Touched:
    """Paths that a patch touches."""

    modified: tuple[str, ...]
    """Paths that exist before it."""
    created: tuple[str, ...]
    deleted: tuple[str, ...]

    @property
    def remaining(self) -> tuple[str, ...]:
        """Paths that exist after it."""
        return tuple(path for path in (*self.modified, *self.created) if path not in self.deleted)


def touched(patch: str) -> Touched:
    """The paths of a patch of a data set, read from its header lines."""
    modified, created, deleted = [], [], []
    sections = re.split(r"^(?=diff --git )", patch, flags=re.MULTILINE)
    for section in sections:
        head = re.match(r"diff --git a/(.+) b/(.+)", section)
        if head is None:
            continue
        header = section.partition("\n@@ ")[0]
        if re.search(r"^(?:new file mode |--- /dev/null$)", header, re.MULTILINE):
            created.append(head[2])
            continue
        modified.append(head[1])
        if re.search(r"^(?:deleted file mode |\+\+\+ /dev/null$)", header, re.MULTILINE):
            deleted.append(head[1])
        elif head[2] != head[1]:
            deleted.append(head[1])
            created.append(head[2])
    return Touched(tuple(modified), tuple(created), tuple(deleted))


def evaluation_script(
    spec: RepoSpec,
    base_commit: str,
    test_patch: str,
    *,
    workdir: str = "/testbed",
    activate: tuple[str, ...] = ACTIVATE,
    apply_options: str = "-v",
) -> str:
    """The script: activate, install, put the tests in place, run them between the markers, put them back.

    `apply_options` are those of the `git apply` that adds the tests.
    """
    paths = touched(test_patch)
    reset = [f"git checkout {base_commit} {shlex.join(paths.modified)}"] if paths.modified else []
    *commands, last = spec.test_cmd
    lines = [
        "#!/bin/bash",
        "set -uxo pipefail",
        *activate,
        f"cd {workdir}",
        *spec.eval_commands,
        f"git config --global --add safe.directory {workdir}",
        f"cd {workdir}",
        *spec.install,
        *reset,
        *apply_lines(test_patch, apply_options),
        START,
        *commands,
        f"{last} {_selection(spec, test_patch, paths)}".rstrip(),
        END,
        *reset,
    ]
    return "\n".join(lines) + "\n"


def apply_lines(patch: str, options: str = "-v") -> list[str]:
    """Lines of a script that contain a patch and apply it; none for an empty patch.

    Every byte of the patch goes in. The line end after it is the one that swebench's scripts have too: it stands for a
    last blank line that a data set has stripped. Where git has to count a hunk's lines itself it would count that
    one too, so there the patch stands alone.
    """
    if not patch.strip():
        return []
    end = "EOF_114329324912"
    while end in patch:
        end += "0"
    return [f"git apply {options} - <<'{end}'", patch.removesuffix("\n") if "--recount" in options else patch, end]


def marked_script(*lines: str, setup: tuple[str, ...] = ()) -> str:
    """A script that runs `lines` between the markers, after `setup`."""
    return "\n".join(["#!/bin/bash", "set -uxo pipefail", *setup, START, *lines, END]) + "\n"


def _selection(spec: RepoSpec, test_patch: str, paths: Touched) -> str:
    files = [path for path in paths.remaining if not path.endswith(_NO_TESTS)]
    match spec.select:
        case "files":
            return shlex.join(files)
        case "modules":
            dotted = (path.removesuffix(".py").removeprefix("tests/").replace("/", ".") for path in files)
            return shlex.join(dotted)
        case "cases":
            return shlex.quote(" or ".join(re.findall(r"\[case ([^\]]+)\]", test_patch)))
        case "none":
            return ""
        case unknown:
            assert_never(unknown)
