"""`FakeBackend`: sandboxes in memory, for tests of everything that uses a sandbox.

Files are a dictionary (`modes` says which are executable or links), and a handler answers commands; nothing is
executed. Failures can be injected: `die_after` makes a sandbox die after that many commands, `fail_starts` makes the
first starts fail.
"""

import errno
import hashlib
import os
import posixpath
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import PurePosixPath
from typing import Self

from swe_aem.core import ExecResult, LimitHits, Sandbox, SandboxInfo, SandboxSpec, Tree, TreeChange, TreeEntry
from swe_aem.errors import SandboxDead, StartError

Handler = Callable[["FakeSandbox", str], "tuple[int, bytes] | ExecResult"]
"""Answers a command: (exit code, output) or a whole `ExecResult`."""


def succeed(sandbox: "FakeSandbox", command: str) -> tuple[int, bytes]:
    """The default handler: every command prints nothing and exits with 0."""
    return 0, b""


class FakeSandbox:
    """A `Sandbox` in memory.

    `files` has contents by absolute path (of a link: its target), `modes` the modes that are not 0o100644; `output` is
    that of the last command, `hits` is what `limit_hits` returns.
    """

    settle_command = ":"

    def __init__(self, id: str, spec: SandboxSpec, handler: Handler = succeed, die_after: int | None = None) -> None:
        self.id = id
        self.spec = spec
        self.layer = spec.layer
        self.handler = handler
        self.die_after = die_after
        self.private_dir = "/private"
        self.files: dict[str, bytes] = {}
        self.modes: dict[str, int] = {}
        self.output: bytes | None = None
        self.hits = LimitHits()
        self.commands: list[str] = []
        self.closed = False

    def _call(self) -> None:
        if self.die_after is not None and len(self.commands) >= self.die_after:
            self.closed = True
        if self.closed:
            raise SandboxDead(f"sandbox {self.id} is gone")

    def _path(self, path: str) -> str:
        return posixpath.normpath(posixpath.join(self.spec.workdir, path))

    async def run(
        self,
        command: str,
        *,
        timeout_s: float,
        wall_s: float | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        max_output_bytes: int = 10_000,
    ) -> ExecResult:
        """Record the command and let the handler answer it."""
        self._call()
        self.commands.append(command)
        started = time.monotonic()
        answer = self.handler(self, command)
        if isinstance(answer, ExecResult):
            self.output = answer.head + answer.tail
            return answer
        code, output = answer
        self.output = output
        cut = len(output) > max_output_bytes
        half = max_output_bytes // 2
        return ExecResult(
            exit_code=code,
            head=output[:half] if cut else output,
            tail=output[-half:] if cut else b"",
            output_bytes=len(output),
            output_path=f"/tmp/out/{len(self.commands)}",
            wall_s=time.monotonic() - started,
            limit_hits=self.hits,
        )

    async def read_file(self, path: str, *, max_bytes: int = 64 << 20) -> bytes:
        """Content of a file of the dictionary."""
        self._call()
        path = self._path(path)
        if path not in self.files:
            if any(name.startswith(path.rstrip("/") + "/") for name in self.files):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if len(self.files[path]) > max_bytes:
            raise OSError(f"{path} is larger than {max_bytes} bytes")
        return self.files[path]

    async def write_file(self, path: str, data: bytes) -> None:
        """Set a file of the dictionary."""
        self._call()
        self.files[self._path(path)] = data

    async def settle(self) -> int:
        """0: there are no processes."""
        self._call()
        return 0

    async def list_tree(self, root: str, *, max_entries: int = 500_000) -> Tree:
        """The files below `root` and their directories; `ctime_ns` is a hash of the content."""
        self._call()
        top = self._path(root).rstrip("/") + "/"
        entries: dict[str, TreeEntry] = {}
        for path in sorted(self.files):
            parts = path.removeprefix(top).split("/")
            if not path.startswith(top):
                continue
            depth = parts.index(".git") if ".git" in parts[:-1] else len(parts) - 1
            for level in range(1, depth + 1 + (".git" in parts[:-1])):
                entries.setdefault("/".join(parts[:level]), TreeEntry(0o040755, 0, 0, 0, level, b""))
            if ".git" not in parts[:-1]:
                entries["/".join(parts)] = self._entry(path)
        kept = dict(list(entries.items())[:max_entries])
        return Tree.made_of(kept, left_out=len(entries) - len(kept))

    def _entry(self, path: str) -> TreeEntry:
        content, mode = self.files[path], self.modes.get(path, 0o100644)
        stamp = int.from_bytes(hashlib.sha256(content).digest()[:7])
        return TreeEntry(mode, len(content), stamp, stamp, stamp, content if mode == 0o120000 else b"")

    async def read_tree(
        self, root: str, paths: Sequence[str], *, max_bytes: int = 64 << 20, max_total_bytes: int = 1 << 30
    ) -> list[bytes | None]:
        """Contents of files of the dictionary that are no links."""
        self._call()
        found: list[bytes | None] = []
        for path in paths:
            name = posixpath.join(self._path(root), path)
            content = None if self.modes.get(name) == 0o120000 else self.files.get(name)
            fits = content is not None and len(content) <= min(max_bytes, max_total_bytes)
            max_total_bytes -= len(content) if fits and content is not None else 0
            found.append(content if fits else None)
        return found

    async def change_tree(self, root: str, changes: Sequence[TreeChange]) -> None:
        """Set and remove files of the dictionary, removals first."""
        self._call()
        for change in sorted(changes, key=lambda change: change.content is not None):
            path = posixpath.join(self._path(root), change.path)
            for parent in map(str, PurePosixPath(path).parents):
                if change.content is not None and parent in self.files:
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), change.path)
            for name in [name for name in self.files if name == path or name.startswith(path + "/")]:
                del self.files[name]
                self.modes.pop(name, None)
            if change.content is not None:
                self.files[path] = change.content
                self.modes[path] = change.mode

    async def read_output(self, *, offset: int = 0, max_bytes: int = 64 << 20) -> bytes:
        """What the last command's handler answered."""
        self._call()
        if self.output is None:
            raise FileNotFoundError(errno.ENOENT, "no command has run yet")
        return self.output[offset : offset + max_bytes]

    async def limit_hits(self) -> LimitHits:
        """`hits`, as the test has set them."""
        return self.hits

    async def peak_memory_bytes(self) -> int | None:
        """None: the fake measures no memory."""
        self._call()
        return None

    async def alive(self) -> bool:
        """True until closed or dead."""
        return not self.closed

    async def close(self) -> None:
        """Mark as closed."""
        self.closed = True


class FakeBackend:
    """A `SandboxBackend` of `FakeSandbox`es. `live` holds those that are open now, `opened` all that were ever
    opened, `layers` the image and key of each kept layer; it keeps none while that is None."""

    name = "fake"

    def __init__(self, handler: Handler = succeed, *, die_after: int | None = None, fail_starts: int = 0) -> None:
        self.handler = handler
        self.die_after = die_after
        self.fail_starts = fail_starts
        self.opened: list[FakeSandbox] = []
        self.layers: set[tuple[str, str | None]] | None = None
        self.entered = 0
        """How often it was entered and not left."""
        self.down = False
        """Does the engine not answer?"""

    @property
    def live(self) -> list[FakeSandbox]:
        """Sandboxes that are open now."""
        return [sandbox for sandbox in self.opened if not sandbox.closed]

    async def __aenter__(self) -> Self:
        """Count that it was entered."""
        self.entered += 1
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Count that it was left."""
        self.entered -= 1

    async def answers(self) -> bool:
        """Is the fake engine up?"""
        return not self.down

    async def image_digest(self, image: str) -> str:
        """A digest made from the image's name."""
        return f"fake:{image}"

    @asynccontextmanager
    async def open(self, spec: SandboxSpec) -> AsyncIterator[FakeSandbox]:
        """Open a fake sandbox, or fail if `fail_starts` says so."""
        if self.fail_starts > 0:
            self.fail_starts -= 1
            raise StartError("the fake was told to fail this start")
        sandbox = FakeSandbox(f"fake-{len(self.opened)}", spec, self.handler, self.die_after)
        self.opened.append(sandbox)
        try:
            yield sandbox
        finally:
            await sandbox.close()

    async def has_layer(self, spec: SandboxSpec) -> bool | None:
        """Was that layer made? None if the fake keeps none."""
        return None if self.layers is None else (spec.image, spec.layer) in self.layers

    @asynccontextmanager
    async def make_layer(self, spec: SandboxSpec) -> AsyncIterator[FakeSandbox]:
        """Open a fake sandbox and note the layer at the end; files are not kept."""
        async with self.open(spec.model_copy(update={"layer": None})) as sandbox:
            yield sandbox
        assert self.layers is not None
        self.layers.add((spec.image, spec.layer))

    async def ls(self) -> list[SandboxInfo]:
        """The fake sandboxes that are open."""
        return [
            SandboxInfo(
                id=sandbox.id,
                backend=self.name,
                image=sandbox.spec.image,
                owner_alive=True,
                expired=False,
                age_s=0.0,
                labels=sandbox.spec.labels,
            )
            for sandbox in self.live
        ]

    async def prune(self, *, everything: bool = False) -> list[str]:
        """Close every fake if `everything`; none is ever orphaned."""
        gone = [sandbox.id for sandbox in self.live] if everything else []
        for sandbox in self.live if everything else []:
            await sandbox.close()
        return gone

    def shell_command(self, sandbox: Sandbox) -> list[str]:
        """A command that does nothing, because there is nothing to enter."""
        return ["true"]
