"""`CheckpointWriter`: checkpoints that are whole where they are found, written while training waits or continues.

    DIR/unfinished/checkpoint-N    what is being written
    DIR/checkpoint-N               all of it

    with writer.saving("checkpoint-8") as later:    # waits for the one before
        later.do(partial(torch.save, later.staged(state), path))    # in a thread, once the body has ended
    writer.wait()                                   # raises what went wrong

The thread writes copies in the host's memory. Where the model is in shards, those of all processes write together, over
a process group of their own, so that training can use its own meanwhile.
"""

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

from swe_aem.core.blocking import begin_in_daemon_thread
from swe_aem.errors import UserError
from swe_aem.runlog import tell
from swe_aem.train import checkpoints
from swe_aem.train.processes import Processes

_T = TypeVar("_T")
_FULL_BYTES = 16e6
"""torch does not say why a file could not be written. With less than this free, the disk is full."""


class Later:
    """What is left to write of a checkpoint when training continues. On every process."""

    def __init__(self, stager: DefaultStager, group: Any) -> None:
        self._stager = stager
        self.group = group
        """Process group of those that write shards together; None where there is one process."""
        self.work: list[Callable[[], object]] = []

    def staged(self, state: _T) -> _T:
        """A copy in the host's memory, which is that of the checkpoint before: it stays as it is while weights
        change. Tensors that share their memory share it in the copy."""
        copied: Any = self._stager.stage(state)  # pyright: ignore[reportArgumentType]
        return copied

    def do(self, work: Callable[[], object]) -> None:
        """Have the thread do this, after what it was given before."""
        self.work.append(work)


class CheckpointWriter:
    """Writes the checkpoints of a run, one at a time. On every process; all call its methods in the same order."""

    def __init__(
        self,
        directory: Path,
        processes: Processes,
        *,
        asynchronous: bool = False,
        keep: int = 2,
        collective_timeout_s: float = 600,
    ) -> None:
        """`directory` is that of all checkpoints, of which the last `keep` are kept. With `asynchronous`, training
        continues while one is written; no collective of the threads takes longer than `collective_timeout_s`."""
        self._directory = directory
        self._processes = processes
        self._asynchronous = asynchronous
        self._keep = keep
        self._timeout_s = collective_timeout_s
        self._stager = _stager() if asynchronous else None
        self._group = _group(collective_timeout_s) if asynchronous and processes.count > 1 else None
        self._name = ""
        self._writing: Future[Any] | None = None

    @property
    def unfinished(self) -> Path:
        """The directory of what is being written."""
        return self._directory / checkpoints.UNFINISHED

    @contextmanager
    def saving(self, name: str) -> Iterator[Later | None]:
        """The body writes the checkpoint `name` into `unfinished`: all of it where it gets None, and else what is not
        put off with the `Later` that it gets. Raises as `wait` does, for this checkpoint and for the one before."""
        self.wait()
        self._name = name
        later = Later(self._stager, self._group) if self._stager is not None else None
        with self._explained():
            yield later
        # The first process may have more to write, and the others wait for that outside of a collective.
        self._processes.first_does(f"writing {name}", lambda: None)
        self._processes.share(None)
        if later is None:
            self._processes.first_does(f"completing {name}", self._complete)
        else:
            self._writing = begin_in_daemon_thread(lambda: self._write(later))

    def wait(self) -> None:
        """Return once the checkpoint is complete that was saved last. Raises `UserError` if the disk did not take it,
        and else what went wrong; `ProcessFailed` if that was on another process."""
        writing = self._writing
        if writing is not None:
            self._processes.first_does(f"writing {self._name}", writing.result)
            writing.result()
            self._writing = None

    def close(self) -> None:
        """Let what is being written come to its end, where the run ends early. Raises nothing of it."""
        writing, self._writing = self._writing, None
        if writing is not None:
            if not writing.done():
                tell(f"{self._name} is still being written")
            done, _ = wait([writing], timeout=self._timeout_s if self._processes.count > 1 else None)
            if done and (error := writing.exception()) is not None:
                tell(str(error))
        if self._stager is not None:
            self._stager.close()

    def _write(self, later: Later) -> None:
        with self._explained():
            for work in later.work:
                work()
            if self._processes.first:
                self._complete()

    def _complete(self) -> None:
        checkpoints.complete(self.unfinished / self._name, self._directory)
        checkpoints.remove_old(self._directory, keep=self._keep)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise errors of the disk as `UserError`. What was written until then is removed, which frees disk."""
        try:
            yield
        except (Exception, CheckpointException) as error:
            reason = _reason(error, self._directory)
            if self._processes.first:
                shutil.rmtree(self.unfinished, ignore_errors=True)
            if reason is None:
                raise
            raise UserError(
                f"{self._directory / self._name} could not be written: {reason}. Then repeat the command: it resumes "
                "from the last whole checkpoint"
            ) from error


def _stager() -> DefaultStager:
    cuda = torch.cuda.is_available()
    return DefaultStager(
        StagingOptions(
            use_pinned_memory=cuda, use_shared_memory=False, use_async_staging=False, use_non_blocking_copy=cuda
        )
    )


def _group(timeout_s: float) -> Any:
    from torch.distributed import new_group

    return new_group(backend="gloo", timeout=timedelta(seconds=timeout_s))


def _reason(error: BaseException, directory: Path) -> str | None:
    """Why the disk did not take a file and what to do, None if it was not the disk."""
    free = shutil.disk_usage(directory).free
    for one in _causes(error):
        number = _number(one)
        if number == errno.ENOSPC or (number is None and isinstance(one, RuntimeError) and free < _FULL_BYTES):
            return f"the disk is full, {free / 1e9:.2f} GB are free. Free some"
        if number == errno.EDQUOT:
            return "your quota of the disk is used up. Free some"
        if number is not None:
            return f"{os.strerror(number)}. Fix that"
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and those behind it."""
    yield error
    if isinstance(error, CheckpointException):
        for one, _ in error.failures.values():
            yield from _causes(one)
    behind = error.__cause__ or error.__context__
    if behind is not None:
        yield from _causes(behind)


def _number(error: BaseException) -> int | None:
    """The number of an error of the operating system; safetensors has it in the text."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None
