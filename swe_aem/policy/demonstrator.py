"""A script that shows how `tasks/nano` are solved: look at the file that the issue names, write one line anew,
submit. What a small policy is warm-started on; `gold` solves every task, but no policy could learn its ways."""

import re
import shlex

from swe_aem.errors import UserError
from swe_aem.nouns import TaskRecord
from swe_aem.policy.scripted import AssistantRenderer, ScriptedPolicy, call, scripted

_NAMED = re.compile(r"` in `([\w./-]+)`")
_HUNK = re.compile(r"^@@ -(\d+)(?:,\d+)? \+\d+(?:,\d+)? @@.*\n", re.MULTILINE)


def demonstrator(record: TaskRecord, renderer: AssistantRenderer) -> ScriptedPolicy:
    """The script for a task; raises `UserError` for one whose issue names no file, or that takes more than a line."""
    named = _NAMED.search(record.task.problem_statement)
    if named is None:
        raise UserError(f"{record.task.id}: its issue names no file; the agent 'demo' is for tasks/nano")
    path = named[1]
    look = call("", "bash", {"command": f"grep -n . {path}"})
    edit = call("", "bash", {"command": _edit(record, path)})
    edit["tool_calls"] += call("", "submit", {})["tool_calls"]
    return scripted("demo", [look, edit], renderer)


def _edit(record: TaskRecord, path: str) -> str:
    """A sed command that does what the gold patch does."""
    header, *hunks = _HUNK.split(record.key.gold_patch)
    if len(hunks) != 2 or header.count("diff --git ") != 1:
        raise UserError(f"{record.task.id}: its patch has more than one hunk; the agent 'demo' is for tasks/nano")
    number, lines = int(hunks[0]), hunks[1].splitlines()
    changed = [n for n, line in enumerate(lines) if line[:1] in "+-"]
    removed = [n for n in changed if lines[n].startswith("-")]
    added = [lines[n][1:] for n in changed if lines[n].startswith("+")]
    before = sum(line[:1] != "+" for line in lines[: changed[0]])
    if len(removed) > 1 or not added:
        raise UserError(f"{record.task.id}: its patch is not one line written anew; the agent 'demo' is for tasks/nano")
    if not removed:  # lines are missing: the next one is written anew behind them
        added.append(lines[changed[-1] + 1][1:])
    text = "\\n".join(re.sub(r"[\\&|]", r"\\\g<0>", line) for line in added)
    return f"sed -i {shlex.quote(f'{number + before}s|.*|{text}|')} {path}"
