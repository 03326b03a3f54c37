"""Harbor task folders (https://harborframework.com/docs/tasks): `task.toml`, `instruction.md`, `environment/`,
`tests/test.sh`, `solution/solve.sh`.

Only a patch of the working directory goes from the agent's sandbox to the grading one. So a task fits if its outcome is
in files below that directory, and if its tests need no network. The tests write a number to /logs/verifier/reward.txt
or reward.json; 1 resolves. The gold solution is a script that is run in an agent's sandbox.
"""

import hashlib
import posixpath
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from swe_aem.core import AnswerKey, Task, TaskRecord
from swe_aem.errors import UserError
from swe_aem.sandbox.images.names import FROM_HARBOR
from swe_aem.tasks.families.fields import ID
from swe_aem.tasks.families.reading import Reading
from swe_aem.tasks.families.script import marked_script

CONFIG = "task.toml"
BUILD_CONTEXT = "environment"
"""The directory of a task's folder that its image is built from, where it names none."""
_TIMEOUT_S = 600.0
_WORKDIR = "/app"
"""The working directory if neither the task's folder nor its Dockerfile names one."""
_RESERVED = ("/tests", "/logs/verifier")
"""Directories of the tests: they are put there, and write there what they found."""
_SOLUTION = "/solution"
_MAX_FILE_BYTES = 8 << 20
_UNSUPPORTED = {
    "steps": "has several steps, and a task here has one",
    f"{BUILD_CONTEXT}/docker-compose.yaml": "needs several containers, and a sandbox is one",
    f"{BUILD_CONTEXT}/docker-compose.yml": "needs several containers, and a sandbox is one",
}


def task_folders(directory: Path) -> list[Path]:
    """The task folders at or below `directory`, one level deep; empty if it holds none."""
    if (directory / CONFIG).is_file():
        return [directory]
    return sorted(path.parent for path in directory.glob(f"*/{CONFIG}"))


def read(folder: Path, reading: Reading) -> TaskRecord:
    """Turn one folder into a record; raises `UserError`."""
    where = str(folder / CONFIG)
    config = _config(folder)
    for name, problem in _UNSUPPORTED.items():
        if (folder / name).exists() or name in config:
            raise UserError(f"{folder}: {problem}")
    task_id = folder.resolve().name
    if not ID.fullmatch(task_id):
        raise UserError(f"{folder}: the folder's name is not a plain name without white space; rename it")
    environment, verifier = _table(where, config, "environment"), _table(where, config, "verifier")
    image = environment.get("docker_image")
    if not image and not (folder / BUILD_CONTEXT / "Dockerfile").is_file():
        raise UserError(f"{folder}: names no environment.docker_image and has no {BUILD_CONTEXT}/Dockerfile")
    workdir = _workdir(folder, environment)
    task = Task(
        id=task_id,
        repo=f"harbor/{task_id}",
        base_commit="",
        problem_statement=_text(folder / "instruction.md"),
        image=str(image or built_image(folder)),
        workdir=workdir,
    )
    solution = _files(folder / "solution", _SOLUTION)
    if solution and _overlap(workdir, _SOLUTION):
        raise UserError(f"{folder}: works in {workdir!r}, where its solution would be put")
    key = AnswerKey(
        task_id=task_id,
        repo=task.repo,
        version=str(config.get("schema_version", config.get("version", ""))),
        gold_patch="",
        test_patch="",
        eval_script=_script(where, verifier, task.workdir),
        log_parser="",
        eval_type="reward_file",
        fail_to_pass=("reward",),
        pass_to_pass=(),
        timeout_s=_timeout_s(where, verifier),
        hidden=tuple(path for path in (*_RESERVED, _SOLUTION) if not _overlap(workdir, path)),
        gold_files=solution,
        gold_command="bash /solution/solve.sh" if "/solution/solve.sh" in solution else "",
        files=_tests(folder),
    )
    return TaskRecord(task=task, key=key, split=reading.split)


def _workdir(folder: Path, environment: dict[str, Any]) -> str:
    """The working directory, below / and apart from where the tests lie."""
    named = environment.get("workdir") or _dockerfile_workdir(folder) or _WORKDIR
    workdir = posixpath.normpath(re.sub("^/+", "/", str(named)))
    if not workdir.startswith("/") or workdir == "/":
        raise UserError(
            f"{folder}: works in {named!r}; it must be a directory below /, because its changes are the patch"
        )
    for path in _RESERVED:
        if _overlap(workdir, path):
            raise UserError(f"{folder}: works in {named!r}, and {path} belongs to its tests")
    return workdir


def _overlap(workdir: str, path: str) -> bool:
    """Is the working directory that path, or below it?"""
    return workdir == path or workdir.startswith(f"{path}/")


def built_image(folder: Path) -> str:
    """The name of the image built from `environment/`; it depends on the content of every file there."""
    digest = hashlib.sha256()
    for path in _walk(folder / BUILD_CONTEXT):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    name = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-") or "task"
    return f"{FROM_HARBOR}{name}:{digest.hexdigest()[:12]}"


def _config(folder: Path) -> dict[str, Any]:
    try:
        return tomllib.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{folder / CONFIG}: cannot be read ({error})") from error


def _table(where: str, config: dict[str, Any], name: str) -> dict[str, Any]:
    table = config.get(name, {})
    if not isinstance(table, dict):
        raise UserError(f"{where}: {name!r} is not a table")
    return table


def _timeout_s(where: str, verifier: dict[str, Any]) -> float:
    value = verifier.get("timeout_sec", _TIMEOUT_S)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise UserError(f"{where}: verifier.timeout_sec is not a positive number of seconds")
    return float(value)


def _script(where: str, verifier: dict[str, Any], workdir: str) -> str:
    exports = []
    for name, value in _table(where, verifier, "env").items():
        if not re.fullmatch(r"[A-Za-z_]\w*", name) or not isinstance(value, str) or "${" in value:
            raise UserError(
                f"{where}: verifier.env.{name} is not a plain string; values from the host are not supported"
            )
        exports.append(f"export {name}={shlex.quote(value)}")
    fresh = ("rm -rf /logs/verifier", "mkdir -p /logs/verifier /logs/agent /logs/artifacts")
    return marked_script("bash /tests/test.sh", setup=(*fresh, *exports, f"cd {shlex.quote(workdir)}"))


def _dockerfile_workdir(folder: Path) -> str | None:
    """The last WORKDIR of the Dockerfile, None without one; raises `UserError` if a variable is in it."""
    path = folder / BUILD_CONTEXT / "Dockerfile"
    if not path.is_file():
        return None
    workdir = None
    for line in _text(path).splitlines():
        words = line.split(maxsplit=1)
        if len(words) == 2 and words[0].upper() == "WORKDIR":
            workdir = posixpath.join(workdir or "/", words[1].strip().strip("'\""))
    if workdir is not None and "$" in workdir:
        raise UserError(f"{folder}: its Dockerfile works in {workdir!r}; name environment.workdir in {CONFIG}")
    return workdir


def _tests(folder: Path) -> dict[str, bytes]:
    files = _files(folder / "tests", "/tests")
    if "/tests/test.sh" not in files:
        raise UserError(f"{folder}: has no tests/test.sh, which must write the reward")
    return files


def _files(directory: Path, target: str) -> dict[str, bytes]:
    files = {}
    for path in _walk(directory):
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise UserError(f"{path}: is larger than {_MAX_FILE_BYTES >> 20} MiB; put it into the image")
        files[f"{target}/{path.relative_to(directory).as_posix()}"] = path.read_bytes()
    return files


def _walk(directory: Path) -> Iterator[Path]:
    return (path for path in sorted(directory.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)


def _text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    if not text.strip():
        raise UserError(f"{path}: is empty")
    return text
