"""The docker SDK's `exec_run`, as many harnesses use it: an idle container, one exec per call."""

from typing import Any

from contenders.base import WORKDIR, Box, DockerContender, Threads, Unit


class _SdkBox:
    def __init__(self, container: Any, threads: Threads) -> None:
        self._container = container
        self._threads = threads

    async def run(self, command: str) -> tuple[int, str]:
        """Run a command with `exec_run`."""
        result = await self._threads.call(self._container.exec_run, ["bash", "-c", command], workdir=WORKDIR)
        return result.exit_code, result.output.decode("utf-8", "replace")

    async def end(self) -> None:
        """Remove the container."""
        await self._threads.call(self._container.remove, force=True)


class DockerSdk(DockerContender):
    """`containers.run(detach=True)`, `exec_run`, `remove(force=True)`."""

    def __init__(self, unit: Unit) -> None:
        super().__init__(unit)
        import docker

        self._client = docker.from_env(timeout=300, max_pool_size=64)
        self._threads = Threads(unit.sandboxes)

    async def start(self) -> Box:
        """Start a container that sleeps."""
        run = self._client.containers.run
        container = await self._threads.call(
            run, self.unit.image, ["sleep", "2h"], detach=True, working_dir=WORKDIR, labels=self.unit.labels
        )
        return _SdkBox(container, self._threads)
