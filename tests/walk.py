"""The walk of docs/bring-your-own-agent.md: its file and its commands."""

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[1] / "docs" / "bring-your-own-agent.md"


class Walk(NamedTuple):
    """What a reader saves and types."""

    harness: str
    commands: list[list[str]]


@cache
def walk() -> Walk:
    """The page's Python block, and the words of each command of its shell block."""
    page = PAGE.read_text(encoding="utf-8")
    (harness,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (shell,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    return Walk(harness, [line.split() for line in shell.splitlines()])
