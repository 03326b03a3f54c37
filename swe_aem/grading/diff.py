"""Which files a unified diff changes, as git writes diffs.

The parser is strict: it counts the lines of every hunk, so that no line of a hunk can pass for a header.
"""

import re
from dataclasses import dataclass

_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_BINARY_SIZE = re.compile(r"(?:literal|delta) \d{1,12}")
_BINARY_LINE = re.compile(r"[A-Za-z][0-9A-Za-z!#$%&()*+;<=>?@^_`{|}~-]+")
_ESCAPES = {"a": 7, "b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13, '"': 34, "\\": 92}
_EXTENDED = (
    "old mode ",
    "new mode ",
    "deleted file mode ",
    "new file mode ",
    "similarity index ",
    "dissimilarity index ",
    "rename from ",
    "rename to ",
    "copy from ",
    "copy to ",
    "index ",
)


class DiffError(ValueError):
    """The text cannot be read as a diff without guessing."""


@dataclass(frozen=True)
class FileDiff:
    """The section of one file in a diff."""

    old_path: str | None
    """Path before, without the `a/` prefix; None for a new file."""
    new_path: str | None
    """Path after, without the `b/` prefix; None for a deleted file."""
    is_copy: bool = False

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths that the section changes: one, or two for a rename."""
        old = None if self.is_copy else self.old_path
        return tuple(dict.fromkeys(path for path in (old, self.new_path) if path is not None))

    @property
    def is_new(self) -> bool:
        """Does the section create its file?"""
        return self.old_path is None or self.is_copy


def parse_diff(text: str) -> list[FileDiff]:
    """The file sections of `text`, in order; text between them is dropped. Raises `DiffError`.

    Lines end at "\\n" and nowhere else: a carriage return or U+2028 is content.
    """
    return [section for section, _ in split_diff(text)]


def split_diff(text: str) -> list[tuple[FileDiff, str]]:
    """The same sections, each with its own text, which is a diff of one file. Raises `DiffError`."""
    lines = text.split("\n")
    if lines and lines[-1] == "":
        lines.pop()
    sections: list[tuple[FileDiff, str]] = []
    at = 0
    while at < len(lines):
        if lines[at].startswith("diff --git ") or _is_plain_header(lines, at):
            begin = at
            section, at = _Reader(lines, at).section()
            sections.append((section, "\n".join(lines[begin:at]) + "\n"))
        elif _HUNK.match(lines[at]) or lines[at].startswith("GIT binary patch"):
            raise DiffError(f"line {at + 1}: a change that belongs to no file")
        else:
            at += 1
    return sections


def unquote(name: str) -> str:
    """A path as git prints it: either plain, or in double quotes with C escapes. Raises `DiffError`."""
    if not name.startswith('"'):
        return name
    if len(name) < 2 or not name.endswith('"'):
        raise DiffError(f"unfinished quotation {name!r}")
    data = bytearray()
    body = name[1:-1]
    at = 0
    while at < len(body):
        if body[at] != "\\":
            data += body[at].encode("utf-8", "surrogateescape")
            at += 1
        elif octal := re.match(r"[0-3][0-7]{2}", body[at + 1 : at + 4]):
            data.append(int(octal[0], 8))
            at += 4
        elif (escape := body[at + 1 : at + 2]) in _ESCAPES:
            data.append(_ESCAPES[escape])
            at += 2
        else:
            raise DiffError(f"unknown escape in {name!r}")
    return data.decode("utf-8", "surrogateescape")


def _is_plain_header(lines: list[str], at: int) -> bool:
    pair = lines[at : at + 2]
    return len(pair) == 2 and pair[0].startswith("--- ") and pair[1].startswith("+++ ")


def _strip_prefix(name: str) -> str:
    prefix, slash, path = name.partition("/")
    if not slash or not path or not prefix:
        raise DiffError(f"{name!r} has no a/ or b/ prefix")
    return path


def _file_line(rest: str) -> str | None:
    """The path of a `---` or `+++` line; None for /dev/null. A tab ends the name; dates may follow."""
    name = rest if rest.startswith('"') else rest.partition("\t")[0]
    name = unquote(name.rstrip("\t\r") if name.startswith('"') else name)
    return None if name == "/dev/null" else _strip_prefix(name)


def _header_names(rest: str) -> tuple[str, str] | None:
    """Both paths of a `diff --git` line, prefixes stripped; None where other header lines are needed."""
    if rest.startswith('"') or rest.endswith('"'):
        both = re.fullmatch(r'("(?:[^"\\]|\\.)*"|\S+) ("(?:[^"\\]|\\.)*"|\S+)', rest)
        return (_strip_prefix(unquote(both[1])), _strip_prefix(unquote(both[2]))) if both else None
    # Unquoted names may hold spaces, but then both are the same, so the line splits in its middle.
    middle = len(rest) // 2
    if len(rest) % 2 and rest[middle] == " ":
        old, new = rest[:middle], rest[middle + 1 :]
        if "/" in old and "/" in new and old.partition("/")[2] == new.partition("/")[2]:
            return _strip_prefix(old), _strip_prefix(new)
    return None


class _Reader:
    """Reads one section, beginning at a line."""

    def __init__(self, lines: list[str], at: int) -> None:
        self.lines = lines
        self.start = self.at = at
        self.headers: dict[str, str] = {}

    def peek(self) -> str | None:
        """The current line; None at the end."""
        return self.lines[self.at] if self.at < len(self.lines) else None

    def take(self) -> str:
        """The current line; moves to the next one."""
        line = self.peek()
        if line is None:
            raise DiffError("the diff ends in the middle of a file")
        self.at += 1
        return line

    def section(self) -> tuple[FileDiff, int]:
        """The section and the number of the line behind it."""
        git_names = None
        is_git = (self.peek() or "").startswith("diff --git ")
        if is_git:
            git_names = _header_names(self.take()[len("diff --git ") :])
            self._extended()
        marked = self._file_lines()
        if marked is not None:
            while (line := self.peek()) is not None and _HUNK.match(line):
                self._hunk()
        elif self.peek() == "GIT binary patch":
            self._binary()
        elif (self.peek() or "").startswith("Binary files "):
            self.take()
        old, new = self._names(git_names, marked)
        return FileDiff(old, new, is_copy="copy to " in self.headers), self.at

    def _extended(self) -> None:
        while (line := self.peek()) is not None:
            kind = next((kind for kind in _EXTENDED if line.startswith(kind)), None)
            if kind is None:
                return
            if kind in self.headers:
                raise DiffError(f"line {self.at + 1}: {kind.strip()!r} a second time")
            self.headers[kind] = line[len(kind) :]
            self.take()

    def _file_lines(self) -> tuple[str | None, str | None] | None:
        if not _is_plain_header(self.lines, self.at):
            return None
        if self.at + 2 >= len(self.lines) or not _HUNK.match(self.lines[self.at + 2]):
            raise DiffError(f"line {self.at + 1}: file names without a hunk")
        old = _file_line(self.take()[4:])
        return old, _file_line(self.take()[4:])

    def _hunk(self) -> None:
        match = _HUNK.match(self.take())
        assert match is not None
        old, new = (int(count) if count is not None else 1 for count in match.groups())
        while old > 0 or new > 0:
            line = self.take()
            sign = line[:1]
            if sign not in ("", " ", "+", "-", "\\") or (sign == "\\" and not line.startswith("\\ ")):
                raise DiffError(f"line {self.at}: no line of a hunk: {line[:60]!r}")
            old -= sign in ("", " ", "-")
            new -= sign in ("", " ", "+")
            if old < 0 or new < 0:
                raise DiffError(f"line {self.at}: the hunk has more lines than its header says")
        if (self.peek() or "").startswith("\\ "):
            self.take()

    def _binary(self) -> None:
        self.take()
        for part in range(2):
            size = _BINARY_SIZE.fullmatch(self.peek() or "")
            if size is None:
                if part == 0:
                    raise DiffError(f"line {self.at + 1}: no size of a binary part")
                return
            self.take()
            while (line := self.peek()) and _BINARY_LINE.fullmatch(line):
                self.take()
            if self.peek() not in ("", None):
                raise DiffError(f"line {self.at + 1}: no line of a binary part")
            if self.peek() == "":
                self.take()

    def _names(
        self, git_names: tuple[str, str] | None, marked: tuple[str | None, str | None] | None
    ) -> tuple[str | None, str | None]:
        """Old and new path; raises `DiffError` unless every header line agrees on them."""
        if not self.lines[self.start].startswith("diff --git "):
            assert marked is not None
            if None not in marked and marked[0] != marked[1]:
                raise DiffError(f"line {self.start + 1}: two names without a rename")
            return marked
        moves = [kind for kind in self.headers if kind.startswith(("rename ", "copy "))]
        moved = moves[0].split(" ")[0] if moves else None
        if moved:
            if set(moves) != {f"{moved} from ", f"{moved} to "}:
                raise DiffError(f"line {self.start + 1}: half a rename")
            names = unquote(self.headers[f"{moved} from "]), unquote(self.headers[f"{moved} to "])
        else:
            names = git_names or _agreed(marked)
        if names is None or not all(names):
            raise DiffError(f"line {self.start + 1}: cannot tell which file this is")
        created, deleted = "new file mode " in self.headers, "deleted file mode " in self.headers
        if marked is not None:  # some tools write /dev/null and leave out the line about the mode
            created, deleted = created or marked[0] is None, deleted or marked[1] is None
        if created + deleted + bool(moved) > 1:
            raise DiffError(f"line {self.start + 1}: the headers say different things of what became of the file")
        old, new = None if created else names[0], None if deleted else names[1]
        if (git_names and git_names != names) or (marked is not None and marked != (old, new)):
            raise DiffError(f"line {self.start + 1}: the headers name different files")
        if not moved and names[0] != names[1]:
            raise DiffError(f"line {self.start + 1}: two names without a rename")
        return old, new


def _agreed(marked: tuple[str | None, str | None] | None) -> tuple[str, str] | None:
    if marked is None:
        return None
    name = marked[1] or marked[0]
    return (name, name) if name else None
