"""The docker backend: one container per sandbox on a real engine, local or remote; the warden is its main process.

The control channel is the container's own stdin and stdout over the engine's attach socket: no `docker exec` per call,
no client process per sandbox. When the owner dies the engine closes stdin, the warden exits, and the engine removes the
container (`AutoRemove`); if that fails, its time to live ends it, and after that `prune` finds it by its labels.
"""

import asyncio
import contextlib
import io
import logging
import re
import socket
import ssl
import sys
import tarfile
import time
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import LogConfig
from pydantic import ValidationError

from swe_aem.core import LimitHits, Limits, Sandbox, SandboxInfo, SandboxSpec
from swe_aem.core.owner import Lease
from swe_aem.errors import InfrastructureError, SandboxDead, StartError, TaskUnusable, UserError
from swe_aem.sandbox.attach import WARDEN_DIR
from swe_aem.sandbox.capabilities import for_warden, mask
from swe_aem.sandbox.cgroup import counter, shared_parent
from swe_aem.sandbox.channel import Channel
from swe_aem.sandbox.engines import DOCKER, EngineKind
from swe_aem.sandbox.images.engine import LAYER_LABEL
from swe_aem.sandbox.images.ledger import Ledger, LedgerEntry
from swe_aem.sandbox.images.reference import canonical
from swe_aem.sandbox.isolation import HOSTNAME, ipc_settings
from swe_aem.sandbox.warden import (
    WardenSandbox,
    check_workdir,
    cpu_millis,
    environment,
    is_blackhole,
    warden_binary,
    warden_digest,
)

T = TypeVar("T")

logger = logging.getLogger(__name__)

ENGINE_TIMEOUT_S = 120
START_TIMEOUT_S = 60.0
CLOSE_TIMEOUT_S = 30.0
PING_TIMEOUT_S = 15.0
ENGINE_THREADS = 64
"""Engine calls under way at once; each is a blocking HTTP request of the docker SDK."""

LAYER_REPOSITORY = "swe-aem/layer"
"""Kept layers are images of this name, with their key as the tag."""
_OURS = "swe-aem."
LEASE_LABEL = f"{_OURS}lease"
_OOM_FILES = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")
_PIDS_FILES = ("/sys/fs/cgroup/pids.events", "/sys/fs/cgroup/pids/pids.events")
_PEAK_FILES = ("/sys/fs/cgroup/memory.peak", "/sys/fs/cgroup/memory/memory.max_usage_in_bytes")


class DockerBackend:
    """Starts containers. The engine is the SDK's usual one: DOCKER_HOST, or the local socket.

    `runtime` is the name of an engine's runtime; None for its default. Threads and connections are taken when they are
    first needed, and given back when the context is left.
    """

    name = "docker"
    engine: ClassVar[EngineKind] = DOCKER

    def __init__(self, *, runtime: str | None = None) -> None:
        self._runtime, self._runtime_known = runtime, False
        self._threads = ThreadPoolExecutor(ENGINE_THREADS, thread_name_prefix="docker")
        self._connected: docker.APIClient | None = None
        self._parent_group: str | None = None
        self._images: dict[str, dict[str, Any]] = {}
        self._layers_of: dict[str, set[str]] = {}
        self._warden_volumes: dict[str, asyncio.Task[str]] = {}
        self._ledger = Ledger.of_engine(self.engine)

    async def __aenter__(self) -> Self:
        """Nothing is asked of the engine yet."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Wait for the calls under way, which the engine's time limit bounds; then end the threads and close the
        client's connections."""
        await asyncio.to_thread(self._threads.shutdown)
        if self._connected is not None:
            self._connected.close()

    @property
    def _api(self) -> docker.APIClient:
        """The engine's client, connected at first use; raises `UserError` if none answers."""
        if self._connected is None:
            try:
                settings = self.engine.client_settings()
                client = docker.APIClient(
                    **settings, version="auto", timeout=ENGINE_TIMEOUT_S, num_pools=4, max_pool_size=ENGINE_THREADS
                )
                self.engine.check(client.version())
            except DockerException as error:
                raise UserError(
                    f"no {self.name} engine answers at {self.engine.address}: {_cause(error)}. "
                    f"{self.engine.how_to_start}, set {self.engine.variable}, or use the sandbox bubblewrap"
                ) from None
            self._connected = client
        return self._connected

    async def _call(self, function: Callable[..., T], *args: Any) -> T:
        """Call a blocking function on a thread; every error of the engine becomes an `InfrastructureError`."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, partial(function, *args))
        except (DockerException, requests.RequestException) as error:
            said = getattr(error, "explanation", None) or error
            raise InfrastructureError(f"{self.name} engine: {said}") from error

    async def answers(self) -> bool:
        """Does the engine answer a ping?"""
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                return bool(await self._call(lambda: self._api.ping()))
        except (InfrastructureError, UserError, TimeoutError):
            return False

    async def image_digest(self, image: str) -> str:
        """The id of the image's configuration, which does not depend on the registry it was pulled from."""
        return (await self._image(image))["Id"]

    def release_image(self, image: str) -> None:
        """Give up what this process has reserved of an image and the layers on it: no sandbox of it is needed now."""
        self._images.pop(image, None)
        for name in (image, *self._layers_of.pop(image, ())):
            self._ledger.release(name)

    async def has_layer(self, spec: SandboxSpec) -> bool | None:
        """Is there such a layer on the engine, made of the image as it is now? None for an image with volumes, which a
        commit leaves out."""
        if (await self._image(spec.image))["Config"]["Volumes"]:
            return None
        name = _layer_image(spec)
        self._layers_of.setdefault(spec.image, set()).add(name)
        await self._ledger.reserve(name)
        try:
            layer = await self._call(self._inspect, name)
        except UserError:
            return False
        self._ledger.use(name)
        return (layer["Config"]["Labels"] or {}).get(LAYER_LABEL) == await self.image_digest(spec.image)

    @asynccontextmanager
    async def make_layer(self, spec: SandboxSpec) -> AsyncIterator[WardenSandbox]:
        """Start a container and commit it at the end; raises what `SandboxBackend.make_layer` raises."""
        async with self.open(spec.model_copy(update={"layer": None})) as sandbox:
            yield sandbox
            remove = f"rm -rf {' '.join(f'{path}/*' for path in sandbox.own_dirs)}"
            await sandbox.run(remove, timeout_s=CLOSE_TIMEOUT_S, cwd="/")
            await sandbox.settle()
            size_bytes = await self._call(self._commit, sandbox.id, spec, await self.image_digest(spec.image))
        self._ledger.record(LedgerEntry(name=canonical(_layer_image(spec)), origin="layer", size_bytes=size_bytes))

    def _commit(self, container: str, spec: SandboxSpec, image_id: str) -> int:
        """Make the layer's image of a container in which nothing runs but the warden, so that it need not be paused:
        podman cannot always. Returns its size in bytes, the image below included."""
        # Labels of the container would become the image's: with a lease, what somebody else starts on it would be ours.
        labels = {LAYER_LABEL: image_id, LEASE_LABEL: ""}
        conf = {"Labels": labels}
        made = self._api.commit(container, LAYER_REPOSITORY, tag=spec.layer, pause=False, conf=conf)
        return self._api.inspect_image(made["Id"])["Size"]

    @asynccontextmanager
    async def open(self, spec: SandboxSpec) -> AsyncIterator[WardenSandbox]:
        """Start a sandbox for the length of an `async with`; raises what `SandboxBackend.open` raises."""
        sandbox = await self._start(spec)
        try:
            yield sandbox
        finally:
            await sandbox.close()

    async def _start(self, spec: SandboxSpec) -> WardenSandbox:
        check_workdir(spec.workdir)
        image = await self._image(spec.image)
        user = spec.user or image["Config"].get("User") or "0"
        if is_blackhole(spec.network) and not is_root(user):
            raise TaskUnusable(
                f"network 'blackhole' needs root in the container to set its route, not {user!r}: set `user: root`"
            )
        start = image["Id"] if spec.layer is None else _layer_image(spec)
        await self._check_runtime()
        volume = await self._warden_volume(image)
        name = f"swe-aem-{uuid.uuid4().hex[:12]}"
        creating = asyncio.ensure_future(self._call(self._create, name, spec, user, start, volume))
        channel: Channel | None = None
        try:
            channel = await Channel.connect(await asyncio.shield(creating), multiplexed=True)
            sandbox = self._sandbox(name, spec, image, channel)
            await self._call(lambda: self._api.start(name))
            await sandbox.handshake(START_TIMEOUT_S)
            await self._begin(sandbox, user)
            return sandbox
        except BaseException as error:
            await asyncio.shield(self._abandon(creating, channel, name))
            if isinstance(error, (InfrastructureError, OSError)):
                raise StartError(f"container of {spec.image} did not start: {error}") from error
            raise

    async def _abandon(self, creating: "asyncio.Future[socket.socket]", channel: Channel | None, name: str) -> None:
        """Undo a start that failed or was cancelled, at any point: a request on a thread cannot be cancelled."""
        await asyncio.wait([creating])
        if channel is not None:
            # The channel owns the socket: closed here, its descriptor could be reused while the channel still has it.
            channel.give_up("its start was abandoned")
        elif not creating.cancelled() and creating.exception() is None:
            creating.result().close()
        await self._end(name)

    async def _end(self, name: str) -> None:
        """Remove a container. A failure is only logged: `prune` tries again, and the sandbox's results are complete."""
        try:
            await self._call(self._remove, name)
        except InfrastructureError as error:
            logger.warning("container %s could not be removed: %s; `swe-aem sandbox prune` tries again", name, error)

    def _sandbox(self, name: str, spec: SandboxSpec, image: dict[str, Any], channel: Channel) -> WardenSandbox:
        own = dict(entry.partition("=")[::2] for entry in image["Config"].get("Env") or [])
        return WardenSandbox(
            name, spec, channel, environment(own, spec.env), _Inside(self, name, time.time()), lambda: self._end(name)
        )

    async def _check_runtime(self) -> None:
        """Raises `UserError` if the engine has no such runtime. It is asked once."""
        if self._runtime is None or self._runtime_known:
            return
        known = (await self._call(self._api.info)).get("Runtimes") or {}
        if self._runtime not in known:
            raise UserError(
                f"the docker engine has no runtime {self._runtime!r}; it has {', '.join(sorted(known))}: choose one of "
                "these (sandbox.runtime), or name yours under `runtimes` in the engine's daemon.json"
            )
        self._runtime_known = True

    # -- where engines differ -----------------------------------------------------------------------------------------

    def _more_settings(self, limits: Limits) -> dict[str, Any]:
        """Settings of a container's host configuration that only this engine needs; raises `UserError` where the engine
        cannot enforce a limit. Called on a thread."""
        return {}

    def _files(self, spec: SandboxSpec, user: str) -> bytes | None:
        """A tar archive of what is put into a container before it starts, with paths from `/`; None for nothing."""
        return None if spec.workspace is None else archive(spec, user)

    async def _begin(self, sandbox: WardenSandbox, user: str) -> None:
        """What is left to do in a container whose warden answers."""

    def _container_files(self, info: dict[str, Any], container_id: str) -> Path:
        """Where the engine on this host keeps files of a container."""
        return Path(info["DockerRootDir"]) / "containers" / container_id

    async def ran_out_of_memory(self, name: str, since_s: float) -> bool:
        """Did a container run out of memory since then? By the engine's record of its last 256 events; raises
        `InfrastructureError`."""

        def ask() -> bool:
            wanted = {"container": name, "event": "oom"}
            return any(True for _ in self._api.events(since=int(since_s), until=int(time.time()) + 1, filters=wanted))

        return await self._call(ask)

    # -- engine calls, on a thread ------------------------------------------------------------------------------------

    def _create(self, name: str, spec: SandboxSpec, user: str, image_id: str, volume: str) -> socket.socket:
        """Create the container, put the workspace into it and attach to its stdin and stdout."""
        limits = spec.limits
        blackhole = is_blackhole(spec.network)
        if is_root(user):
            capabilities = for_warden(spec.capabilities, network=blackhole)
        else:  # the engine's bounding set is final: the warden of another user can neither use nor drop any
            capabilities = [name.removeprefix("CAP_") for name in spec.capabilities]
        host_config = self._api.create_host_config(
            auto_remove=True,
            binds=[
                f"{volume}:{WARDEN_DIR}:ro,nocopy",
                *(f"{path}:{inside}:ro" for inside, path in spec.shared.items()),
            ],
            cap_add=capabilities or None,
            cap_drop=["ALL"],
            cgroup_parent=self._parent_group,
            extra_hosts={HOSTNAME: "127.0.0.1"},
            log_config=LogConfig(type="none"),
            mem_limit=limits.memory_bytes,
            memswap_limit=limits.memory_bytes,
            nano_cpus=int(limits.cpus * 1e9) if limits.cpus is not None else None,
            network_mode="none",
            pids_limit=limits.pids,
            runtime=self._runtime,
            security_opt=["no-new-privileges"],
            sysctls=ipc_settings(limits),
            **self._more_settings(limits),
        )
        warden = [f"{WARDEN_DIR}/warden", "serve", str(int(spec.ttl_s)), str(limits.disk_bytes or 0)]
        warden += [str(mask(spec.capabilities)), str(int(blackhole)), spec.workdir]
        self._api.create_container(
            image_id,
            name=name,
            entrypoint=[*warden, cpu_millis(limits), "0"],
            command=[],
            hostname=HOSTNAME,
            host_config=host_config,
            labels={
                **{_OURS + key: value for key, value in spec.labels.items()},
                LEASE_LABEL: Lease.start(spec.ttl_s).model_dump_json(),
            },
            stdin_open=True,
            user=user,
        )
        if (files := self._files(spec, user)) is not None:
            self._api.put_archive(name, "/", files)
        return self._attach(name)

    def _attach(self, name: str) -> socket.socket:
        stream = self._api.attach_socket(name, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
        connection = getattr(stream, "_sock", stream)
        if isinstance(connection, ssl.SSLSocket) or not isinstance(connection, socket.socket):
            raise StartError(
                f"the engine's connection is a {type(connection).__name__}; the control channel needs a plain socket: "
                f"forward the engine's socket (`ssh -NL /tmp/engine.sock:SOCKET HOST`) and set "
                f"{self.engine.variable}=unix:///tmp/engine.sock"
            )
        own = connection.dup()  # the SDK closes its own with the response object
        stream.close()
        return own

    def _remove(self, name: str) -> None:
        """Remove a container and wait until it is gone; one that is gone already is no error."""
        end = time.monotonic() + CLOSE_TIMEOUT_S
        while True:
            try:
                self._api.remove_container(name, v=True, force=True)
            except NotFound:
                return
            except APIError as error:
                if error.status_code != 409 or time.monotonic() > end:  # 409: the engine is removing it right now
                    raise
                time.sleep(0.01)

    async def _image(self, reference: str) -> dict[str, Any]:
        """The engine's record of an image. Looked up once: a tag that moves must not change a run half-way."""
        if reference not in self._images:
            await self._ledger.reserve(reference)
            self._images[reference] = await self._call(self._inspect, reference)
        self._ledger.use(reference)
        return self._images[reference]

    def _inspect(self, reference: str) -> dict[str, Any]:
        try:
            return self._api.inspect_image(reference)
        except ImageNotFound:
            from swe_aem.sandbox.images.recipes import how_to_get

            raise TaskUnusable(
                f"the {self.name} engine has no image {reference!r}: get it with "
                f"{how_to_get(reference, self.engine.name)}"
            ) from None

    async def _warden_volume(self, image: dict[str, Any]) -> str:
        """Name of the engine's volume with the warden for an image's architecture; filled at first use."""
        architecture = image["Architecture"]
        if architecture not in self._warden_volumes:
            fill = self._call(self._fill_volume, warden_binary(architecture), image["Id"])
            self._warden_volumes[architecture] = asyncio.ensure_future(fill)
        filling = self._warden_volumes[architecture]
        try:
            return await asyncio.shield(filling)
        except InfrastructureError:
            self._warden_volumes.pop(architecture, None)
            raise

    def _fill_volume(self, binary: Path, image_id: str) -> str:
        """Create the volume and put the warden into it. Not a bind mount: the engine may run on another host."""
        volume = f"swe-aem-warden-{warden_digest(binary)}"
        self._api.create_volume(volume, labels={"swe-aem.warden": binary.name})
        name = f"swe-aem-fill-{uuid.uuid4().hex[:12]}"
        binds = self._api.create_host_config(binds=[f"{volume}:{WARDEN_DIR}:nocopy"])
        lease = {LEASE_LABEL: Lease.start(ENGINE_TIMEOUT_S).model_dump_json()}
        made = self._api.create_container(image_id, ["true"], name=name, host_config=binds, labels=lease)
        try:
            self._parent_group = self._group_above(made["Id"])
            with contextlib.suppress(NotFound):
                stream, _ = self._api.get_archive(name, f"{WARDEN_DIR}/warden")
                stream.close()
                return volume
            archive = io.BytesIO()
            with tarfile.open(fileobj=archive, mode="w") as tar:
                member = tarfile.TarInfo("warden")
                member.size, member.mode = binary.stat().st_size, 0o755
                tar.addfile(member, io.BytesIO(binary.read_bytes()))
            self._api.put_archive(name, WARDEN_DIR, archive.getvalue())
            return volume
        finally:
            self._remove(name)

    def _group_above(self, container_id: str) -> str | None:
        """The control group for all sandboxes, if the engine is on this host: then the files of its container are here.
        Its address does not say that, for a local socket may be forwarded from another host."""
        info = self._api.info()
        is_here = self._container_files(info, container_id).is_dir()
        return shared_parent() if is_here and info.get("CgroupDriver") == "cgroupfs" else None

    # -- what is on the engine ----------------------------------------------------------------------------------------

    async def ls(self) -> list[SandboxInfo]:
        """Every sandbox of this backend on this host, of all runs."""
        return [self._info(container, lease) for container, lease in await self._ours()]

    async def prune(self, *, everything: bool = False) -> list[str]:
        """Remove sandboxes whose owner is gone or whose deadline has passed, or all; returns their ids."""
        gone = []
        for container, lease in await self._ours():
            if everything or lease.orphaned:
                await self._call(self._remove, container["Id"])
                gone.append(_name(container))
        await self._call(self._remove_unnamed_layers)
        return gone

    def _remove_unnamed_layers(self) -> None:
        """Remove layers whose name another process has given to the same layer that it made meanwhile."""
        for image in self._api.images(filters={"label": LAYER_LABEL, "dangling": True}):
            with contextlib.suppress(APIError):  # a container may still use it
                self._api.remove_image(image["Id"])

    def shell_command(self, sandbox: Sandbox) -> list[str]:
        """A command line that opens a terminal in the container through the engine's socket."""
        assert isinstance(sandbox, WardenSandbox)
        env = [f"{name}={value}" for name, value in sandbox.env.items()]
        kept = str(mask(sandbox.spec.capabilities))
        return [sys.executable, "-m", "swe_aem.sandbox.attach", self.name, sandbox.id, sandbox.spec.workdir, kept, *env]

    async def _ours(self) -> list[tuple[dict[str, Any], Lease]]:
        found = await self._call(lambda: self._api.containers(all=True, filters={"label": LEASE_LABEL}))
        ours = []
        for container in found:
            try:
                ours.append((container, Lease.model_validate_json(container["Labels"][LEASE_LABEL])))
            except ValidationError:  # written by another version, which will remove it
                logger.warning("the lease of container %s cannot be read; it is left alone", _name(container))
        return ours

    def _info(self, container: dict[str, Any], lease: Lease) -> SandboxInfo:
        labels = {
            key.removeprefix(_OURS): value
            for key, value in container["Labels"].items()
            if key.startswith(_OURS) and key != LEASE_LABEL
        }
        return SandboxInfo(
            id=_name(container),
            backend=self.name,
            image=container["Image"],
            owner_alive=lease.owner.alive(),
            expired=lease.expired,
            age_s=max(0.0, time.time() - lease.created_s),
            labels=labels,
        )


def _layer_image(spec: SandboxSpec) -> str:
    return f"{LAYER_REPOSITORY}:{spec.layer}"


def is_root(user: str) -> bool:
    """Does a container's setting `USER` or `USER:GROUP` mean root?"""
    return user.partition(":")[0] in ("root", "0")


def _name(container: dict[str, Any]) -> str:
    return container["Names"][0].lstrip("/")


def archive(spec: SandboxSpec, user: str, *first: tarfile.TarInfo) -> bytes:
    """A tar of the spec's workspace, whose entries lie below its `workdir` and belong to the sandbox's user; `first`
    come before them."""
    number = user.partition(":")[0]
    owner = int(number) if number.isdigit() else 0

    def own(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = owner
        member.uname = member.gname = ""
        return member

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member in first:
            tar.addfile(member)
        if spec.workspace is not None:
            tar.add(spec.workspace, arcname=spec.workdir.lstrip("/"), filter=own)
    return buffer.getvalue()


@dataclass(frozen=True)
class _Inside:
    """The container's own counters; both versions of control groups show them inside."""

    backend: DockerBackend
    name: str
    since_s: float
    is_outside: ClassVar[bool] = False

    async def limit_hits(self, sandbox: WardenSandbox) -> LimitHits:
        """What the limits of memory and processes did so far. Of a container that is gone, with its control group, the
        engine still knows when it ran out of memory."""
        try:
            memory, pids = await self._read(sandbox, _OOM_FILES), await self._read(sandbox, _PIDS_FILES)
        except SandboxDead:
            return LimitHits(oom_kills=int(await self.backend.ran_out_of_memory(self.name, self.since_s)))
        return LimitHits(oom_kills=counter(memory, "oom_kill"), pids_refused=counter(pids, "max"))

    async def peak_memory_bytes(self, sandbox: WardenSandbox) -> int | None:
        """The most memory that the sandbox has held; None where the kernel does not say."""
        peak = await self._read(sandbox, _PEAK_FILES)
        return int(peak) if peak else None

    async def _read(self, sandbox: WardenSandbox, paths: tuple[str, ...]) -> str:
        for path in paths:
            with contextlib.suppress(OSError):
                return (await sandbox.read_file(path)).decode()
        return ""


def _cause(error: Exception) -> str:
    """The operating system's word in an error of the client, which wraps it in those of three libraries."""
    found = re.search(r"(?:\[Errno \d+\] |Error\(\d+, ')([\w ]+)", str(error))
    return found[1].lower() if found else str(error)
