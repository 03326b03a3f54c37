"""`on_press`: what Ctrl-C does, once per press. SIGTERM, which schedulers send, is the same."""

import math
import signal
import time
from collections.abc import Callable
from typing import Any

_ONE_PRESS_S = 1.0


def on_press(handle: Callable[[], None]) -> None:
    """Call `handle` at each SIGINT and SIGTERM from now on.

    A signal within a second of another is the same press, which a launcher such as uv sends once more although the
    terminal has sent it already.
    """
    last_s = -math.inf

    def received(number: int, frame: Any) -> None:
        nonlocal last_s
        if time.monotonic() - last_s > _ONE_PRESS_S:
            last_s = time.monotonic()
            handle()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, received)
