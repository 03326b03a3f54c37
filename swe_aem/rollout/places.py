"""`Places`: how much may run at once, for one run or for several that share a machine."""

import asyncio

from swe_aem.rollout.at_once import AtOnce


class Places:
    """What may run at once as semaphores. Of several runs that wait for a place, each gets one in turn."""

    def __init__(self, limits: AtOnce) -> None:
        self.agents = asyncio.Semaphore(limits.concurrency)
        """Agents that live."""
        self.starting = asyncio.Semaphore(limits.starting)
        """Sandboxes that start."""
        self.grading = asyncio.Semaphore(limits.grading)
        """Evaluation scripts that run."""


class AgentPlace:
    """One place of a semaphore, released once however often it is asked to."""

    def __init__(self, semaphore: asyncio.Semaphore) -> None:
        """The semaphore has been acquired."""
        self._semaphore: asyncio.Semaphore | None = semaphore

    @staticmethod
    async def of(semaphore: asyncio.Semaphore) -> "AgentPlace":
        """Wait for a place."""
        await semaphore.acquire()
        return AgentPlace(semaphore)

    def release(self) -> None:
        """Another agent may start."""
        if self._semaphore is not None:
            self._semaphore.release()
            self._semaphore = None
