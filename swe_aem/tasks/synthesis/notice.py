"""Which checks of a function notice a bug in it: a child process that runs one mutated text after another.

    python -m swe_aem.tasks.synthesis.notice
    {"checks": [[call, expected], ..], "texts": [..]} -> [[[number, seen], ..], ..]

Each text runs in a fork with a limit on processor time, because a mutation may loop for ever. Standard library alone.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

CPU_LIMIT_S = 0.1

Noticed = list[tuple[int, str]]
"""Numbers of checks, from 1, and the value or exception that each one sees."""


def notice(texts: Sequence[str], checks: Sequence[tuple[str, str]]) -> list[Noticed | None]:
    """The checks that notice each text, with what they see; None for a text that does not end."""
    request = json.dumps({"texts": list(texts), "checks": list(checks)})
    command = [sys.executable, "-m", "swe_aem.tasks.synthesis.notice"]
    done = subprocess.run(command, input=request, capture_output=True, text=True, check=True)
    return [None if seen is None else [(number, what) for number, what in seen] for seen in json.loads(done.stdout)]


def _noticed(text: str, checks: Sequence[Sequence[str]]) -> Any:
    with tempfile.TemporaryFile() as answer:
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT_S)
                answer.write(json.dumps(_observe(text, checks)).encode())
                answer.flush()
                os._exit(0)
            os._exit(1)
        _, status = os.waitpid(child, 0)
        answer.seek(0)
        return json.loads(answer.read()) if status == 0 else None


def _observe(text: str, checks: Sequence[Sequence[str]]) -> Noticed:
    scope: dict[str, Any] = {}
    exec(text, scope)
    seen: Noticed = []
    for number, (call, expected) in enumerate(checks, 1):
        try:
            value = eval(call, scope)
        except Exception as error:
            seen.append((number, f"raises {type(error).__name__}"))
        else:
            if value != eval(expected, scope):
                seen.append((number, f"gives {value!r}"))
    return seen


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    print(json.dumps([_noticed(text, asked["checks"]) for text in asked["texts"]]))
