"""`str_replace_editor`: view and edit files of a sandbox, and change no other byte of them.

Content travels as text with `surrogateescape`, so bytes that are not UTF-8 survive an edit elsewhere in the file. The
model writes `\\n`; in a file whose line ends are all `\\r\\n` its line ends are translated. Whether a file ends with a
line end is kept.
"""

import posixpath
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, assert_never

from swe_aem.core import Sandbox

_MAX_FILE_BYTES = 4 << 20
_CONTEXT_LINES = 4
_MAX_LISTED_MATCHES = 10
_NUMBER_BYTES = 8
"""What `_numbered` adds to a line: six digits, a tab and a line end."""


class EditorCommand(StrEnum):
    """The commands of `str_replace_editor`."""

    VIEW = "view"
    CREATE = "create"
    STR_REPLACE = "str_replace"
    INSERT = "insert"


class EditorError(Exception):
    """The edit cannot be done as asked; the message tells the model why."""


@dataclass(frozen=True)
class TextFile:
    """Content of a file as the editor sees it: lines without line ends."""

    text: str
    """The content with `\\n` as line end if all its line ends are `ending`."""
    ending: str
    """`\\r\\n` if every line ends so, else `\\n` (then a stray `\\r` is part of its line)."""

    @classmethod
    def decode(cls, data: bytes) -> "TextFile":
        """The file with these bytes."""
        text = data.decode("utf-8", "surrogateescape")
        newlines = text.count("\n")
        if newlines and text.count("\r\n") == newlines:
            return cls(text.replace("\r\n", "\n"), "\r\n")
        return cls(text, "\n")

    def encode(self) -> bytes:
        """The bytes of the file; `decode(data).encode() == data` for all data."""
        return self.text.replace("\n", self.ending).encode("utf-8", "surrogateescape")

    @property
    def lines(self) -> list[str]:
        """The lines; a final line end does not start another one. Only `\\n` ends a line: U+2028 does not."""
        lines = self.text.split("\n")
        return lines[:-1] if lines[-1] == "" else lines

    def with_text(self, text: str) -> "TextFile":
        """The same file with other content."""
        return TextFile(text, self.ending)


class Editor:
    """Carries out the commands of `str_replace_editor` in one sandbox."""

    def __init__(self, sandbox: Sandbox, workdir: str, *, max_observation_bytes: int) -> None:
        self._sandbox = sandbox
        self._workdir = workdir
        self._max_observation_bytes = max_observation_bytes

    async def do(self, arguments: Mapping[str, Any], *, timeout_s: float) -> str:
        """Carry out a call whose arguments fit the tool's schema, and return the observation.

        Raises `EditorError` or `OSError` if it cannot be done, `ValueError` for a command that there is not.
        """
        path = posixpath.normpath(posixpath.join(self._workdir, arguments["path"]))
        command = EditorCommand(arguments["command"])
        match command:
            case EditorCommand.VIEW:
                return await self._view(path, arguments.get("view_range"), timeout_s)
            case EditorCommand.CREATE:
                return await self._create(path, _needed(arguments, "file_text"))
            case EditorCommand.STR_REPLACE:
                return await self._str_replace(path, _needed(arguments, "old_str"), arguments.get("new_str", ""))
            case EditorCommand.INSERT:
                return await self._insert(path, _needed(arguments, "insert_line"), _needed(arguments, "new_str"))
            case _:
                assert_never(command)

    async def _view(self, path: str, view_range: list[int] | None, timeout_s: float) -> str:
        try:
            file = await self._read(path)
        except IsADirectoryError:
            if view_range is not None:
                raise EditorError(f"{path} is a directory; view_range is for files") from None
            return await self._list(path, timeout_s)
        lines = file.lines
        if not lines:
            return f"{path} is empty."
        first, last = _checked_range(view_range, len(lines))
        shown = _fitting(lines, first, last, self._max_observation_bytes)
        notes = [f"{path}, lines {first}-{shown} of {len(lines)}:"]
        if shown < last:
            notes.append(f"[cut after line {shown} for length; view more with view_range]")
        if file.ending == "\r\n":
            notes.append("[all lines end with CRLF; write plain line ends, the editor converts them]")
        return "\n".join([notes[0], _numbered(lines, first, shown), *notes[1:]])

    async def _list(self, path: str, timeout_s: float) -> str:
        """A listing two levels deep, without hidden entries; directories end with a slash."""
        command = (
            f"cd {shlex.quote(path)} && find . -mindepth 1 -maxdepth 2 -name '.?*' -prune -o "
            r"\( -type d -printf '%P/\n' -o -printf '%P\n' \) | LC_ALL=C sort"
        )
        result = await self._sandbox.run(command, timeout_s=timeout_s, max_output_bytes=self._max_observation_bytes)
        if result.exit_code != 0:
            raise EditorError(f"cannot list {path}: {result.output.strip()}")
        return f"{path}, two levels deep, without hidden entries:\n{result.output.rstrip() or '(empty)'}"

    async def _create(self, path: str, text: str) -> str:
        try:
            await self._sandbox.read_file(path, max_bytes=0)
        except FileNotFoundError:
            await self._sandbox.write_file(path, text.encode("utf-8"))
            return f"Created {path} ({len(TextFile(text, chr(10)).lines)} lines)."
        except IsADirectoryError:
            raise EditorError(f"{path} is a directory") from None
        except (NotADirectoryError, PermissionError):
            raise
        except OSError:  # longer than `max_bytes`, so the file exists
            pass
        raise EditorError(f"{path} exists already; change it with str_replace or insert, or remove it first")

    async def _str_replace(self, path: str, old: str, new: str) -> str:
        file = await self._read(path)
        old, new = _unify(file, old), _unify(file, new)
        if not old:
            raise EditorError("old_str is empty; use insert to add lines")
        if old == new:
            raise EditorError("new_str equals old_str: nothing would change")
        places = _occurrences(file.text, old)
        if len(places) != 1:
            raise EditorError(_mismatch(path, file.text, old, places))
        at = places[0]
        edited = file.with_text(file.text[:at] + new + file.text[at + len(old) :])
        await self._sandbox.write_file(path, edited.encode())
        first = _line_of(file.text, at)
        return _edited(path, edited, first, first + new.count("\n"))

    async def _insert(self, path: str, after_line: int, new: str) -> str:
        file = await self._read(path)
        lines = file.lines
        if not 0 <= after_line <= len(lines):
            raise EditorError(f"insert_line must be between 0 and {len(lines)}, the number of lines of {path}")
        added = _unify(file, new).removesuffix("\n").split("\n")
        ends = "\n" if file.text.endswith("\n") or not file.text else ""
        edited = file.with_text("\n".join([*lines[:after_line], *added, *lines[after_line:]]) + ends)
        await self._sandbox.write_file(path, edited.encode())
        return _edited(path, edited, after_line + 1, after_line + len(added))

    async def _read(self, path: str) -> TextFile:
        data = await self._sandbox.read_file(path, max_bytes=_MAX_FILE_BYTES)
        if b"\0" in data:
            raise EditorError(f"{path} is a binary file ({len(data)} bytes); use bash for it")
        return TextFile.decode(data)


def _needed(arguments: Mapping[str, Any], key: str) -> Any:
    if key not in arguments:
        raise EditorError(f"the command {arguments['command']!r} needs the argument {key!r}")
    return arguments[key]


def _unify(file: TextFile, text: str) -> str:
    """Text from the model with the line ends of `file.text`."""
    return text.replace("\r\n", "\n") if file.ending == "\r\n" else text


def _checked_range(view_range: list[int] | None, count: int) -> tuple[int, int]:
    first, last = view_range or (1, -1)
    last = count if last == -1 else min(last, count)
    if not 1 <= first <= last:
        raise EditorError(f"view_range {view_range} does not fit: the file has {count} lines")
    return first, last


def _fitting(lines: list[str], first: int, last: int, max_bytes: int) -> int:
    """The last line of those from `first` on that fit into `max_bytes` together; at least `first`."""
    used = 0
    for number in range(first, last + 1):
        used += len(lines[number - 1].encode("utf-8", "surrogateescape")) + _NUMBER_BYTES
        if used > max_bytes:
            return max(first, number - 1)
    return last


def _numbered(lines: list[str], first: int, last: int) -> str:
    text = "\n".join(f"{number:6}\t{lines[number - 1]}" for number in range(first, last + 1))
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _edited(path: str, file: TextFile, first: int, last: int) -> str:
    """The observation after an edit of lines `first` to `last`: these lines and their neighbours."""
    lines = file.lines
    start, end = max(1, first - _CONTEXT_LINES), min(len(lines), last + _CONTEXT_LINES)
    if not lines:
        return f"Edited {path}. It is empty now."
    return f"Edited {path}. Lines {start}-{end} are now:\n{_numbered(lines, start, end)}"


def _occurrences(text: str, part: str) -> list[int]:
    """Every position of `part`, overlapping ones included, because they make a replacement ambiguous too."""
    places: list[int] = []
    at = text.find(part)
    while at != -1:
        places.append(at)
        at = text.find(part, at + 1)
    return places


def _line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _mismatch(path: str, text: str, old: str, places: list[int]) -> str:
    if places:
        lines = ", ".join(str(_line_of(text, at)) for at in places[:_MAX_LISTED_MATCHES])
        more = ", ..." if len(places) > _MAX_LISTED_MATCHES else ""
        return (
            f"old_str occurs {len(places)} times in {path}, at lines {lines}{more}; add neighbouring lines to it so "
            "that it occurs once"
        )
    first_line = next((line.strip() for line in old.split("\n") if line.strip()), "")
    similar = [n for n, line in enumerate(text.split("\n"), 1) if line.strip() == first_line] if first_line else []
    hint = f"; its first line is like line {similar[0]}, so compare the white space and what follows" if similar else ""
    return f"old_str does not occur in {path}{hint}. View the file and copy the text exactly, without line numbers"
