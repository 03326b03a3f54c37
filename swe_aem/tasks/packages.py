"""Working trees of tasks, made from clean packages and cached; `PackageStore` reads the packages of a directory."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from swe_aem.cache import cache_dir
from swe_aem.core import TaskRecord
from swe_aem.core.scratch import scratch_directory
from swe_aem.errors import InfrastructureError, UserError
from swe_aem.tasks.tree import build_tree

_FORMAT = b"1"
"""Part of the cache's key; raise it when `build_tree` changes what it makes."""


def read_package(directory: Path) -> dict[str, str]:
    """The files of one clean package, relative path to text, sorted; raises `UserError` if there are none."""
    files = {
        path.relative_to(directory).as_posix(): path.read_bytes().decode()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    if not files:
        raise UserError(f"{directory}: there is no package; it needs {directory.name}/*.py and tests/test_*.py")
    return files


@dataclass(frozen=True)
class TreeStore(ABC):
    """Makes the working trees of a set's tasks and caches them."""

    root: Path
    """Directory that the clean packages come from."""

    @abstractmethod
    def clean(self, package: str) -> Mapping[str, str]:
        """Files of a clean package, relative path to text; raises `UserError` if there is none of that name."""

    @abstractmethod
    def _content(self) -> Iterator[tuple[str, str]]:
        """Name and text of every file that a tree can depend on."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all content, so that trees of different versions of a set never share a directory."""
        state = hashlib.sha256(_FORMAT)
        for name, text in self._content():
            state.update(f"{name}\0{len(text)}\0{text}".encode())
        return state.hexdigest()[:16]

    def workspace(self, record: TaskRecord) -> Path:
        """Host directory with the tree of one task, made if the cache has none. Read or copy it, never write to it."""
        parent = cache_dir() / "workspaces" / self.digest
        # An agent can read this path in its sandbox's mount table, so it reveals nothing of the task.
        # The commit is part of it: a set that was generated again never finds the tree of the old one.
        name = f"{record.task.id} {record.task.base_commit}"
        target = parent / hashlib.sha256(name.encode()).hexdigest()[:16]
        if target.is_dir():
            return target
        with ExitStack() as stack:
            try:
                parent.mkdir(parents=True, exist_ok=True)
                scratch = stack.enter_context(scratch_directory("tree", parent))
            except (OSError, InfrastructureError) as error:
                raise UserError(
                    f"{parent}: cannot be written ({error}); set SWE_AEM_CACHE to a directory that can be written"
                ) from error
            self._make(record, scratch / "tree", target)
        return target

    def _make(self, record: TaskRecord, scratch: Path, target: Path) -> None:
        scratch.mkdir(mode=0o755)
        clean = self.clean(record.task.repo.rpartition("/")[2])
        commit = build_tree(scratch, clean, record.key.gold_patch, record.key.test_patch)
        if commit != record.task.base_commit:
            raise InfrastructureError(
                f"{record.task.id}: its tree has commit {commit} instead of {record.task.base_commit}; "
                f"{self.root} was changed after the rows were made: make them again, as the set's README says"
            )
        try:
            scratch.rename(target)
        except OSError:
            if not target.is_dir():  # otherwise another thread or process made the same tree first
                raise


class PackageStore(TreeStore):
    """The packages of a directory, one subdirectory each."""

    def names(self) -> list[str]:
        """Names of the packages, sorted."""
        return sorted(path.name for path in self.root.iterdir() if path.is_dir() and not path.name.startswith("."))

    def clean(self, package: str) -> Mapping[str, str]:
        """Files of a clean package, relative path to text; raises `UserError` if there is none of that name."""
        if package not in self.names():
            raise UserError(f"{self.root}: has no package {package!r}")
        return read_package(self.root / package)

    def _content(self) -> Iterator[tuple[str, str]]:
        for name in self.names():
            for path, text in read_package(self.root / name).items():
                yield f"{name}/{path}", text
