"""The rule of tasks whose tests write a number (Harbor): /logs/verifier/reward.txt, or `reward` in reward.json."""

import json
import math
from collections.abc import Callable

from swe_aem.core import AnswerKey, Sandbox, TestStatus
from swe_aem.grading.log_file import EvaluationReport

DIRECTORY = "/logs/verifier"
_MAX_BYTES = 1 << 20
_FIRST_SIGNAL_CODE = 128


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
    """The number in the file that the task's own tests name; the smallest if there are several."""
    spoken_of = [name for name in _FILES if any(name.encode() in content for content in key.files.values())]
    found: list[float] = []
    for name in spoken_of or _FILES:
        try:
            data = await sandbox.read_file(f"{DIRECTORY}/{name}", max_bytes=_MAX_BYTES)
        except FileNotFoundError:
            continue
        except OSError:
            return None  # a link, or not a regular file: no test writes such
        value = _FILES[name](data.decode("utf-8", "replace"))
        if value is None:
            return None
        found.append(value)
    return min(found, default=None)


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
