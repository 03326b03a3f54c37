"""Blocking work beside an event loop."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


async def in_daemon_thread(work: Callable[[], Any]) -> Any:
    """Run blocking work in a daemon thread and return its result, so that a hang cannot keep the process alive."""
    result: Future[Any] = Future()
    result.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:  # also SystemExit: nobody else hears of it
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(result)
