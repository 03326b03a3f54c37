"""`AgentClock`: the clock of an agent's time limit, which counts what the agent does and not what it waits for."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from swe_aem.core import Deadline


class AgentClock:
    """The seconds that an agent has used of its time: those of its program and of its commands.

    It stands while a response is waited for, and while a command runs, whose seconds are added when it ends, less those
    in which others had its processors. Whether a trajectory is out of time thus does not depend on how busy the servers
    of the policy and this host are, and a command is ended by its own limit, which knows what it was starved of.
    """

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.deadline = Deadline(limit_s, self)
        """When the agent has used `limit_s`."""
        self._clock = clock
        self._now_s = clock()
        self._used_s = 0.0
        self._responses = 0
        self._commands, self._commands_s, self._starved_s = 0, 0.0, 0.0

    def __call__(self) -> float:
        """Seconds used so far."""
        self._advance()
        return self._used_s

    @contextmanager
    def response(self) -> Iterator[None]:
        """A body that waits for a response; of several at once, the last one to come counts."""
        self._advance()
        self._responses += 1
        try:
            yield
        finally:
            self._advance()
            self._responses -= 1

    @contextmanager
    def command(self, timeout_s: float) -> Iterator[Callable[[float], None]]:
        """A body that runs a command with that time limit; tell what it gives for how many seconds it was starved.

        A command that may take longer than all of the agent's time is the agent itself, inside of the sandbox: while it
        runs, the clock does.
        """
        if timeout_s > self.deadline.at_s:
            yield lambda starved_s: None
            return
        self._advance()
        self._commands += 1
        try:
            yield self._was_starved
        finally:
            self._advance()
            self._commands -= 1
            if not self._commands:
                self._used_s += max(0.0, self._commands_s - self._starved_s)
                self._commands_s = self._starved_s = 0.0

    def _was_starved(self, starved_s: float) -> None:
        self._starved_s = max(self._starved_s, starved_s)  # of commands at once each may have waited at the same time

    def _advance(self) -> None:
        """Count the time since the last change, for what it was used for."""
        before_s, self._now_s = self._now_s, self._clock()
        if self._responses:
            return
        if self._commands:
            self._commands_s += self._now_s - before_s
        else:
            self._used_s += self._now_s - before_s
