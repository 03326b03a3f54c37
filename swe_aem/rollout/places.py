"""`Places`: how much may run at once, for one run or for several that share a machine."""

import asyncio

from swe_aem.rollout.config import SchedulingConfig


class Places:
    """The limits of `scheduling` as semaphores. Of several runs that wait for a place, each gets one in turn."""

    def __init__(self, limits: SchedulingConfig) -> None:
        self.agents = asyncio.Semaphore(limits.concurrency)
        """Agents that live."""
        self.starting = asyncio.Semaphore(limits.starting)
        """Sandboxes that start."""
        self.grading = asyncio.Semaphore(limits.grading)
        """Evaluation scripts that run."""
