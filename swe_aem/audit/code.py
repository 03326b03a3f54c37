"""Python text, whole or in fragments, as what can be searched: without comments, with and without its strings.

Lines of a patch are no module, so nothing is parsed: one pass tells comments and strings from the rest. Both views have
the length of the text, so that a place in one is a place in the other.
"""

import re
from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise

MAX_CHARACTERS = 200_000
"""What follows in a longer text is not read."""
_LONG_LINE = re.compile(r"([^\n]{1000})[^\n]+")

_TOKEN = re.compile(
    r"#[^\n]*"
    r"|(?:\b[rRbBfFuU]{1,2})?(?:"
    r"\"\"\"(?:[^\"\\]|\\.|\"(?!\"\"))*+\"\"\"|'''(?:[^'\\]|\\.|'(?!''))*+'''"
    r"|\"(?:[^\"\\\n]|\\.)*+\"|'(?:[^'\\\n]|\\.)*+')",
    re.DOTALL,
)
_NOT_NEWLINE = re.compile(r"[^\n]")


class Code:
    """A text, seen as Python; lines are cut at 1,000 characters."""

    def __init__(self, text: str) -> None:
        self.text = _LONG_LINE.sub(r"\1", text[:MAX_CHARACTERS])

    @cached_property
    def views(self) -> tuple[str, str]:
        """(with strings, without them): comments and strings that stand alone, such as docstrings, are blank in both;
        the other strings keep only their quotes in the second."""
        kept, bare, at = [], [], 0
        for token in _TOKEN.finditer(self.text):
            between, found = self.text[at : token.start()], token[0]
            blank = _NOT_NEWLINE.sub(" ", found)
            hidden = found.startswith("#") or self._stands_alone(token)
            kept += [between, blank if hidden else found]
            bare += [between, blank if hidden else f"{found[0]}{blank[1:-1]}{found[-1]}"]
            at = token.end()
        rest = self.text[at:]
        return "".join([*kept, rest]), "".join([*bare, rest])

    def lines(self, pattern: re.Pattern[str], *, strings: bool) -> Iterator[str]:
        """The lines in which a pattern is found, in the view with or without strings, each once."""
        seen = set()
        for match in pattern.finditer(self.views[0 if strings else 1]):
            line = self.line(match.start())
            if line not in seen:
                seen.add(line)
                yield line

    def line(self, at: int) -> str:
        """The line at a place; the next one if only its end is there."""
        while at < len(self.text) and self.text[at].isspace():
            at += 1
        start = self.text.rfind("\n", 0, at) + 1
        end = self.text.find("\n", at)
        return self.text[start : end if end >= 0 else len(self.text)].strip()

    def _stands_alone(self, token: re.Match[str]) -> bool:
        start = self.text.rfind("\n", 0, token.start()) + 1
        end = self.text.find("\n", token.end())
        before = self.text[start : token.start()]
        after = self.text[token.end() : end if end >= 0 else len(self.text)]
        return not before.strip() and not after.strip() and self._is_statement(start)

    def _is_statement(self, start: int) -> bool:
        """Does the line begin a statement, rather than continue an argument list?"""
        before = self.text[max(0, start - 200) : start].rstrip()
        return not before.endswith((",", "(", "[", "{", "+", "\\", "="))


class FileChange:
    """One file in a patch."""

    def __init__(self, path: str, kind: str) -> None:
        self.path = path
        self.kind = kind
        """`new`, `deleted` or `changed`."""
        self.added: list[str] = []
        """New lines, without their sign."""

    @property
    def code(self) -> Code:
        """The new lines as one text."""
        return Code("\n".join(self.added))


_SECTION = re.compile(r"^diff --git ", re.MULTILINE)


def changes_of(patch: str) -> list[FileChange]:
    """The files of a git diff, each with its new lines; whatever is no diff is left out. Never fails."""
    starts = [match.start() for match in _SECTION.finditer(patch)]
    return [change for a, b in pairwise([*starts, len(patch)]) if (change := _change(patch[a:b])) is not None]


def _change(section: str) -> FileChange | None:
    head, hunk, body = section.partition("\n@@ ")
    names = re.findall(r"^(?:---|\+\+\+|rename to|copy to) (.+)$", head, re.MULTILINE)
    paths = [_path(name) for name in names if _path(name) != "/dev/null"]
    if not paths:
        first = re.match(r"diff --git (?:\"?a/)(.+?)\"? \"?b/", head)
        if first is None:
            return None
        paths = [first[1]]
    kind = "new" if "\nnew file mode" in head else "deleted" if "\ndeleted file mode" in head else "changed"
    change = FileChange(paths[-1], kind)
    if hunk:
        change.added = [line[1:] for line in body.split("\n") if line.startswith("+")]
    return change


def _path(name: str) -> str:
    name = name.split("\t")[0].strip().strip('"')
    return name[2:] if name.startswith(("a/", "b/")) else name
