"""A small task with its repository, and `HostSandbox`, which runs trusted commands on this machine, not isolated."""

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import pytest_asyncio

from swe_aem.core import (
    AnswerKey,
    ExecResult,
    LimitHits,
    SandboxBackend,
    SandboxInfo,
    SandboxSpec,
    Task,
    TaskRecord,
    Tree,
    TreeChange,
    TreeEntry,
)
from swe_aem.errors import SandboxDead
from swe_aem.grading.parser import SwebenchParser
from swe_aem.sandbox import open_backend

AS_IN_AN_IMAGE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
"""No task's image has this environment's plugins of pytest, and to import them takes seconds in each evaluation."""


class HostSandbox:
    """A `Sandbox` without isolation, for tests of trusted commands only."""

    settle_command = ":"

    def __init__(self, root: Path, spec: SandboxSpec) -> None:
        self.id = f"host-{secrets.token_hex(4)}"
        self.root = root
        self.spec = spec
        self.layer = spec.layer
        self.closed = False
        self.runs = 0
        self.private_dir = str(root / "private")
        (root / "private").mkdir(exist_ok=True)

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
        """Run bash in a process group of its own, with output to a file."""
        if self.closed:
            raise SandboxDead(self.id)
        self.runs += 1
        output = self.root / f"out-{self.runs}"
        started = time.monotonic()
        timed_out = False
        with output.open("w+b") as stream:
            process = await asyncio.create_subprocess_exec(
                "bash",
                "-c",
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                cwd=cwd or self.spec.workdir,
                env={**os.environ, **AS_IN_AN_IMAGE, "HOME": str(self.root), **self.spec.env, **(env or {})},
                start_new_session=True,
            )
            try:
                await asyncio.wait_for(process.wait(), timeout_s)
            except TimeoutError:
                timed_out = True
            finally:
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    await process.wait()
            stream.seek(0)
            content = stream.read()
        cut = len(content) > max_output_bytes
        half = max_output_bytes // 2
        code = process.returncode or 0
        return ExecResult(
            exit_code=124 if timed_out else 128 - code if code < 0 else code,
            head=content[:half] if cut else content,
            tail=content[-half:] if cut else b"",
            output_bytes=len(content),
            output_path=str(output),
            wall_s=time.monotonic() - started,
            killed_for="timeout" if timed_out else None,
        )

    async def read_file(self, path: str, *, max_bytes: int = 64 << 20) -> bytes:
        """Content of a file."""
        content = await asyncio.to_thread(Path(self.spec.workdir, path).read_bytes)
        if len(content) > max_bytes:
            raise OSError(f"{path} is larger than {max_bytes} bytes")
        return content

    async def write_file(self, path: str, data: bytes) -> None:
        """Replace or create a file."""
        target = Path(self.spec.workdir, path)
        await asyncio.to_thread(target.parent.mkdir, parents=True, exist_ok=True)
        await asyncio.to_thread(target.write_bytes, data)

    async def settle(self) -> int:
        """0: commands here leave nothing behind."""
        return 0

    async def list_tree(self, root: str, *, max_entries: int = 500_000) -> Tree:
        """Everything below a directory of the host."""
        found: dict[str, TreeEntry] = {}
        for place, directories, files in os.walk(Path(self.spec.workdir, root)):
            for name in sorted([*directories, *files]):
                path = Path(place, name)
                stat = path.lstat()
                target = os.fsencode(path.readlink()) if path.is_symlink() else b""
                times = (stat.st_mtime_ns, stat.st_ctime_ns)
                relative = str(path.relative_to(Path(self.spec.workdir, root)))
                found[relative] = TreeEntry(stat.st_mode, stat.st_size, *times, stat.st_ino, target)
            directories[:] = sorted(set(directories) - {".git"})
        return Tree.made_of(found)

    async def read_tree(
        self, root: str, paths: Sequence[str], *, max_bytes: int = 64 << 20, max_total_bytes: int = 1 << 30
    ) -> list[bytes | None]:
        """Contents of regular files that are not larger than `max_bytes`."""
        places = [Path(self.spec.workdir, root, path) for path in paths]
        fitting = [place.is_file() and not place.is_symlink() and place.stat().st_size <= max_bytes for place in places]
        return [place.read_bytes() if fits else None for place, fits in zip(places, fitting, strict=True)]

    async def change_tree(self, root: str, changes: Sequence[TreeChange]) -> None:
        """Removals first, then what is written."""
        for change in sorted(changes, key=lambda change: change.content is not None):
            path = Path(self.spec.workdir, root, change.path)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
            if change.content is None:
                for parent in path.relative_to(Path(self.spec.workdir, root)).parents[:-1]:
                    with contextlib.suppress(OSError):
                        Path(self.spec.workdir, root, parent).rmdir()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            if change.mode == 0o120000:
                path.symlink_to(os.fsdecode(change.content))
            else:
                path.write_bytes(change.content)
                path.chmod(change.mode & 0o777)

    async def read_output(self, *, offset: int = 0, max_bytes: int = 64 << 20) -> bytes:
        """The file of the last command's output."""
        content = await asyncio.to_thread(Path(self.root / f"out-{self.runs}").read_bytes)
        return content[offset : offset + max_bytes]

    async def limit_hits(self) -> LimitHits:
        """There are no limits."""
        return LimitHits()

    async def peak_memory_bytes(self) -> int | None:
        """Nothing measures it."""
        return None

    async def alive(self) -> bool:
        """True until closed."""
        return not self.closed

    async def close(self) -> None:
        """Mark as closed."""
        self.closed = True


class HostBackend:
    """A `SandboxBackend` of `HostSandbox`es; `workdir` of a spec is a directory of the host."""

    name = "host"

    def __init__(self, root: Path) -> None:
        self.root = root
        self.live: list[HostSandbox] = []
        self.opened: list[HostSandbox] = []

    async def image_digest(self, image: str) -> str:
        """There is only the host."""
        return "host"

    @asynccontextmanager
    async def open(self, spec: SandboxSpec) -> AsyncIterator[HostSandbox]:
        """Copy the workspace to the workdir, which must not exist yet, and yield a sandbox there."""
        root = self.root / secrets.token_hex(4)
        root.mkdir(parents=True)
        if spec.workspace is not None:
            await asyncio.to_thread(shutil.copytree, spec.workspace, spec.workdir, symlinks=True)
        sandbox = HostSandbox(root, spec)
        self.live.append(sandbox)
        self.opened.append(sandbox)
        try:
            yield sandbox
        finally:
            await sandbox.close()
            self.live.remove(sandbox)

    async def has_layer(self, spec: SandboxSpec) -> bool | None:
        """No layer can be kept here."""
        return None

    async def ls(self) -> list[SandboxInfo]:
        """Nothing outlives its context here."""
        return []

    async def prune(self, *, everything: bool = False) -> list[str]:
        """Nothing to prune."""
        return []


class Repo:
    """A git repository on disk, driven by the git command."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments: str, data: bytes | None = None) -> str:
        """Run git here with a fixed identity and no configuration of the user; returns its output, stripped."""
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.path,
            input=data,
            capture_output=True,
            check=True,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.path.parent),
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_AUTHOR_NAME": "a",
                "GIT_AUTHOR_EMAIL": "a@example.org",
                "GIT_COMMITTER_NAME": "a",
                "GIT_COMMITTER_EMAIL": "a@example.org",
            },
        )
        return done.stdout.decode("utf-8", "surrogateescape").strip()

    def write(self, files: Mapping[str, str | bytes]) -> None:
        """Write files below the repository."""
        for name, content in files.items():
            target = self.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.encode() if isinstance(content, str) else content)

    def commit(self, message: str = "change", files: Mapping[str, str | bytes] | None = None) -> str:
        """Write files, commit everything, and return the sha."""
        self.write(files or {})
        self.git("add", "-A", "-f")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def shell() -> Callable[..., str]:
    """Run a program on this machine and return what it printed."""

    def run(*arguments: str | Path, cwd: Path | None = None) -> str:
        return subprocess.run(arguments, cwd=cwd, capture_output=True, check=True, text=True).stdout

    return run


@pytest.fixture
def make_repo(tmp_path: Path) -> Callable[[str], Repo]:
    """Make an empty repository by name."""
    return lambda name: Repo(tmp_path / name)


@pytest.fixture
def repo(make_repo: Callable[[str], Repo]) -> Repo:
    """An empty repository."""
    return make_repo("repo")


@pytest.fixture
def host_backend(tmp_path: Path) -> HostBackend:
    """A backend that runs on this machine."""
    return HostBackend(tmp_path / "host")


@pytest.fixture(
    params=[
        pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
        pytest.param("docker", marks=[pytest.mark.docker, pytest.mark.slow]),
    ]
)
def backend(request: pytest.FixtureRequest) -> SandboxBackend:
    """Each real backend."""
    request.getfixturevalue(f"require_{request.param}")
    return open_backend(request.param)


@pytest.fixture
def at(tmp_path: Path) -> Callable[[Path], HostSandbox]:
    """A sandbox whose workdir is an existing directory."""

    def make(workdir: Path) -> HostSandbox:
        root = tmp_path / f"box-{secrets.token_hex(4)}"
        root.mkdir()
        return HostSandbox(root, SandboxSpec(image="host", workdir=str(workdir)))

    return make


BUGGY = "def add(a, b):\n    return a - b\n\n\ndef mul(a, b):\n    return a * b\n"
FIXED = BUGGY.replace("a - b", "a + b")
TESTS = "from calc import add, mul\n\n\ndef test_mul():\n    assert mul(2, 3) == 6\n"
NEW_TESTS = TESTS + "\n\ndef test_add():\n    assert add(2, 3) == 5\n"


@dataclass(frozen=True)
class CalcTask:
    """A SWE-bench-shaped task: `add` subtracts, and the test patch has a test that shows it."""

    repo: Repo
    record: TaskRecord

    def spec(self, workdir: str = "/testbed") -> SandboxSpec:
        """A sandbox with a copy of the repository."""
        return SandboxSpec(image="swe-aem/micro:1", workdir=workdir, workspace=self.repo.path, ttl_s=900)

    def with_key(self, **changes: object) -> "CalcTask":
        """The same task with other fields in its answer key."""
        key = self.record.key.model_copy(update=changes)
        return replace(self, record=self.record.model_copy(update={"key": key}))

    @property
    def key(self) -> AnswerKey:
        """The answer key."""
        return self.record.key


@pytest.fixture
def calc(tmp_path: Path) -> CalcTask:
    """The task, on disk."""
    repo = Repo(tmp_path / "calc")
    files = {"calc.py": BUGGY, "tests/test_calc.py": TESTS, ".gitignore": "__pycache__/\n"}
    base = repo.commit("base", files)
    repo.write({"tests/test_calc.py": NEW_TESTS})
    test_patch = repo.git("diff") + "\n"
    repo.git("checkout", "-q", ".")
    repo.write({"calc.py": FIXED})
    gold_patch = repo.git("diff") + "\n"
    repo.git("checkout", "-q", ".")
    script = f"""#!/bin/bash
set -uxo pipefail
git config --global --add safe.directory "$PWD"
git status
git checkout {base} tests/test_calc.py
git apply -v - <<'EOF_114329324912'
{test_patch}
EOF_114329324912
: '>>>>> Start Test Output'
python -m pytest -p no:cacheprovider -rA tests/test_calc.py
: '>>>>> End Test Output'
git checkout {base} tests/test_calc.py
"""
    image = "swe-aem/micro:1"
    task = Task(id="calc__calc-1", repo="calc/calc", base_commit=base, problem_statement="", image=image)
    key = AnswerKey(
        task_id=task.id,
        repo=task.repo,
        version="1.0",
        gold_patch=gold_patch,
        test_patch=test_patch,
        eval_script=script,
        log_parser="parse_log_pytest",
        eval_type="pass_and_fail",
        fail_to_pass=("tests/test_calc.py::test_add",),
        pass_to_pass=("tests/test_calc.py::test_mul",),
        timeout_s=60.0,
    )
    return CalcTask(repo, TaskRecord(task=task, key=key))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def parser() -> AsyncIterator[SwebenchParser]:
    """One worker for all tests, because loading swebench takes seconds."""
    async with SwebenchParser() as parser:
        yield parser
