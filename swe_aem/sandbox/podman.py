"""The podman backend: containers of the docker backend, started by podman's service, which speaks docker's API.

What podman does differently is all here: which process limits it sets by itself, who may enforce limits, what the root
directory and `/etc/hosts` of a container are, and how it tells that memory ran out.
"""

import resource
import socket
import tarfile
import time
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from docker.errors import APIError, NotFound
from docker.types import Ulimit

from swe_aem.core import Limits, SandboxSpec
from swe_aem.errors import StartError, UserError
from swe_aem.sandbox.docker import DockerBackend, archive, is_root
from swe_aem.sandbox.engines import PODMAN, EngineKind
from swe_aem.sandbox.isolation import HOSTNAME
from swe_aem.sandbox.warden import WardenSandbox

_MOST_FILES = 1 << 20
_MOST_PROCESSES = Path("/proc/sys/kernel/pid_max")
_ULIMITS = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
_HOSTS = f"127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.0.1 {HOSTNAME}\n"
_WRITE_S = 10.0
_ENFORCED = {"memory_bytes": "MemoryLimit", "cpus": "CpuCfsQuota", "pids": "PidsLimit"}
"""Limits of a sandbox, and what podman's service calls the ability to enforce each."""


class PodmanBackend(DockerBackend):
    """Starts containers with podman: CONTAINER_HOST names its service, by default that of this user on this host."""

    name = "podman"
    engine: ClassVar[EngineKind] = PODMAN

    @cached_property
    def _engine_info(self) -> dict[str, Any]:
        return self._api.info()

    @property
    def _is_rootless(self) -> bool:
        return bool(self._engine_info.get("Rootless"))

    def _more_settings(self, limits: Limits) -> dict[str, Any]:
        """The limits of this process: root's podman asks for more, which it cannot give without CAP_SYS_RESOURCE."""
        self._check_limits(limits)
        return {} if self._is_rootless else {"ulimits": _ulimits()}

    def _check_limits(self, limits: Limits) -> None:
        """Raises `UserError` where podman would ignore a limit: it says so in its log only."""
        info = self._engine_info
        none = self._is_rootless and info.get("CgroupVersion") == "1"
        wanted = [name for name in _ENFORCED if getattr(limits, name) is not None]
        if lacking := [name for name in wanted if none or not info.get(_ENFORCED[name])]:
            why = (
                "without root it needs control groups version 2" if none else "its control group lacks the controllers"
            )
            raise UserError(
                f"podman at {self.engine.address} cannot enforce {', '.join(f'limits.{name}' for name in lacking)}: "
                f"{why}. Use the service of root, a host with version 2 and delegated controllers, or no limits "
                "(--no-limits)"
            )

    def _files(self, spec: SandboxSpec, user: str) -> bytes:
        """The workspace, after a root directory that root may write to without capabilities, as docker makes it.
        Podman's has mode 0555 where no layer of the image describes it."""
        root = tarfile.TarInfo("./")
        root.type, root.mode, root.mtime = tarfile.DIRTYPE, 0o755, int(time.time())
        return archive(spec, user, root)

    def _attach(self, name: str) -> socket.socket:
        try:
            return super()._attach(name)
        except APIError as error:
            if "rlimit" in str(error):  # podman prepares a container when one attaches to it
                raise UserError(
                    f"podman at {self.engine.address} may not allow a container as many open files and processes as "
                    "this process: start its service where `ulimit -Hn` and `ulimit -Hu` say no less than here, or "
                    "lower them here first"
                ) from error
            raise

    async def _begin(self, sandbox: WardenSandbox, user: str) -> None:
        """Write /etc/hosts again: podman copies the names of the host into it. Only root may, and there is no setting
        of a container for it."""
        if is_root(user):
            done = await sandbox.run(f"printf %s '{_HOSTS}' >/etc/hosts", timeout_s=_WRITE_S, cwd="/")
            if done.exit_code != 0:
                raise StartError(f"/etc/hosts of {sandbox.id} could not be written: {done.output.strip()}")

    def _container_files(self, info: dict[str, Any], container_id: str) -> Path:
        return Path(info["DockerRootDir"]) / f"{info['Driver']}-containers" / container_id

    def _group_above(self, container_id: str) -> str | None:
        """The same, but not for another user's containers, which cannot join a group of root."""
        return None if self._is_rootless else super()._group_above(container_id)

    async def ran_out_of_memory(self, name: str, since_s: float) -> bool:
        """Did a container run out of memory? Podman has no event for it, and what it knows of a container goes with the
        container, some moments after its end; False from then on."""

        def ask() -> bool:
            try:
                return bool(self._api.inspect_container(name)["State"]["OOMKilled"])
            except NotFound:
                return False

        return await self._call(ask)


def _ulimits() -> list[Ulimit]:
    """This process's limits of open files and processes, as far as a kernel allows them."""
    most = {"nofile": _MOST_FILES, "nproc": int(_MOST_PROCESSES.read_text())}
    hard = {name: resource.getrlimit(kind)[1] for name, kind in _ULIMITS.items()}
    values = {name: min(most[name], value) if value >= 0 else most[name] for name, value in hard.items()}
    return [Ulimit(name=name, soft=value, hard=value) for name, value in values.items()]
