"""`wait_for`: asynchronous work from synchronous code, also where an event loop runs already, as in a notebook."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from typing import Any, TypeVar

T = TypeVar("T")
_TICK_S = 0.2


def wait_for(work: Coroutine[Any, Any, T], *, interrupted: str) -> T:
    """Run the work to its end on an event loop of its own, in a thread of its own; its result or its exception.

    A `KeyboardInterrupt` cancels the work and is raised once that has ended, with the note `interrupted`. Another one
    meanwhile is raised at once, and the work is left to end by itself.
    """
    cancel: Future[Callable[[], object]] = Future()
    ended: Future[T] = Future()
    threading.Thread(target=_run, args=(work, cancel, ended), name="swe-aem", daemon=True).start()
    try:
        return _result(ended)
    except KeyboardInterrupt as error:
        _result(cancel)()
        while not ended.done():
            wait([ended], _TICK_S)
        error.add_note(interrupted)
        raise


def _result(future: "Future[T]") -> T:
    """The result of a future. Python notices a signal that another thread took only when this one wakes up."""
    while not future.done():
        wait([future], _TICK_S)
    return future.result()


def _run(work: Coroutine[Any, Any, T], cancel: "Future[Callable[[], object]]", ended: "Future[T]") -> None:
    """The thread: `cancel` gets what cancels the work, `ended` how it ended."""

    async def cancellable() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def cancel_once() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)

        cancel.set_result(cancel_once)
        return await work

    try:
        ended.set_result(asyncio.run(cancellable()))
    except BaseException as error:  # whatever it is, whoever waits is the one to raise it
        ended.set_exception(error)
