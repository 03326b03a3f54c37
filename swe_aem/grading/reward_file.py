"""The rule of tasks whose tests write a number (Harbor): /logs/verifier/reward.txt, or `reward` in reward.json."""

import json
import math
import stat
from collections.abc import Callable

from swe_aem.core import AnswerKey, Sandbox, TestStatus, TreeChange
from swe_aem.errors import GraderError
from swe_aem.grading.delta import FILE
from swe_aem.grading.log_file import EvaluationReport

DIRECTORY = "/logs/verifier"
_MAX_BYTES = 1 << 20
_MAX_ENTRIES = 10_000
_FIRST_SIGNAL_CODE = 128


async def remove_rewards(sandbox: Sandbox) -> None:
    """Remove what stands in the place of a reward. Raises `GraderError` if that cannot be done, `SandboxDead`."""
    try:
        await sandbox.change_tree("/", [TreeChange(_below_root(name), FILE, None) for name in _FILES])
    except OSError as error:
        raise GraderError(f"a reward that is there before the tests cannot be removed: {error}") from error


async def read_reward(key: AnswerKey, code: int | None, sandbox: Sandbox) -> EvaluationReport:
    """Read the number that the tests wrote: 1 resolves, less is a fraction, which the verdict keeps. `code` is the exit
    code of their script.

    Code under evaluation can write there too, so a number counts only if the tests' script came to its own end, and
    resolves only if that was a good end (exit code 0): a script that was killed, or could not write, has another one.
    """
    if code is None or code >= _FIRST_SIGNAL_CODE:
        return EvaluationReport(found=False)
    reward = await _read(key, sandbox)
    if reward is None:
        return EvaluationReport(found=False)
    solved = reward >= 1.0 and code == 0
    return EvaluationReport(
        found=True,
        resolved=solved,
        fail_to_pass=dict.fromkeys(key.fail_to_pass, TestStatus.PASSED if solved else TestStatus.FAILED),
        fail_to_pass_fraction=min(1.0, max(0.0, reward)),
        pass_to_pass_fraction=1.0,
    )


async def _read(key: AnswerKey, sandbox: Sandbox) -> float | None:
    """The number in the file that the task's own tests name; the smallest if there are several.

    None too where one of them is a link, lies behind one, is no regular file, or cannot be written by its owner: the
    tests' script leaves nothing like that, and code under evaluation can keep it from writing so.
    """
    spoken_of = [name for name in _FILES if any(name.encode() in content for content in key.files.values())]
    names = spoken_of or list(_FILES)
    try:
        tree = await sandbox.list_tree(DIRECTORY, max_entries=_MAX_ENTRIES)
        contents = await sandbox.read_tree("/", [_below_root(name) for name in names], max_bytes=_MAX_BYTES)
        entries = tree.entries
    except OSError:
        return None
    found: list[float] = []
    for name, content in zip(names, contents, strict=True):
        entry = entries.get(name)
        if entry is None and content is None and not tree.left_out:
            continue
        if entry is None or content is None or not entry.mode & stat.S_IWUSR:
            return None
        value = _FILES[name](content.decode("utf-8", "replace"))
        if value is None:
            return None
        found.append(value)
    return min(found, default=None)


def _below_root(name: str) -> str:
    """Path of a file relative to `/`, so that no directory on the way may be a link either."""
    return f"{DIRECTORY}/{name}"[1:]


def _from_text(text: str) -> float | None:
    try:
        value = float(text.strip())
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _from_json(text: str) -> float | None:
    """The value of `reward`, or of the only key."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):  # brackets that a policy wrote go as deep as it likes
        return None
    if not isinstance(content, dict):
        return None
    value = content.get("reward", next(iter(content.values())) if len(content) == 1 else None)
    return _from_text(str(value)) if isinstance(value, int | float) and not isinstance(value, bool) else None


_FILES: dict[str, Callable[[str], float | None]] = {"reward.txt": _from_text, "reward.json": _from_json}
