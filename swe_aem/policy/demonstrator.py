"""Scripts that show how `tasks/nano` are solved: search for the suspected line, write it new, submit. They are for the
warm start of a small policy, which could not learn to act as `gold` does. All that such a policy needs for the edit is
in the search's last line, so it can copy: the number, the indentation, and the line to repair.

The hasty demonstrator looks first only for some tasks. It knows the answer key, so it resolves the others too; a policy
that imitates it edits files whose names it cannot know. Reinforcement learning then has to find that looking first
pays.
"""

import hashlib
import re
from dataclasses import dataclass

from swe_aem.core import TaskRecord
from swe_aem.errors import UserError
from swe_aem.policy.scripted import AssistantRenderer, ScriptedPolicy, call, scripted

HASTY_LOOKS = 0.4
"""Share of the tasks for which the hasty demonstrator looks first."""
_PATH = re.compile(r"^\+\+\+ b/(\S+)$", re.MULTILINE)
_HUNK = re.compile(r"^@@ -(\d+)(?:,\d+)? \+\d+(?:,\d+)? @@.*\n", re.MULTILINE)


def demonstrator(
    record: TaskRecord, renderer: AssistantRenderer, *, name: str = "demo", looks: float = 1.0
) -> ScriptedPolicy:
    """The script for a task; for the share `looks` of the tasks it looks first. Raises `UserError` for a task that
    takes more than writing one line."""
    repair = _repair(record)
    edit = call("", "bash", {"command": repair.edit})
    edit["tool_calls"] += call("", "submit", {})["tool_calls"]
    look = [call("", "bash", {"command": repair.search})]
    hasty = hashlib.sha256(record.task.id.encode()).digest()[0] >= looks * 256
    return scripted(name, [edit] if hasty else [*look, edit], renderer)


@dataclass(frozen=True)
class Repair:
    """One line of a file, and what it becomes."""

    path: str
    number: int
    """Where the line stands, from 1."""
    line: str
    added: tuple[str, ...]
    """The lines that are to be there."""

    @property
    def search(self) -> str:
        """Prints the file's name, and the line with its number behind the three lines before it."""
        return f"ls ./*.py; grep -nFB3 {_quoted(self.line.strip())} *.py"

    @property
    def edit(self) -> str:
        """A sed command that writes the line new."""
        text = "\\n".join(re.sub(r"[\\&|]", r"\\\g<0>", line) for line in self.added)
        return f"sed -i {_quoted(f'{self.number}s|.*|{text}|')} ./{self.path}"


def _quoted(text: str) -> str:
    """The text in single quotes, whatever is in it."""
    return "'" + text.replace("'", "'\"'\"'") + "'"


def _repair(record: TaskRecord) -> Repair:
    """What the gold patch does, as one line written new."""
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
    if removed:
        line = lines[removed[0]][1:]
    else:  # lines are missing: the next one is written again behind them
        line = lines[changed[-1] + 1][1:]
        added.append(line)
    return Repair(paths[0], number + before, line, tuple(added))
