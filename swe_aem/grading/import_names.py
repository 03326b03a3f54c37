"""New names that Python could import in place of others: which files make them, and what they would stand in front of.

A file or directory counts if it could be imported as a top-level module: it lies at the top of the work tree, or in a
directory there that is no regular package, and that a session may have on its path. Names inside of packages are the
package's own business.
"""

import json
import posixpath
import secrets
import shlex
from collections.abc import Collection, Iterable, Mapping
from typing import Literal, NamedTuple

from swe_aem.core import Sandbox
from swe_aem.errors import GraderError
from swe_aem.grading.shell import script_text

RESOLVE_TIMEOUT_S = 60.0
_NAMES_AT_ONCE = 1000
"""Names in one command: more would pass the kernel's limit of a command's arguments."""
MODULE_SUFFIXES = (".py", ".pyc", ".pyd", ".pyw", ".so")
_PYTHONS = ("python", "python3", ".venv/bin/python", "venv/bin/python")
"""What is asked: the interpreters of the activated environment, and those of virtual environments in the work tree."""

_CONTROL = "os"

Kind = Literal["module", "namespace"]
"""A namespace is a directory without an `__init__`: Python takes it only where no path entry has a module."""


class NewName(NamedTuple):
    """A name that can be imported from a directory of the work tree, and could not be before."""

    directory: str
    """Relative to the work tree; empty for its top."""
    name: str
    kind: Kind


def new_names(new_files: Collection[str], given: Collection[str]) -> dict[str, list[NewName]]:
    """Each new file that makes a new name, with the names that it makes. `given` are all paths of the given tree."""
    packages = {posixpath.dirname(path) for path in new_files if _is_module(posixpath.basename(path), "__init__")}
    with_python = {parent for path in new_files if path.endswith(MODULE_SUFFIXES) for parent in _parents(path)}
    stems = _module_stems(given)
    found: dict[str, list[NewName]] = {}
    for path in new_files:
        parts = path.split("/")
        for depth, part in enumerate(parts):
            directory = "/".join(parts[:depth])
            # An `__init__` of the patch in a directory that was there does not take it off anybody's path.
            if depth and ((directory, "__init__") in stems or (directory not in given and directory in packages)):
                break
            below = posixpath.join(directory, part)
            name = _name_of(part) if depth == len(parts) - 1 else part
            if (
                name in (None, "__init__")
                or not name.isidentifier()
                or (directory, name) in stems
                or (posixpath.join(directory, name), "__init__") in stems
            ):
                continue
            if depth == len(parts) - 1 or below in packages:
                found.setdefault(path, []).append(NewName(directory, name, "module"))
            elif below not in given and (not directory or below in with_python):
                found.setdefault(path, []).append(NewName(directory, name, "namespace"))
    return found


def _parents(path: str) -> Iterable[str]:
    while path := posixpath.dirname(path):
        yield path


def _module_stems(paths: Iterable[str]) -> set[tuple[str, str]]:
    """Directory and name of every file that can be imported."""
    split = (posixpath.split(path) for path in paths if path.endswith(MODULE_SUFFIXES))
    return {(directory, name) for directory, file in split if (name := _name_of(file)) is not None}


def _name_of(file: str) -> str | None:
    """`x` for `x.py` and `x.cpython-312-x86_64-linux-gnu.so`; None for what is no module."""
    return file.partition(".")[0] if file.endswith(MODULE_SUFFIXES) else None


def _is_module(file: str, name: str) -> bool:
    return _name_of(file) == name


class Outside(NamedTuple):
    """What interpreters find outside of the work tree."""

    has_python: bool
    found: Mapping[str, frozenset[Kind]]
    """Name to what it is; names that nobody finds are missing."""


async def names_outside(sandbox: Sandbox, workdir: str, names: Iterable[str]) -> Outside:
    """Which of these names the interpreters of a sandbox resolve with the work tree off their path.

    The sandbox must be one that no patch has touched; any number of names may be asked for. Interpreters that do not
    even answer for a name that every Python has (broken ones, those before 3.4) count as none. Raises `GraderError` if
    one gives no answer for these names, and `SandboxDead`.
    """
    found: dict[str, frozenset[Kind]] = {}
    has_python = False
    asked = sorted(set(names))
    for start in range(0, len(asked), _NAMES_AT_ONCE):
        answers, said = await _answers(sandbox, workdir, asked[start : start + _NAMES_AT_ONCE])
        if not answers and (await _answers(sandbox, workdir, [_CONTROL]))[0]:
            raise GraderError(f"no interpreter says which modules there are: {said}")
        has_python |= bool(answers)
        for answer in answers:
            for name, kind in json.loads(answer).items():
                found[name] = found.get(name, frozenset()) | {kind}
    return Outside(has_python, found)


async def _answers(sandbox: Sandbox, workdir: str, names: Iterable[str]) -> tuple[list[str], str]:
    """What each interpreter that works answers, in JSON; and the end of all output."""
    token = secrets.token_hex(8)
    ask = f"-c {shlex.quote(script_text('resolve_names.py'))} {token} {shlex.quote(workdir)}"
    lines = [f'if p=$(command -v {python}); then "$p" {ask} {shlex.join(names)}; fi' for python in _PYTHONS]
    done = await sandbox.run(
        "\n".join([*lines, "exit 0"]), timeout_s=RESOLVE_TIMEOUT_S, cwd=workdir, max_output_bytes=1 << 20
    )
    answers = [line.removeprefix(token) for line in done.output.splitlines() if line.startswith(token)]
    said = done.output.strip()[-500:]
    if done.exit_code != 0:
        raise GraderError(f"interpreters do not end that were asked for modules: {said}")
    return answers, said


def is_in_front(new: NewName, found: Collection[Kind]) -> bool:
    """Would the new name be imported in place of what is found outside? A namespace only adds to a namespace."""
    return bool(found) and (new.kind == "module" or "namespace" in found)
