"""The embedded backend: bubblewrap sandboxes, no daemon, some 15 ms to start (benchmarks/sandbox.py).

The root is either an image's root file system, packed or unpacked, under an overlay, or the host's own read-only system
(`host_system.py`). All that a sandbox writes lies on a tmpfs of limited size in a mount namespace of its own, so that
nothing is left when its last process has gone. Below bubblewrap, `warden launch` makes that tmpfs, the overlays and
joins the control group; inside, `warden serve` is PID 1.
"""

import asyncio
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Self, assert_never

from swe_aem.core import Limits, Sandbox, SandboxInfo, SandboxSpec
from swe_aem.core.owner import Lease, start_ticks
from swe_aem.errors import StartError, TaskUnusable, UserError
from swe_aem.sandbox import cgroup, host_system, isolation
from swe_aem.sandbox.capabilities import for_warden, mask
from swe_aem.sandbox.channel import Channel
from swe_aem.sandbox.image_storage import DirectoryWatch
from swe_aem.sandbox.images.ledger import Ledger, LedgerEntry
from swe_aem.sandbox.images.stock import tree_bytes
from swe_aem.sandbox.isolation import LAUNCHERS, Launcher
from swe_aem.sandbox.layers import LayerDraft, layer_dir, layer_name, sweep_drafts
from swe_aem.sandbox.packed import PACKED_DIR, PackedDir, configured_dir
from swe_aem.sandbox.packed_mounts import PackedMounts, PackedTree
from swe_aem.sandbox.process import GroupMeter, Running, answered, end_entry, enter_command, info_of, spawn
from swe_aem.sandbox.roots import LiveSandbox, Root, live_sandboxes, packed_root, rootfs_dir, state_dir, unpacked_root
from swe_aem.sandbox.warden import (
    ImageStorage,
    WardenSandbox,
    check_workdir,
    cpu_millis,
    environment,
    is_blackhole,
    warden_binary,
)

logger = logging.getLogger(__name__)

_ID = "bw-"
_INSIDE = "/.warden"
_CPU_COUNTER = "9"
"""The descriptor under which `warden launch` opens the group's counter of processor time."""


class BubblewrapBackend:
    """Starts embedded sandboxes.

    `rootfs` overrides where the root of every image comes from, and `packed` where packed images are. `launcher` is
    `bubblewrap` or `util-linux`; by default the first that is installed, and an error if none is.
    """

    name = "bubblewrap"

    def __init__(
        self, rootfs: Path | None = None, *, launcher: Launcher | None = None, packed: PackedDir | None = None
    ) -> None:
        self._rootfs = rootfs
        self._ledger = Ledger.of_roots()
        self._given_packed = packed
        self._mounts = PackedMounts()
        self._uses: Ledger | None = None
        wanted: list[Launcher] = [*LAUNCHERS] if launcher is None else [launcher]
        usable: list[Launcher] = [name for name in wanted if all(map(shutil.which, LAUNCHERS[name]))]
        if not usable:
            raise isolation.missing_tools()
        self.launcher: Launcher = usable[0]
        self._warden = warden_binary()

    @cached_property
    def _packed(self) -> PackedDir | None:
        """Where packed images are. Raises `UserError`, but only where an image is asked for: what dead runs left can
        be listed and removed without them."""
        return self._given_packed or configured_dir()

    async def __aenter__(self) -> Self:
        """Nothing has to be taken: each sandbox has what it needs."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Unmount the packed images that nobody else needs."""
        await self._mounts.release()

    def _root(self, image: str) -> Root | None:
        """What stands for an image; None for the host's own system. A packed image is preferred to an unpacked one."""
        if self._rootfs is None and image == host_system.HOST_IMAGE:
            return None
        root = None if self._packed is None or self._rootfs is not None else packed_root(image, self._packed)
        path = self._rootfs or rootfs_dir(image)
        root = root or unpacked_root(image, path)
        if root is None:
            nor = "" if self._packed is None else f", and is not packed in {self._packed.path}"
            raise TaskUnusable(
                f"image {image!r} has no unpacked root file system at {path}{nor}: once the docker engine has it, run "
                f"`swe-aem images unpack {image}`; or, without any engine, `swe-aem images pack {image} --to DIR` and "
                f"set {PACKED_DIR}=DIR; or use the sandbox docker"
            )
        return root

    async def _reserved_root(self, image: str) -> tuple[Root | None, list[ImageStorage]]:
        """`_root`, mounted, and kept from `swe-aem images gc` while this process lives, with what watches over it."""
        if self._rootfs is not None or image == host_system.HOST_IMAGE:
            root = self._root(image)
            return root, [] if root is None else [DirectoryWatch(root.path)]
        name = rootfs_dir(image).name
        await self._ledger.reserve(name)
        root = self._root(image)
        assert root is not None
        if root.packed is not None:
            self._ledger.release(name)
            tree = await self._packed_tree(root.path)
            return replace(root, path=tree.path), [tree.watch]
        self._ledger.use(name)
        return root, [DirectoryWatch(root.path)]

    async def answers(self) -> bool:
        """True: no engine is needed."""
        return True

    async def image_digest(self, image: str) -> str:
        """A digest of the host toolchain's versions, or the digest of the image that a root was made of."""
        root = self._root(image)
        if root is None:
            return f"host:{host_system.digest()}"
        return root.image_id or "unpacked:unknown"

    async def fetch_image(self, image: str) -> None:
        """Mount the image, if it is packed, from a copy on this host's own disk where such copies are made."""
        await self._reserved_root(image)

    async def has_layer(self, spec: SandboxSpec) -> bool | None:
        """Is there such a layer? None on the host's own system, and on a root of which nobody knows the image."""
        root = self._root(spec.image)
        if root is None or self._rootfs is not None or root.image_id is None:
            return None
        assert spec.layer is not None
        name = layer_name(root.name, spec.layer)
        await self._ledger.reserve(name)
        if not layer_dir(root.name, spec.layer).exists():
            return self._packed is not None and self._packed.has_start(spec.layer)
        self._ledger.use(name)
        return True

    @asynccontextmanager
    async def make_layer(self, spec: SandboxSpec) -> AsyncIterator[WardenSandbox]:
        """Start a sandbox that writes to the cache's disk; raises what `SandboxBackend.make_layer` raises."""
        root, key = self._root(spec.image), spec.layer
        assert root is not None
        assert key is not None
        draft = LayerDraft(root.name, key)
        try:
            await asyncio.to_thread(draft.make)
            sandbox = await self._start(spec.model_copy(update={"layer": None}), keep=draft.directory)
            try:
                yield sandbox
            finally:
                await sandbox.close()
            await asyncio.to_thread(draft.keep, sandbox.own_dirs)
            size_bytes = await asyncio.to_thread(tree_bytes, layer_dir(root.name, key))
        finally:
            await asyncio.to_thread(draft.discard)
        name = layer_name(root.name, key)
        self._ledger.record(LedgerEntry(name=name, origin="layer", image_id=root.image_id, size_bytes=size_bytes))

    @asynccontextmanager
    async def open(self, spec: SandboxSpec) -> AsyncIterator[WardenSandbox]:
        """Start a sandbox for the length of an `async with`; raises what `SandboxBackend.open` raises."""
        sandbox = await self._start(spec)
        try:
            yield sandbox
        finally:
            await sandbox.close()

    async def _start(self, spec: SandboxSpec, *, keep: Path | None = None) -> WardenSandbox:
        """Start a sandbox; what it writes lies below `keep` on a disk, instead of in memory, where that is given.

        Any `OSError` is the host's: it becomes `StartError`.
        """
        try:
            return await self._launch(spec, keep)
        except OSError as error:
            raise StartError(f"{self.launcher} did not start: {error}") from error

    async def _launch(self, spec: SandboxSpec, keep: Path | None) -> WardenSandbox:
        check_workdir(spec.workdir)
        if spec.user not in (None, "root", "0"):
            raise UserError(
                f"bubblewrap runs commands as the sandbox's own root, not as {spec.user!r}; use the sandbox docker"
            )
        root, storage = await self._reserved_root(spec.image)
        layer, on_layer = await self._layer(root, spec.layer)
        id = f"{_ID}{uuid.uuid4().hex[:12]}"
        running = Running(home=state_dir() / id)
        entry = LiveSandbox(
            id=id,
            image=spec.image,
            layer=spec.layer,
            root=None if root is None else root.name,
            pid=None,
            start_ticks=None,
            lease=Lease.start(spec.ttl_s),
            labels=spec.labels,
        )
        with tempfile.TemporaryFile() as complaints:
            try:
                (running.home / "scratch").mkdir(parents=True)
                entry.save()
                running.group = cgroup.create(id, _with_room_for_disk(spec.limits))
                connection, running.process = spawn(self._command(spec, root, layer, keep, running), complaints)
                pid = running.process.pid
                entry.model_copy(update={"pid": pid, "start_ticks": start_ticks(pid)}).save()
                channel = await Channel.connect(connection)
                sandbox = _sandbox(id, spec, root, channel, running, [*storage, *on_layer])
            except BaseException:
                await asyncio.shield(running.end())
                raise
            await answered(sandbox, complaints, self.launcher)
        return sandbox

    async def _layer(self, root: Root | None, key: str | None) -> tuple[Path | None, list[ImageStorage]]:
        """The layer that a sandbox starts on, one that was kept here, or a packed start, which gets mounted; and what
        watches over it."""
        if root is None or key is None:
            return None, []
        kept = layer_dir(root.name, key) / "upper"
        if self._packed is None or kept.exists() or not self._packed.has_start(key):
            return kept, [DirectoryWatch(kept)]
        tree = await self._packed_tree(self._packed.start(key))
        return tree.path, [tree.watch]

    async def _packed_tree(self, file: Path) -> PackedTree:
        """A packed file, mounted, and kept from `swe-aem images gc` of every host while this process lives."""
        assert self._packed is not None
        uses = self._uses = self._uses or Ledger.beside_packed(self._packed.path)
        await uses.reserve(file.name)
        uses.use(file.name)
        return await self._mounts.mounted(file)

    def _command(
        self, spec: SandboxSpec, root: Root | None, layer: Path | None, keep: Path | None, running: Running
    ) -> list[str]:
        scratch = running.home / "scratch"
        disk_bytes = str(spec.limits.disk_bytes or 0)
        launch = [str(self._warden), "launch", *(["-u"] if os.geteuid() != 0 else [])]
        launch += [argument for procs in (running.group.procs if running.group else []) for argument in ("-c", procs)]
        counter = running.group.cpu_counter if running.group else None
        launch += ["-a", str(counter)] if counter else []
        for name, value in isolation.ipc_settings(spec.limits).items():
            launch += ["-s", name.replace(".", "/"), value]
        launch += ["-t", str(scratch), disk_bytes, "-m", "shm"]
        if root is None:
            launch += ["-m", "tmp", "-m", "var-tmp", "-m", "home", "-m", "empty"]
            launch += ["-o", "tools", str(host_system.toolchain())]
            plan = host_system.mounts(f"{scratch}/tools", f"{scratch}/empty")
            for name, to in (("tmp", "/tmp"), ("var-tmp", "/var/tmp"), ("home", host_system.HOME)):
                plan += ["--bind", f"{scratch}/{name}", to]
        else:
            launch += [] if layer is None else ["-l", str(layer)]
            launch += [] if keep is None else ["-k", str(keep)]
            launch += ["-o", "root", str(root.path), *(["-h", "root", isolation.HOSTNAME] if keep is None else [])]
            plan = ["--bind", f"{scratch}/root", "/"]
        if spec.workspace is not None:
            launch += ["-o", "workspace", str(spec.workspace.resolve())]
            plan += ["--bind", f"{scratch}/workspace", spec.workdir]
        plan += ["--proc", "/proc", "--dev", "/dev", "--bind", f"{scratch}/shm", "/dev/shm", "--remount-ro", "/dev"]
        plan += ["--ro-bind", str(self._warden), _INSIDE]
        for inside, directory in spec.shared.items():
            plan += ["--ro-bind", str(directory), inside]
        plan += ["--remount-ro", "/"] if root is None else []
        blackhole = is_blackhole(spec.network)
        serve = [_INSIDE, "serve", str(int(spec.ttl_s)), disk_bytes, str(mask(spec.capabilities))]
        serve += [str(int(blackhole)), spec.workdir]
        serve += [cpu_millis(spec.limits), _CPU_COUNTER if counter else "0"]
        match self.launcher:
            case "util-linux":
                isolated = isolation.util_linux("/usr/bin/unshare", f"{scratch}/new-root", plan, serve)
            case "bubblewrap":
                capabilities = for_warden(spec.capabilities, network=blackhole)
                isolated = isolation.bubblewrap(shutil.which("bwrap") or "bwrap", plan, capabilities, serve)
            case unknown:
                assert_never(unknown)
        return [*map(str, launch), "--", *isolated]

    def shell_command(self, sandbox: Sandbox) -> list[str]:
        """A command line that enters the sandbox by nsenter, with no more privileges than its commands have."""
        return enter_command(sandbox, self._warden)

    async def ls(self) -> list[SandboxInfo]:
        """Every sandbox of this backend on this host, of all runs."""
        return [info_of(entry, self.name) for entry in live_sandboxes() if entry.id.startswith(_ID)]

    async def prune(self, *, everything: bool = False) -> list[str]:
        """Remove sandboxes whose owner is gone or whose deadline has passed, or all, and what else dead runs left.

        Returns ids of sandboxes, and names of packed images that were unmounted.

        Abandoned ones of every `ProcessBackend` of this host go too: a file's is on no list of backends.
        """
        gone = []
        groups = cgroup.leftovers()
        for entry in live_sandboxes():
            if entry.lease.orphaned or (everything and entry.id.startswith(_ID)):
                await asyncio.to_thread(end_entry, entry, groups.get(entry.id))
                gone.append(entry.id)
        for id, group in cgroup.abandoned({entry.id for entry in live_sandboxes()}).items():
            await asyncio.to_thread(group.remove)
            gone.append(id)
        await asyncio.to_thread(sweep_drafts)
        return [*gone, *await self._mounts.sweep()]


def _sandbox(
    id: str, spec: SandboxSpec, root: Root | None, channel: Channel, running: Running, storage: Sequence[ImageStorage]
) -> WardenSandbox:
    own = host_system.environment() if root is None else root.environment
    return WardenSandbox(id, spec, channel, environment(own, spec.env), GroupMeter(running), running.end, storage)


def _with_room_for_disk(limits: Limits) -> Limits:
    """The limits with the disk limit added to memory: what a sandbox writes lies in memory and counts in its group."""
    if limits.memory_bytes is None or limits.disk_bytes is None:
        return limits
    return limits.model_copy(update={"memory_bytes": limits.memory_bytes + limits.disk_bytes})
