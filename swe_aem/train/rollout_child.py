"""`RolloutChild`: one process of rollouts as the trainer sees it: it starts, answers requests, and ends. Importable
without torch."""

import itertools
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from swe_aem.runlog import note, show
from swe_aem.train.rollout_messages import Line, Messages, Opening, Reply, Request, read_error

CLOSE_S = 240.0
"""Longer than a `RolloutWorker` takes to close."""
_LAST_LINES = 20
_LAST_WORDS_S = 2.0


class ChildGone(Exception):
    """The process ended before it answered. The message says how, with its last lines."""


class RolloutChild:
    """An interpreter of its own, which works while the caller does other things.

    It is in a session of its own, so that no Ctrl-C of a terminal reaches it, and ends by itself once this process is
    gone. What it prints to stderr is shown here.
    """

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.weights_fd = os.memfd_create("weights")
        """A file in memory that both have open, for weights on their way."""
        with theirs:
            handed = (theirs.fileno(), self.weights_fd)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "swe_aem.train.rollout_side", *map(str, handed)],
                pass_fds=handed,
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        self._messages = Messages(ours)
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._numbers = itertools.count()
        self._asked: dict[int, Future[tuple[bool, bytes]]] = {}
        self._asking = threading.Lock()
        self.how_it_ended: str | None = None
        """How the process ended, with its last lines; None while it answers."""
        self._opening: Future[tuple[bool, bytes]] | None = None
        self._closed = False
        self._shown = threading.Thread(target=self._show, name="lines of the rollouts", daemon=True)
        self._read = threading.Thread(target=self._hear, name="replies of the rollouts", daemon=True)
        self._shown.start()
        self._read.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def begin_to_open(self, opening: Opening) -> None:
        """Have it open sandboxes, store and policy, which `opened` waits for."""
        self._opening = self._send("open", opening)

    def opened(self) -> None:
        """Wait until all is open. Raises what opening raised, and `ChildGone`."""
        assert self._opening is not None, "`begin_to_open` comes first"
        _result(self._opening)

    def ask(self, method: str, *arguments: Any) -> Any:
        """What the method returns there; any thread may ask. Raises what it raises, and `ChildGone`."""
        return _result(self._send(method, *arguments))

    def _send(self, method: str, *arguments: Any) -> "Future[tuple[bool, bytes]]":
        carried = pickle.dumps(arguments)
        answer: Future[tuple[bool, bytes]] = Future()
        with self._asking:
            if self.how_it_ended is not None:
                answer.set_exception(ChildGone(self.how_it_ended))
                return answer
            number = next(self._numbers)
            self._asked[number] = answer
        with suppress(OSError):  # then it is gone, which its reader says
            self._messages.send(Request(number, method), carried)
        return answer

    def close(self) -> None:
        """Have it end what runs and close its sandboxes; it is gone afterwards. Raises what that raises. Where this is
        interrupted, it closes what it has by itself. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._opening is None:
            self._process.kill()  # it has nothing to close
        left_s = CLOSE_S
        try:
            with suppress(ChildGone):
                self.ask("close")
                left_s = _LAST_WORDS_S  # nothing is left of it but perhaps a thread that loads the model
        finally:
            self._messages.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(left_s)
        self._process.kill()
        self._read.join()
        os.close(self.weights_fd)

    def _hear(self) -> None:
        for message, carried in self._messages:
            if isinstance(message, Line):
                note(message.text, level=message.level, about=message.about)
            elif isinstance(message, Reply):
                self._asked.pop(message.number).set_result((message.failed, carried))
        how = self._end()
        with self._asking:
            self.how_it_ended = how
        for answer in self._asked.values():
            answer.set_exception(ChildGone(how))

    def _show(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            show(line.rstrip("\n"))
            self._last_lines.append(line)

    def _end(self) -> str:
        """How it ended, which it has done or is about to do."""
        try:
            code = self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._shown.join(_LAST_WORDS_S)
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        said = "".join(self._last_lines).strip()
        return f"{how}; its last lines:\n{said}" if said else how


def _result(answer: "Future[tuple[bool, bytes]]") -> Any:
    failed, result = answer.result()
    if failed:
        raise read_error(result)
    return pickle.loads(result)
