"""SWE-ReX's Docker deployment: an HTTP server in every container and a bash session in it.

Its start blocks the event loop that it runs in (`time.sleep` between probes with a limit of 0.15 s), so concurrent
starts in one loop never finish. Here every deployment has a thread and an event loop of its own, as in SWE-agent.
"""

import asyncio
import logging
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from contenders.base import COMMAND_TIMEOUT_S, INSTALL_PEERS, WORKDIR, Box, DockerContender, Missing, Unit

T = TypeVar("T")
START_TIMEOUT_S = 120.0
_NO_PAGER = "PAGER=cat GIT_PAGER=cat"
"""Its sessions have a terminal: `git diff` would wait at a prompt."""


class _Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)


class _RexBox:
    def __init__(self, deployment: Any, loop: _Loop, action: Any) -> None:
        self._deployment = deployment
        self._loop = loop
        self._action = action

    async def run(self, command: str) -> tuple[int, str]:
        """Run a command in the bash session."""
        action = self._action(command=command, timeout=COMMAND_TIMEOUT_S, check="silent")
        result = await self._loop.call(self._deployment.runtime.run_in_session(action))
        return result.exit_code, result.output

    async def end(self) -> None:
        """Stop the deployment."""
        await self._loop.call(self._deployment.stop())
        self._loop.stop()


class SweRex(DockerContender):
    """`DockerDeployment` with a bash session."""

    def __init__(self, unit: Unit) -> None:
        super().__init__(unit)
        try:
            from swerex.deployment.docker import DockerDeployment  # pyright: ignore[reportMissingImports]
            from swerex.runtime import abstract  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise Missing(f"SWE-ReX is not installed ({error}): {INSTALL_PEERS}") from None
        logging.disable(logging.WARNING)
        self._deployment = DockerDeployment
        self._abstract = abstract

    async def start(self) -> Box:
        """Start a deployment and its bash session."""
        labels = [argument for pair in self.unit.labels.items() for argument in ("--label", "=".join(pair))]
        deployment = self._deployment(
            image=self.unit.image, pull="never", docker_args=labels, startup_timeout=START_TIMEOUT_S
        )
        loop = _Loop()
        await loop.call(deployment.start())
        await loop.call(deployment.runtime.create_session(self._abstract.CreateBashSessionRequest()))
        box = _RexBox(deployment, loop, self._abstract.BashAction)
        await box.run(f"cd {WORKDIR} && export {_NO_PAGER}")
        return box
