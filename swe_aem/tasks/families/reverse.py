"""Reverses patches."""

import re

_PAIRS = (("new file mode ", "deleted file mode "), ("old mode ", "new mode "), ("rename from ", "rename to "))
_OTHER = {left: right for pair in _PAIRS for left, right in (pair, pair[::-1])}
_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@(.*)", re.DOTALL)


def reverse_patch(patch: str) -> str:
    """The patch that undoes `patch`; raises `ValueError` for binary parts, copies, and text that is not a git patch."""
    reversed_lines: list[str] = []
    lines = patch.split("\n")
    at = 0
    while at < len(lines):
        hunk = _HUNK.fullmatch(lines[at])
        if hunk is None:
            at = _reverse_header(lines, at, reversed_lines)
            continue
        old, old_count, new, new_count, rest = hunk.groups()
        reversed_lines.append(f"@@ -{_range(new, new_count)} +{_range(old, old_count)} @@{rest}")
        at = _reverse_hunk(lines, at + 1, int(old_count or 1), int(new_count or 1), reversed_lines)
    return "\n".join(reversed_lines)


def _range(start: str, count: str | None) -> str:
    return start if count is None else f"{start},{count}"


def _reverse_hunk(lines: list[str], at: int, old: int, new: int, reversed_lines: list[str]) -> int:
    """Swap signs until the counts of the hunk are used up; returns where the next part begins."""
    while old > 0 or new > 0 or (at < len(lines) and lines[at].startswith("\\ ")):
        if at >= len(lines):
            raise ValueError("the patch ends in the middle of a hunk")
        line = lines[at]
        sign = line[:1] or " "
        if sign not in " +-\\":
            raise ValueError(f"no line of a hunk: {line[:60]!r}")
        old -= sign in " -"
        new -= sign in " +"
        reversed_lines.append({"+": "-", "-": "+"}.get(sign, sign) + line[1:] if line else line)
        at += 1
    return at


def _reverse_header(lines: list[str], at: int, reversed_lines: list[str]) -> int:
    line = lines[at]
    if line.startswith(("GIT binary patch", "Binary files ", "copy ")):
        raise ValueError(f"cannot be reversed: {line[:60]!r}")
    if line.startswith("--- ") and at + 1 < len(lines) and lines[at + 1].startswith("+++ "):
        reversed_lines += [f"--- {_side(lines[at + 1][4:], 'a')}", f"+++ {_side(line[4:], 'b')}"]
        return at + 2
    if git := re.fullmatch(r"diff --git a/(.+) b/(.+)", line):
        reversed_lines.append(f"diff --git a/{git[2]} b/{git[1]}")
    elif index := re.fullmatch(r"index ([0-9a-f]+)\.\.([0-9a-f]+)(.*)", line):
        reversed_lines.append(f"index {index[2]}..{index[1]}{index[3]}")
    elif kind := next((prefix for prefix in _OTHER if line.startswith(prefix)), None):
        reversed_lines.append(_OTHER[kind] + line[len(kind) :])
        at = _keep_order(lines, at, reversed_lines, kind)
    else:
        reversed_lines.append(line)
    return at + 1


def _keep_order(lines: list[str], at: int, reversed_lines: list[str], kind: str) -> int:
    """Git wants `old mode` before `new mode` and `rename from` before `rename to`: swap the two lines as well."""
    if kind in ("old mode ", "rename from ") and at + 1 < len(lines) and lines[at + 1].startswith(_OTHER[kind]):
        other = lines[at + 1][len(_OTHER[kind]) :]
        reversed_lines.insert(len(reversed_lines) - 1, kind + other)
        return at + 1
    return at


def _side(name: str, prefix: str) -> str:
    return name if name.startswith("/dev/null") else f"{prefix}/{name.partition('/')[2]}"
