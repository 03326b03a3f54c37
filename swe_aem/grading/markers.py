"""The markers that swebench's evaluation scripts put around the output of the tests."""

import re

START_MARKER = ">>>>> Start Test Output"
END_MARKER = ">>>>> End Test Output"
CODE_MARKER = ">>>>> Test Exit Code"


def is_marker(line: str, marker: str) -> bool:
    """Does this line of a script print `marker`? Not if it belongs to an embedded patch: it has a sign in front."""
    return re.fullmatch(rf"(?::|echo) +(['\"]){re.escape(marker)}\1\s*", line) is not None


def marker_problem(script: str) -> str | None:
    """What is wrong with the markers of an evaluation script; None if it has one of each, in order."""
    lines = script.split("\n")
    start = [n for n, line in enumerate(lines) if is_marker(line, START_MARKER)]
    end = [n for n, line in enumerate(lines) if is_marker(line, END_MARKER)]
    if len(start) != 1 or len(end) != 1:
        return f"the evaluation script has {len(start)} start and {len(end)} end markers instead of one of each"
    return None if start[0] < end[0] else "the evaluation script has its end marker before its start marker"


def marked_lines(script: str) -> list[str]:
    """The lines of a script between its markers; empty if it does not have them."""
    if marker_problem(script) is not None:
        return []
    lines = script.split("\n")
    start = next(n for n, line in enumerate(lines) if is_marker(line, START_MARKER))
    end = next(n for n, line in enumerate(lines) if is_marker(line, END_MARKER))
    return lines[start + 1 : end]
