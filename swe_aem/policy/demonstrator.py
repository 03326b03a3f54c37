"""Scripts that show how `tasks/nano` are solved: look at the file, write one line, submit. They are for the
warm start of a small policy, which could not learn to act as `gold` does.

The hasty demonstrator looks first only for some tasks. It knows the answer key, so it resolves the others too; a policy
that imitates it edits files whose names it cannot know. Reinforcement learning then has to find that looking first
pays.
"""

import hashlib
import re
import shlex

from swe_aem.core import TaskRecord
from swe_aem.errors import UserError
from swe_aem.policy.scripted import AssistantRenderer, ScriptedPolicy, call, scripted

HASTY_LOOKS = 0.4
"""Share of the tasks for which the hasty demonstrator looks first."""
_LOOK = "ls ./*.py; grep -n . *.py"
_PATH = re.compile(r"^\+\+\+ b/(\S+)$", re.MULTILINE)
_HUNK = re.compile(r"^@@ -(\d+)(?:,\d+)? \+\d+(?:,\d+)? @@.*\n", re.MULTILINE)


def demonstrator(
    record: TaskRecord, renderer: AssistantRenderer, *, name: str = "demo", looks: float = 1.0
) -> ScriptedPolicy:
    """The script for a task; for the share `looks` of the tasks it looks first. Raises `UserError` for a task that
    takes more than writing one line."""
    edit = call("", "bash", {"command": _edit(record)})
    edit["tool_calls"] += call("", "submit", {})["tool_calls"]
    look = [call("", "bash", {"command": _LOOK})]
    hasty = hashlib.sha256(record.task.id.encode()).digest()[0] >= looks * 256
    return scripted(name, [edit] if hasty else [*look, edit], renderer)


def _edit(record: TaskRecord) -> str:
    """A sed command that does what the gold patch does."""
    header, *hunks = _HUNK.split(record.key.gold_patch)
    paths = _PATH.findall(header)
    if len(hunks) != 2 or len(paths) != 1:
        raise UserError(
            f"{record.task.id}: its patch has more than one hunk; the policies demo and hasty are for tasks/nano"
        )
    number, lines = int(hunks[0]), hunks[1].splitlines()
    changed = [n for n, line in enumerate(lines) if line[:1] in "+-"]
    removed = [n for n in changed if lines[n].startswith("-")]
    added = [lines[n][1:] for n in changed if lines[n].startswith("+")]
    before = sum(line[:1] != "+" for line in lines[: changed[0]])
    if len(removed) > 1 or not added:
        raise UserError(
            f"{record.task.id}: its patch rewrites more than a line; the policies demo and hasty are for tasks/nano"
        )
    if not removed:  # lines are missing: the next one is written again behind them
        added.append(lines[changed[-1] + 1][1:])
    text = "\\n".join(re.sub(r"[\\&|]", r"\\\g<0>", line) for line in added)
    return f"sed -i {shlex.quote(f'{number + before}s|.*|{text}|')} ./{paths[0]}"
