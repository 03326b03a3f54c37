"""`Controls`: does the infrastructure work right now? Measured with work that no policy has a part in.

A control that worked is kept for a minute, and whoever asks while one is being measured waits for that one: many
trajectories that fail at once cost one control.
"""

import time
from collections.abc import Awaitable, Callable, Hashable

from swe_aem.core.base import Frozen
from swe_aem.core.shared_work import SharedWork
from swe_aem.errors import InfrastructureError
from swe_aem.rollout.breaker import describe

KEPT_S = 60.0
"""Seconds for which the result of a control holds."""


class Control(Frozen):
    """The result of a control."""

    sound: bool
    """Did it work?"""
    why: str = ""
    """What failed, if it did not."""


class Controls:
    """Measures controls, one at a time for each key; an async context manager that owns what is being measured."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sound: dict[Hashable, float] = {}
        """When each was last found to be sound."""
        self._running: SharedWork[Control] = SharedWork()

    async def __aenter__(self) -> "Controls":
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._running.__aexit__(*exc)

    async def ask(self, key: Hashable, measure: Callable[[], Awaitable[None]], *, kept_s: float = KEPT_S) -> Control:
        """The control of a key: one that is at most `kept_s` seconds old, the one that is being measured, or a new one.
        `measure` raises `InfrastructureError` if something does not work."""
        when = self._sound.get(key)
        if when is not None and self._clock() - when < kept_s:
            return Control(sound=True)
        return await self._running.of(key, lambda: self._measure(key, measure))

    async def _measure(self, key: Hashable, measure: Callable[[], Awaitable[None]]) -> Control:
        try:
            await measure()
        except InfrastructureError as error:
            return Control(sound=False, why=describe(error))
        self._sound[key] = self._clock()
        return Control(sound=True)
