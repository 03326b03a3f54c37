"""`consume`: tensors from an iterator in this thread, for work in another one.

The iterator may be a collective of all processes that train. So it is read to its end whatever becomes of the work, and
the work can hold it up for a bounded time only.
"""

import queue
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

import torch

from swe_aem.core.blocking import begin_in_daemon_thread

Named = tuple[str, torch.Tensor]


def consume(
    tensors: Iterable[Named], work: Callable[[Iterator[Named]], None], *, tensor_limit_s: float = 1800.0
) -> str | None:
    """Have `work` consume the tensors in a thread of its own; returns when it has, or why it has not. One tensor may
    wait `tensor_limit_s` for those before it. What the iterator raises is raised."""
    handed: queue.Queue[Named | None] = queue.Queue(maxsize=1)
    working = begin_in_daemon_thread(lambda: _worked(work, _taken(handed)))
    handover = _Handover(handed, working, tensor_limit_s)
    try:
        for named in tensors:
            handover.put(named)
            del named
    finally:  # where the iterator raised, the work gets too few tensors
        handover.put(None)
    return handover.outcome()


class _Handover:
    def __init__(self, handed: "queue.Queue[Named | None]", working: "Future[Any]", limit_s: float) -> None:
        self._handed = handed
        self._working = working
        self._limit_s = limit_s
        self._late = False

    def put(self, named: Named | None) -> None:
        if self._late:
            return
        if named is not None and named[1].is_cuda:
            torch.cuda.current_stream(named[1].device).synchronize()  # the other thread has a stream of its own
        try:
            self._handed.put(named, timeout=self._limit_s)
        except queue.Full:
            self._late = True

    def outcome(self) -> str | None:
        late = f"one of the weights took more than {self._limit_s:g} s"
        if self._late:
            return late
        try:
            return self._working.result(self._limit_s)
        except TimeoutError:
            return late


def _worked(work: Callable[[Iterator[Named]], None], tensors: Iterator[Named]) -> str | None:
    """Why the work failed, if it did; the rest of the tensors is taken, so that the other thread is not held up."""
    try:
        work(tensors)
        failure = None
    except Exception as error:
        failure = str(error) or type(error).__name__
    for _ in tensors:
        """Nobody wants it."""
    return failure


def _taken(handed: "queue.Queue[Named | None]") -> Iterator[Named]:
    while (named := handed.get()) is not None:
        yield named
        del named
