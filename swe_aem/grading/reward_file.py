"""The rule of tasks whose tests write a number (Harbor): /logs/verifier/reward.txt, or `reward` in reward.json."""

import json
import math
import stat
from collections.abc import Callable

from swe_aem.core import AnswerKey, Sandbox, TestStatus, TreeChange
from swe_aem.core.base import Frozen
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


class RewardFile(Frozen):
    """What stands in the place of one of the files after the tests."""

    writable: bool | None
    """May its owner write it? None where there is nothing of that name."""
    content: str | None
    """None where it is no regular file, or lies behind a link."""


class Rewards(Frozen):
    """What stands in the place of all of them."""

    files: dict[str, RewardFile]
    """By name; empty where the directory cannot be read."""
    listed: bool
    """Was the directory listed whole?"""


async def read_rewards(sandbox: Sandbox) -> Rewards:
    """Read the files that tests write a number into. Raises `SandboxDead`."""
    try:
        tree = await sandbox.list_tree(DIRECTORY, max_entries=_MAX_ENTRIES)
        contents = await sandbox.read_tree("/", [_below_root(name) for name in _FILES], max_bytes=_MAX_BYTES)
        entries = tree.entries
    except OSError:
        return Rewards(files={}, listed=False)
    files = {
        name: RewardFile(
            writable=None if (entry := entries.get(name)) is None else bool(entry.mode & stat.S_IWUSR),
            content=None if content is None else content.decode("utf-8", "replace"),
        )
        for name, content in zip(_FILES, contents, strict=True)
    }
    return Rewards(files=files, listed=not tree.left_out)


def reward_report(key: AnswerKey, code: int | None, rewards: Rewards) -> EvaluationReport:
    """The result by the number that the tests wrote: 1 resolves, less is a fraction, which the verdict keeps. `code` is
    the exit code of their script.

    Code under evaluation can write there too, so a number counts only if the tests' script came to its own end, and
    resolves only if that was a good end (exit code 0): a script that was killed, or could not write, has another one.
    """
    if code is None or code >= _FIRST_SIGNAL_CODE:
        return EvaluationReport(found=False)
    reward = _number(key, rewards)
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


def _number(key: AnswerKey, rewards: Rewards) -> float | None:
    """The number in the file that the task's own tests name; the smallest if there are several.

    None too where one of them is a link, lies behind one, is no regular file, or cannot be written by its owner: the
    tests' script leaves nothing like that, and code under evaluation can keep it from writing so.
    """
    spoken_of = [name for name in _FILES if any(name.encode() in content for content in key.files.values())]
    found: list[float] = []
    for name in spoken_of or _FILES:
        file = rewards.files.get(name)
        if file is None:
            return None
        if file.writable is None and file.content is None and rewards.listed:
            continue
        if not file.writable or file.content is None:
            return None
        value = _FILES[name](file.content)
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
