"""`Processes`: the processes of a training run, and how the others wait while the first one works alone.

    with Processes(cpu=False, collective_timeout_s=600) as processes:
        step = processes.first_does("step 3", lambda: roll_out(3))   # None on the others
        rows = processes.share(step)                                 # a collective, which all enter together

Rollouts and evaluations take minutes to hours. A collective that waited for them would need a limit longer than any of
them, and a true hang would be found only then. So the others wait at the key-value store through which the processes
found each other: it gets the outcome of each piece of work, and a sign of life of the first process every few seconds.
A failure of one process reaches the others as an error that has its reason.
"""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar

from swe_aem.errors import SweAemError

_T = TypeVar("_T")
_POLL_S = 0.2
_BEAT_S = 5.0
"""Seconds between signs of life."""
_READ_S = 10.0
"""How long the first process stays for the others to read its last outcome: it may be the one that holds the store."""
_DONE, _INTERRUPTED, _FAILED = "done", "interrupted", "failed: "
_BEAT, _OTHER_FAILED, _ENDED = "beat", "other failed", "ended"


class ProcessFailed(SweAemError):
    """Another process of this run failed or is gone; the message says which and why."""


class Processes:
    """The processes of a run, this one among them. Use as a context manager around all that they do together."""

    def __init__(self, *, cpu: bool, collective_timeout_s: float) -> None:
        """Set up the process group where a launcher started several processes. None of its collectives takes longer
        than `collective_timeout_s`; the same time without a sign of life means that the first process is gone."""
        from accelerate import PartialState

        state = PartialState(cpu=cpu, timeout=timedelta(seconds=collective_timeout_s))
        self.index = int(state.process_index)
        self.count = int(state.num_processes)
        self.first: bool = self.index == 0
        self._timeout_s = collective_timeout_s
        self._finished = 0
        self._store = _store_of_run(self.index) if self.count > 1 else None
        self._leaving = threading.Event()

    def __enter__(self) -> "Processes":
        if self._store is not None and self.first:
            threading.Thread(target=self._beat, name="sign of life", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Tell the others why this process leaves. An error that only follows from the first process's is replaced."""
        if self._store is None:
            return
        try:
            if self.first:
                self._leave_last(error)
            else:
                self._leave(error)
        except RuntimeError as lost:
            if error is None:
                raise ProcessFailed(_gone(lost)) from lost
        finally:
            self._leaving.set()

    def first_does(self, what: str, work: Callable[[], _T]) -> _T | None:
        """The result of `work`, which the first process alone does; the others wait until it is done, for as long as
        that takes, and get None. All processes must call this in the same order. Raises what `work` does, and
        `ProcessFailed` on the others."""
        if self._store is None:
            return work()
        if not self.first:
            self._await(what)
            return None
        self._raise_if_another_failed()
        result = work()
        self._raise_if_another_failed()
        self._finished += 1
        self._store.set(str(self._finished), _DONE)
        return result

    def share(self, value: _T | None) -> _T:
        """The first process's value, on all: a collective, so all must be about to enter it."""
        box: list[Any] = [value]
        if self.count > 1:
            from accelerate.utils import broadcast_object_list

            broadcast_object_list(box)
        return box[0]

    def scatter(self, values: Sequence[_T] | None) -> _T:
        """This process's one of the values that the first process has, one for each: a collective, so all must be about
        to enter it."""
        if self.count == 1:
            assert values is not None
            return values[0]
        from torch.distributed import scatter_object_list

        box: list[Any] = [None]
        scatter_object_list(box, list(values) if values is not None else None, src=0)
        return box[0]

    def _await(self, what: str) -> None:
        """Wait for the outcome of the first process's next piece of work, as long as it lives."""
        assert self._store is not None
        beat, seen_s = None, time.monotonic()
        try:
            while not self._store.check([str(self._finished + 1)]):
                self._raise_if_another_failed()
                if (latest := self._get(_BEAT)) != beat:
                    beat, seen_s = latest, time.monotonic()
                if (silent_s := time.monotonic() - seen_s) > self._timeout_s:
                    raise ProcessFailed(f"{what}: the first process gave no sign of life for {silent_s:.0f} s")
                time.sleep(_POLL_S)
            outcome = self._get(str(self._finished + 1))
        except RuntimeError as lost:
            raise ProcessFailed(f"{what}: {_gone(lost)}") from lost
        self._finished += 1
        _raise_unless_done(outcome, what)

    def _raise_if_another_failed(self) -> None:
        if why := self._get(_OTHER_FAILED):
            raise ProcessFailed(why)

    def _get(self, key: str) -> str | None:
        """The value of a key, None if it was not set."""
        assert self._store is not None
        return self._store.get(key).decode() if self._store.check([key]) else None

    def _beat(self) -> None:
        """Give signs of life until this process leaves."""
        assert self._store is not None
        number = 0
        while not self._leaving.wait(min(_BEAT_S, self._timeout_s / 4)):
            number += 1
            try:
                self._store.set(_BEAT, str(number))
            except RuntimeError:
                return  # the store is gone, which the others see for themselves

    def _leave_last(self, error: BaseException | None) -> None:
        """What the first process does: the others would wait for its next piece of work, so that gets the error."""
        assert self._store is not None
        if error is not None:
            self._store.set(str(self._finished + 1), _outcome(error))
        until_s = time.monotonic() + _READ_S
        while self._store.add(_ENDED, 0) < self.count - 1 and time.monotonic() < until_s:
            time.sleep(_POLL_S / 10)

    def _leave(self, error: BaseException | None) -> None:
        assert self._store is not None
        outcome = self._get(str(self._finished + 1))
        if error is not None and outcome in (None, _DONE) and not isinstance(error, ProcessFailed):
            self._store.set(_OTHER_FAILED, f"process {self.index} of {self.count}: {_outcome(error)}")
        self._store.add(_ENDED, 1)
        if isinstance(error, Exception) and outcome is not None:
            _raise_unless_done(outcome, "the run")


def _store_of_run(index: int) -> Any:
    """The store of the process group, with keys of this run only. Processes that train twice do so equally often."""
    from torch.distributed.distributed_c10d import PrefixStore, _get_default_store

    store = _get_default_store()
    return PrefixStore(f"swe_aem/{store.add(f'swe_aem/runs of {index}', 1)}", store)


def _outcome(error: BaseException) -> str:
    return _INTERRUPTED if isinstance(error, KeyboardInterrupt) else f"{_FAILED}{_words(error)}"


def _words(error: BaseException) -> str:
    return str(error) if isinstance(error, SweAemError) else f"{type(error).__name__}: {error}"


def _raise_unless_done(outcome: str | None, what: str) -> None:
    if outcome == _INTERRUPTED:
        raise KeyboardInterrupt
    if outcome is not None and outcome != _DONE:
        raise ProcessFailed(f"{what}: the first process {outcome}")


def _gone(lost: RuntimeError) -> str:
    return f"the first process is gone, or the store of the process group with it: {str(lost).partition(chr(10))[0]}"
