"""OpenHands' file editor on files of the sandbox.

The stock editor works on a copy of the file that a call names, in a directory of this host, and changes are written
back. So every text that the model reads is OpenHands' own, without the directory's name.
"""

# pyright: reportMissingImports=false
import os
import posixpath
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openhands.sdk import TextContent
from openhands.sdk.tool import register_tool
from openhands.tools.file_editor import FileEditorTool
from openhands.tools.file_editor.definition import FileEditorObservation
from openhands.tools.file_editor.editor import FileEditor
from openhands.tools.file_editor.exceptions import ToolError
from openhands.tools.file_editor.impl import FileEditorExecutor
from swe_aem_worker import Conversation

_LOOK = r"""
if [ -d {path} ]; then printf 'd\0'; find {path}/ -mindepth 1 -maxdepth 2 -printf '%Y%P\0' 2>/dev/null
elif [ -e {path} ]; then printf 'f\0'; stat -L -c %s {path}
elif [ -d {parent} ]; then printf 'n\0'
else printf 'o\0'
fi
"""
"""Prints d and the entries of a directory, f and the size of a file, n if only the parent directory exists, else o."""
_LARGEST_LISTING_BYTES = 8 << 20

_conversations: dict[str, tuple[Conversation, Path]] = {}


class SandboxEditor(FileEditor):
    """The stock editor, with the file copied here before each call and written back after it."""

    def __init__(self, conversation: Conversation, shadow: Path) -> None:
        self._sandbox, self._workdir, self._shadow = conversation.sandbox, conversation.workdir, shadow
        super().__init__(workspace_root=self._host(conversation.workdir))

    def __call__(self, *, command: Any, path: str, **arguments: Any) -> FileEditorObservation:
        """One call of the tool; raises `ToolError` with the sandbox's paths."""
        absolute = path.startswith("/")
        inside = posixpath.normpath(path if absolute else posixpath.join(self._workdir, path))
        try:
            before = self._bring(inside)
            host = Path(self._host(inside))
            done = super().__call__(command=command, path=str(host) if absolute else path, **arguments)
            if command != "view" and (after := host.read_bytes()) != before:
                self._sandbox.write_file(inside, after)
        except ToolError as error:
            error.message = self._as_inside(error.message)
            raise
        except OSError as error:
            raise ToolError(f"{inside}: {error.strerror}") from error
        return done.model_copy(
            update={
                "path": inside if done.path else done.path,
                "content": [
                    part.model_copy(update={"text": self._as_inside(part.text)})
                    if isinstance(part, TextContent)
                    else part
                    for part in done.content
                ],
            }
        )

    def _bring(self, path: str) -> bytes | None:
        """Copy a path from the sandbox. Returns the content; None if it is not a file or too large to edit."""
        quoted, parent = shlex.quote(path), shlex.quote(posixpath.dirname(path))
        look = self._sandbox.run(_LOOK.format(path=quoted, parent=parent), max_output_bytes=_LARGEST_LISTING_BYTES)
        kind, _, rest = look.output.partition(b"\0")
        host = Path(self._host(path))
        _remove(host)
        if kind == b"d":
            host.mkdir(parents=True)
            for entry in sorted(filter(None, rest.split(b"\0"))):
                _make(host, entry)
            return None
        if kind == b"o":
            return None
        host.parent.mkdir(parents=True, exist_ok=True)
        if kind == b"n":
            return None
        size = int(rest)
        if size > self._max_file_size:
            host.touch()
            os.truncate(host, size)
            return None
        content = self._sandbox.read_file(path)
        host.write_bytes(content)
        return content

    def _host(self, path: str) -> str:
        return f"{self._shadow}{path}"

    def _as_inside(self, text: str) -> str:
        return text.replace(str(self._shadow), "")


class SandboxEditorTool(FileEditorTool):
    """Makes the stock tool, with the editor above."""

    name = FileEditorTool.name

    @classmethod
    def create(cls, conv_state: Any, conversation: str) -> Sequence[FileEditorTool]:
        """The tool of a conversation that is in `using`."""
        given, shadow = _conversations[conversation]
        executor = FileEditorExecutor()
        executor.editor = SandboxEditor(given, shadow)
        (stock,) = FileEditorTool.create(conv_state)
        description = stock.description.replace(conv_state.workspace.working_dir, given.workdir)
        return [stock.model_copy(update={"executor": executor, "description": description})]


register_tool(FileEditorTool.name, SandboxEditorTool)


@contextmanager
def using(conversation: Conversation) -> Iterator[None]:
    """Let tools find the conversation by its id, and give it a directory for copies."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as shadow:
        _conversations[conversation.id] = conversation, Path(shadow)
        try:
            yield
        finally:
            del _conversations[conversation.id]


def _remove(path: Path) -> None:
    """Remove the file or directory at the path, if there is one."""
    if path.is_dir():
        for entry in path.iterdir():
            _remove(entry)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def _make(directory: Path, entry: bytes) -> None:
    """Make an empty file or directory for an entry of a listing, which is a letter for its kind and its path."""
    place = Path(os.fsdecode(os.fsencode(directory) + b"/" + entry[1:]))
    if entry.startswith(b"d"):
        place.mkdir(exist_ok=True)
    elif place.parent.is_dir():
        place.touch()
