"""`VirtualTimeLoop`: an event loop whose clock jumps to the next timer whenever nothing is left to do.

Tests of waits and time limits take no time on it and come out the same on any machine. Work for threads is done at
once, in the loop's own thread: real work in a thread would race with a clock that does not wait for it.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Its `time()` begins at 0."""

    def __init__(self) -> None:
        super().__init__(_Jumping(self._jump))
        self._now_s = 0.0

    def time(self) -> float:
        """Seconds that all waits so far took."""
        return self._now_s

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., _T], *args: Any
    ) -> "asyncio.Future[_T]":
        """The call's result, already there."""
        future: asyncio.Future[_T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def _jump(self, seconds: float) -> None:
        self._now_s += seconds


class _Jumping(selectors.DefaultSelector):
    """Waits for no time; with nothing to wait for at all, the program hangs, which is an error."""

    def __init__(self, jump: Callable[[float], None]) -> None:
        super().__init__()
        self._jump = jump

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("everything waits, and nothing will ever happen")
        if timeout > 0:
            self._jump(timeout)
        return super().select(0)


def run_in_virtual_time(work: Coroutine[Any, Any, _T]) -> _T:
    """What a coroutine returns that runs on such a loop."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(work)
