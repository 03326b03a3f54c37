"""swe-aem's backends, with the default limits, no network and all capabilities dropped."""

from collections.abc import Callable
from contextlib import AsyncExitStack

from contenders.base import COMMAND_TIMEOUT_S, WORKDIR, Box, Contender, DockerContender, Unit, any_alive
from swe_aem.core import Sandbox, SandboxBackend, SandboxSpec
from swe_aem.sandbox import cgroup, open_backend
from swe_aem.sandbox.host_system import HOST_IMAGE


class _OurBox:
    def __init__(self, sandbox: Sandbox, stack: AsyncExitStack) -> None:
        self._sandbox = sandbox
        self._stack = stack

    async def run(self, command: str) -> tuple[int, str]:
        """Run a command through the warden."""
        result = await self._sandbox.run(command, timeout_s=COMMAND_TIMEOUT_S)
        return result.exit_code, result.output

    async def end(self) -> None:
        """Close the sandbox."""
        await self._stack.aclose()


class _Ours(Contender):
    """Opens sandboxes of one backend with one spec."""

    backend: SandboxBackend
    spec: SandboxSpec

    async def prepare(self) -> None:
        """Start one sandbox: at its first start the backend looks up the image and installs the warden."""
        await (await self.start()).end()

    async def start(self) -> Box:
        """Open a sandbox."""
        stack = AsyncExitStack()
        return _OurBox(await stack.enter_async_context(self.backend.open(self.spec)), stack)


class OurDocker(_Ours, DockerContender):
    """The docker backend; the image holds the repository, as SWE-bench images do."""

    def __init__(self, unit: Unit) -> None:
        super().__init__(unit)
        self.backend = open_backend("docker")
        labels = {name.removeprefix("swe-aem."): value for name, value in unit.labels.items()}
        self.spec = SandboxSpec(image=unit.image, workdir=WORKDIR, labels=labels)


class OurBubblewrap(_Ours):
    """The embedded backend on the host's own read-only system, the repository overlaid from the host."""

    def __init__(self, unit: Unit) -> None:
        super().__init__(unit)
        self.backend = open_backend("bubblewrap")
        labels = {"benchmark-unit": unit.id}
        self.spec = SandboxSpec(image=HOST_IMAGE, workdir=WORKDIR, workspace=unit.workspace, labels=labels)

    async def watch(self) -> Callable[[], bool]:
        """Watch every process in the sandboxes' control groups, then the groups themselves."""
        mine = {info.id for info in await self.backend.ls() if info.labels.get("benchmark-unit") == self.unit.id}
        groups = [group for id, group in cgroup.leftovers().items() if id in mine]
        pids = [int(pid) for group in groups for procs in group.procs for pid in procs.read_text().split()]
        directories = [directory for group in groups for directory in group.directories]
        return lambda: any_alive(pids) or any(directory.exists() for directory in directories)


class OurBubblewrapRootfs(OurBubblewrap):
    """The embedded backend on an overlay of the unpacked image."""

    def __init__(self, unit: Unit) -> None:
        super().__init__(unit)
        from swe_aem.sandbox.bubblewrap import BubblewrapBackend

        self.backend = BubblewrapBackend(rootfs=unit.rootfs)
        self.spec = self.spec.model_copy(update={"image": unit.image, "workspace": None})


OURS: dict[str, type[Contender]] = {
    "swe-aem-docker": OurDocker,
    "swe-aem-bubblewrap": OurBubblewrap,
    "swe-aem-bubblewrap-rootfs": OurBubblewrapRootfs,
}
"""This package's contenders by name."""
