"""Blocking work beside an event loop or another thread."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


def begin_in_daemon_thread(work: Callable[[], Any]) -> "Future[Any]":
    """Begin blocking work in a daemon thread, so that a hang cannot keep the process alive; the future has its
    result."""
    result: Future[Any] = Future()
    result.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:  # also SystemExit: nobody else hears of it
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return result


async def in_daemon_thread(work: Callable[[], Any]) -> Any:
    """Run blocking work in a daemon thread and return its result."""
    return await asyncio.wrap_future(begin_in_daemon_thread(work))
