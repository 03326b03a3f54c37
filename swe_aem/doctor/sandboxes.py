"""Checks of what sandboxes need: launcher, kernel, control groups, engine, images, and of abandoned sandboxes."""

import asyncio
import os
import platform
import shutil
from pathlib import Path

from swe_aem.core import Limits, SandboxInfo, SandboxSpec
from swe_aem.core.finding import Finding, fail, ok, warn
from swe_aem.errors import InfrastructureError, UserError
from swe_aem.sandbox import SANDBOXES, cgroup, open_backend
from swe_aem.sandbox.host_system import HOST_IMAGE

_START_LIMIT_S = 20.0
_ENGINE_TIMEOUT_S = 5
_MAX_USER_NAMESPACES = Path("/proc/sys/user/max_user_namespaces")
_FILESYSTEMS = Path("/proc/filesystems")
_SECCOMP = Path("/proc/sys/kernel/seccomp/actions_avail")
_SHOW_USERS = "readlink /proc/self/ns/user && head -n 1 /proc/self/uid_map"
_FIRST_NAMESPACE = "user:[4026531837]"
"""The user namespace that every kernel starts with."""
_SHARED, _ENOUGH_INSTANCES = "fs.inotify.max_user_instances", 65536
_GIB = 1 << 30


def launcher() -> Finding:
    """The program that makes the namespaces of embedded sandboxes."""
    if shutil.which("bwrap"):
        return ok("launcher", "bubblewrap")
    if all(map(shutil.which, ("unshare", "mount", "pivot_root"))):
        return warn("launcher", "util-linux only", "apt-get install bubblewrap")
    return fail("launcher", "neither bubblewrap nor util-linux", "apt-get install bubblewrap")


def packing() -> Finding:
    """The programs that pack images into files, and mount those."""
    found = [format for format, program in (("squashfs", "sqfstar"), ("erofs", "mkfs.erofs")) if shutil.which(program)]
    if not found:
        return warn("packing", "images cannot be packed", "apt-get install squashfs-tools")
    if os.geteuid() != 0 and not all(map(shutil.which, ("squashfuse", "fusermount3"))):
        return warn("packing", "packed images cannot be mounted without root", "apt-get install squashfuse fuse3")
    return ok("packing", " and ".join(found))


def kernel() -> Finding:
    """Kernel features that embedded sandboxes use."""
    missing = []
    if os.geteuid() != 0 and _MAX_USER_NAMESPACES.exists() and int(_MAX_USER_NAMESPACES.read_text()) == 0:
        missing.append(("user namespaces are off", "sysctl -w user.max_user_namespaces=15000"))
    if "overlay" not in _FILESYSTEMS.read_text():
        missing.append(("no overlayfs", "modprobe overlay"))
    if not _SECCOMP.exists():
        missing.append(("no seccomp", "use a kernel with CONFIG_SECCOMP_FILTER"))
    if missing:
        return fail("kernel", ", ".join(what for what, _ in missing), "; ".join(fix for _, fix in missing))
    return ok("kernel", f"{platform.release()}: namespaces, overlayfs, seccomp")


def control_groups() -> Finding:
    """Control groups: can the limits of sandboxes be set?"""
    version = 2 if (cgroup.ROOT / "cgroup.controllers").exists() else 1
    try:
        group = cgroup.create(f"doctor-{os.getpid()}", Limits())
    except UserError:
        return fail(
            "control groups",
            f"version {version}, not writable",
            "put `systemd-run --user --scope -p Delegate=yes` before the command, run as root, or add --no-limits",
        )
    if group is not None:
        group.remove()
    return ok("control groups", f"version {version}, limits can be set")


def embedded(limit_s: float = _START_LIMIT_S) -> Finding:
    """Start a sandbox and run a command in it, within a limit."""
    return _start("bubblewrap", Limits(**dict.fromkeys(Limits.model_fields)), limit_s)


def container() -> Finding:
    """Start a container of the bundled tasks' image and run a command in it."""
    return _start("docker", Limits())


def podman_container() -> Finding:
    """Start a container of the bundled tasks' image with podman and run a command in it."""
    return _start("podman", Limits())


def _start(kind: str, limits: Limits, limit_s: float = _START_LIMIT_S) -> Finding:
    name = f"{kind} sandbox"

    async def run() -> list[str]:
        spec = SandboxSpec(image=HOST_IMAGE, workdir="/tmp", limits=limits, ttl_s=60, labels={"role": "doctor"})
        async with asyncio.timeout(limit_s), open_backend(kind) as backend, backend.open(spec) as sandbox:
            result = await sandbox.run(f"python3 --version && git --version && {_SHOW_USERS}", timeout_s=10)
            if result.exit_code != 0:
                raise InfrastructureError(f"its first command failed: {result.output.strip()[:200]}")
            return result.output.splitlines()

    try:
        *versions, namespace, users = asyncio.run(run())
    except UserError as error:
        return fail(name, "does not start", str(error))
    except TimeoutError:
        return fail(
            name,
            f"did not start within {limit_s:.0f} s",
            "swe-aem sandbox prune, then check whether the host is overloaded",
        )
    except InfrastructureError as error:
        return fail(name, f"does not start: {error}", "fix the other findings first; if it persists, please report it")
    if namespace == os.readlink("/proc/self/ns/user") or namespace == _FIRST_NAMESPACE or users.split()[2] == "1":
        shared = f"{', '.join(versions)}; sandboxes share the limits of their user"
        return warn(name, shared, f"run as root, or raise what they share: sysctl -w {_SHARED}={_ENOUGH_INSTANCES}")
    return ok(name, ", ".join(versions))


def engine() -> Finding:
    """The docker engine, and how it stores images."""
    import docker
    import requests
    from docker.errors import DockerException

    where = os.environ.get("DOCKER_HOST", "the local socket")
    try:
        client = docker.from_env(timeout=_ENGINE_TIMEOUT_S)
        info = client.info()
    except (DockerException, requests.RequestException) as error:
        said = str(error)
        if "Permission denied" in said:
            return fail("engine", f"{where} may not be opened", "usermod -aG docker $USER, and log in again")
        fix = "systemctl start docker (apt-get install docker.io first), or set DOCKER_HOST"
        return fail("engine", f"none answers at {where}", fix)
    found = (
        f"{info['ServerVersion']}, {info['Driver']}, control groups version {info.get('CgroupVersion', '1')}, "
        f"{info['DockerRootDir']}"
    )
    lacking = [name for name in ("MemoryLimit", "PidsLimit", "CpuCfsQuota") if not info.get(name)]
    if lacking:
        return warn("engine", f"{found}; no {', '.join(lacking)}", "enable the controllers, e.g. run a rootful engine")
    root = Path(info["DockerRootDir"])
    if "DOCKER_HOST" not in os.environ and root.exists() and shutil.disk_usage(root).free < 20 * _GIB:
        return warn("engine", f"{found}, {shutil.disk_usage(root).free / _GIB:.0f} GiB free", "swe-aem images gc")
    return ok("engine", found)


def image() -> Finding:
    """The bundled tasks' image."""
    import docker
    import requests
    from docker.errors import DockerException, ImageNotFound

    try:
        found = docker.from_env(timeout=_ENGINE_TIMEOUT_S).images.get(HOST_IMAGE)
    except ImageNotFound:
        return fail("image", f"the engine has no {HOST_IMAGE}", "swe-aem images build micro")
    except (DockerException, requests.RequestException):
        return fail("image", "no engine to ask", "get the engine to answer first")
    return ok("image", f"{HOST_IMAGE}, {found.short_id}")


def leftovers() -> Finding:
    """Sandboxes whose owner is gone."""

    async def every(kind: str) -> list[SandboxInfo]:
        async with asyncio.timeout(_START_LIMIT_S), open_backend(kind) as backend:
            return await backend.ls()

    live = dead = 0
    for kind in filter(SANDBOXES.is_builtin, SANDBOXES.names):
        try:
            rows = asyncio.run(every(kind))
        except (UserError, InfrastructureError, TimeoutError):
            continue  # another check reports what is wrong with that backend
        dead += sum(not row.owner_alive or row.expired for row in rows)
        live += len(rows)
    if dead:
        return warn("sandboxes", f"{live} live, {dead} of them without an owner", "swe-aem sandbox prune")
    return ok("sandboxes", f"{live} live")
