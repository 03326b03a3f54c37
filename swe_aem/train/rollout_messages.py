"""What a training process and the process of its rollouts say to each other, over a pair of sockets. Importable without
torch.

    trainer: Request, arguments ──────> rollouts
             <────── Reply, result or error: by the number of its request, in any order
             <────── Line: for run.log

What a message carries is pickled on its own, so that whom it is for reads it, and gets the error if that fails.
"""

import os
import pickle
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from swe_aem.rollout import RolloutConfig
from swe_aem.runlog import traceback_of
from swe_aem.train.config import TrainConfig


@dataclass(frozen=True)
class Opening:
    """What the rollouts have to know before anything else."""

    config: TrainConfig
    directory: Path
    python_path: tuple[str, ...]
    """Where Python looks for modules."""
    torch_threads: int | None
    """Threads of one operation of torch, as in the trainer, so that numbers are the same in both; None where that has
    not loaded torch, which chooses the same in both."""
    replaces: bool = False
    """Does it take the place of a process that was lost?"""
    first: Mapping[str, RolloutConfig] = field(default_factory=dict)
    """Evaluations before training, by name, that begin without being asked for."""


@dataclass(frozen=True)
class Request:
    """A method to call with the arguments that it carries."""

    number: int
    method: str


@dataclass(frozen=True)
class Reply:
    """How a request ended. It carries the result, or the error if it `failed`."""

    number: int
    failed: bool


@dataclass(frozen=True)
class Line:
    """A line for the run's log, as `RunLog.say` takes it."""

    level: int
    about: str
    text: str


Message = Request | Reply | Line


class Messages:
    """One end of the pair. Any thread may send, and one reads."""

    def __init__(self, end: socket.socket) -> None:
        """The socket belongs to this object from now on."""
        self._socket = end
        self._connection = Connection(os.dup(end.fileno()))
        self._sending = threading.Lock()

    def send(self, message: Message, carried: bytes = b"") -> None:
        """Send a message and what it carries. Raises `OSError` if the other end is gone."""
        with self._sending:
            self._connection.send(message)
            self._connection.send_bytes(carried)

    def __iter__(self) -> Iterator[tuple[Message, bytes]]:
        """Each message and what it carries; ends when one of the ends is closed, or its process is gone."""
        try:
            while True:
                yield self._connection.recv(), self._connection.recv_bytes()
        except (EOFError, OSError):
            return

    def close(self) -> None:
        """Close this end, which the reader of either sees."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


def pickled_error(error: BaseException) -> bytes:
    """An exception with its cause. Its traceback becomes a note; what cannot be pickled becomes a `RuntimeError` of the
    same words."""
    error.add_note(f"in the process of the rollouts: {traceback_of(error)}")
    return pickle.dumps([_portable(one) for one in (error, error.__cause__) if one is not None])


def read_error(carried: bytes) -> BaseException:
    """The exception that a reply carries, with its cause."""
    error, *causes = [_read(*portable) for portable in pickle.loads(carried)]
    for cause in causes:
        error.__cause__ = cause
    return error


def _portable(error: BaseException) -> tuple[bytes, str]:
    words = f"{type(error).__name__}: {error}"
    try:
        pickled = pickle.dumps(error)
        pickle.loads(pickled)
    except Exception:  # an exception of somebody else's may hold anything
        return _in_words(words, error), words
    return pickled, words


def _read(pickled: bytes, words: str) -> BaseException:
    try:
        return pickle.loads(pickled)
    except Exception:  # this process cannot import its module
        return RuntimeError(words)


def _in_words(words: str, error: BaseException) -> bytes:
    other = RuntimeError(words)
    for note in getattr(error, "__notes__", ()):
        other.add_note(note)
    return pickle.dumps(other)
