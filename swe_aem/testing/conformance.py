"""`SandboxConformance`: what every kind of sandbox must do, as tests that a package of anybody's can inherit.

    from swe_aem.testing import SandboxConformance

    class TestMine(SandboxConformance):
        sandbox = {"type": "my_sandbox:Mine"}
        image = "my-image:1"

Nothing is needed but pytest. Before anything else a sandbox is asked what it permits, by probes that cannot act
(`swe_aem.testing.containment`). If it permits what could harm this host, every test fails at once, and none of them
runs a command.
"""

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from swe_aem.core import BASE_ENV, Limits, Sandbox, SandboxBackend, SandboxSpec, TreeChange
from swe_aem.errors import SandboxDead, UserError
from swe_aem.sandbox import open_backend
from swe_aem.testing.containment import breaches

FILE, PROGRAM, LINK = 0o100644, 0o100755, 0o120000
_OTHERS = "set -- /proc/[0-9]*; echo $(($# - 1))"
"""Prints how many processes there are beside the shell itself."""
_OWNER = """
import asyncio, json, sys
from swe_aem.core import SandboxSpec
from swe_aem.sandbox import open_backend

async def own():
    setting, spec = json.loads(sys.argv[1]), SandboxSpec.model_validate_json(sys.argv[2])
    async with open_backend(setting) as backend, backend.open(spec) as sandbox:
        print(sandbox.id, flush=True)
        await asyncio.sleep(600)

asyncio.run(own())
"""

InSandbox = Callable[[Any, Sandbox], Awaitable[None]]
OnBackend = Callable[[Any, SandboxBackend, SandboxSpec], Awaitable[None]]


def in_sandbox(body: InSandbox) -> Callable[..., None]:
    """A test of one live sandbox."""

    async def opened(self: Any, backend: SandboxBackend, spec: SandboxSpec) -> None:
        async with backend.open(spec) as sandbox:
            await body(self, sandbox)

    opened.__name__, opened.__doc__ = getattr(body, "__name__", "test"), body.__doc__
    return on_backend(opened)


def on_backend(body: OnBackend) -> Callable[..., None]:
    """A test of a backend and a description of what to start. It needs no plugin of pytest for coroutines."""

    def test(self: "SandboxConformance", tmp_path: Path) -> None:
        async def run() -> None:
            async with asyncio.timeout(self.limit_s), open_backend(self.sandbox) as backend:
                await body(self, backend, self.spec(tmp_path))

        asyncio.run(run())

    test.__name__, test.__doc__ = getattr(body, "__name__", "test"), body.__doc__
    return test


class SandboxConformance:
    """What every kind of sandbox must do. Subclass it in a file of tests, and say which one."""

    sandbox: ClassVar[str | Mapping[str, Any]]
    """The setting `sandbox`: a name, or a mapping of `type` and settings. Other processes must find it, too."""
    image: ClassVar[str] = "swe-aem/micro:1"
    """An image with bash, coreutils and python3."""
    limits: ClassVar[Limits] = Limits(memory_bytes=512 << 20, cpus=1.0, pids=64, disk_bytes=256 << 20)
    """Limits of the sandboxes that are examined. Set those to None that the backend refuses."""
    limit_s: ClassVar[float] = 300.0
    """Seconds that one test may take."""
    accepted: ClassVar[tuple[str, ...]] = ()
    """Sentences of the test of containment that are no harm, e.g. because a virtual machine has a kernel of its own.
    What is said of the host itself cannot be accepted."""
    _found: ClassVar[dict[type, tuple[str, ...]]] = {}

    def spec(self, directory: Path, **changes: Any) -> SandboxSpec:
        """A small sandbox whose work tree is a copy of a new workspace in `directory`."""
        workspace = directory / "workspace"
        (workspace / "package").mkdir(parents=True)
        (workspace / "package" / "module.py").write_text("answer = 41\n")
        (workspace / "run.sh").write_text("#!/bin/sh\necho ran\n")
        (workspace / "run.sh").chmod(0o755)
        settings = {"image": self.image, "workspace": workspace, "limits": self.limits, "ttl_s": 900, **changes}
        return SandboxSpec(labels={"run": uuid.uuid4().hex}, **settings)

    def breaches(self, directory: Path) -> tuple[str, ...]:
        """What a sandbox permits that it must not; found out once for each class."""
        if type(self) not in self._found:

            async def ask() -> tuple[str, ...]:
                spec = self.spec(directory / "probed")
                opened = open_backend(self.sandbox)
                async with asyncio.timeout(self.limit_s), opened as backend, backend.open(spec) as sandbox:
                    return await breaches(sandbox, processes=spec.limits.pids)

            of_the_host = ("the host's", "namespace is the host's")
            self._found[type(self)] = tuple(
                one
                for one in asyncio.run(ask())
                if one not in self.accepted or any(words in one for words in of_the_host)
            )
        return self._found[type(self)]

    @pytest.fixture(autouse=True)
    def _contained(self, request: pytest.FixtureRequest, tmp_path: Path) -> None:
        """No test runs a command in a sandbox that does not shield the host."""
        found = self.breaches(tmp_path)
        if found:
            pytest.fail(f"the sandbox does not shield this host, and is not examined: {'; '.join(found)}", False)

    # -- the host -----------------------------------------------------------------------------------------------------

    def test_a_sandbox_shields_the_host(self, tmp_path: Path) -> None:
        """Nothing of the host's can be written or reached, no privilege is held, and there is no way out."""
        assert self.breaches(tmp_path) == ()

    @on_backend
    async def test_the_host_s_workspace_stays_as_it_is(self, backend: SandboxBackend, spec: SandboxSpec) -> None:
        """The work tree is a copy of it, with its modes."""
        command = "cat package/module.py && ./run.sh && rm -rf package && echo more >> run.sh && ls"
        async with backend.open(spec) as sandbox:
            assert await output(sandbox, command) == "answer = 41\nran\nrun.sh\n"
        assert spec.workspace is not None
        assert (spec.workspace / "package" / "module.py").read_text() == "answer = 41\n"
        assert (spec.workspace / "run.sh").read_text() == "#!/bin/sh\necho ran\n"

    # -- commands -----------------------------------------------------------------------------------------------------

    @in_sandbox
    async def test_a_command_is_a_fresh_shell_in_the_work_tree(self, sandbox: Sandbox) -> None:
        """Neither directory nor variables of the last one are left."""
        assert await output(sandbox, "pwd; cd /tmp; export LEFT=over") == "/testbed\n"
        assert await output(sandbox, "pwd; echo ${LEFT:-nothing}") == "/testbed\nnothing\n"

    @in_sandbox
    async def test_failures_are_results(self, sandbox: Sandbox) -> None:
        """Exit codes are those of the command, 128 and its number for a signal."""
        assert (await sandbox.run("exit 7", timeout_s=60)).exit_code == 7
        assert (await sandbox.run("kill -TERM $$", timeout_s=60)).exit_code == 128 + 15
        assert (await sandbox.run("no-such-program", timeout_s=60)).exit_code == 127
        assert (await sandbox.run("true", timeout_s=60, cwd="/nowhere")).exit_code != 0
        assert await output(sandbox, "echo fine") == "fine\n"

    @in_sandbox
    async def test_output_is_both_streams_in_order_and_stdin_is_closed(self, sandbox: Sandbox) -> None:
        """What a terminal would show, with nobody at the keys."""
        assert await output(sandbox, "echo a; echo b >&2; echo c; cat; read line || echo closed") == "a\nb\nc\nclosed\n"

    @in_sandbox
    async def test_a_command_has_the_variables_of_every_sandbox_and_its_own(self, sandbox: Sandbox) -> None:
        """Those of `BASE_ENV`, and over them those of the call."""
        lines = (await output(sandbox, "env")).splitlines()
        seen = {name: value for name, _, value in (line.partition("=") for line in lines)}
        assert {name: seen.get(name) for name in BASE_ENV} == BASE_ENV
        told = await sandbox.run('echo "$WORD $PAGER"; pwd', timeout_s=60, cwd="/tmp", env={"WORD": "two  words\n-"})
        assert told.output == "two  words\n- cat\n/tmp\n"

    @in_sandbox
    async def test_long_output_is_cut_and_kept_whole(self, sandbox: Sandbox) -> None:
        """Head and tail come back; the whole is read by the sandbox, whatever became of its file's name."""
        whole = "".join(f"{n}\n" for n in range(1, 100_001))
        result = await sandbox.run("seq 1 100000", timeout_s=60, max_output_bytes=1000)
        assert (len(result.head), len(result.tail), result.output_bytes) == (500, 500, len(whole))
        assert whole.startswith(result.head.decode())
        assert whole.endswith(result.tail.decode())
        assert result.truncated
        assert await sandbox.read_file(result.output_path) == whole.encode()
        assert await sandbox.read_output() == whole.encode()
        assert await sandbox.read_output(offset=4, max_bytes=6) == b"3\n4\n5\n"
        assert await sandbox.read_output(offset=1 << 30) == b""
        exact = await sandbox.run("printf %01001d 0", timeout_s=60, max_output_bytes=1001)
        assert (len(exact.head), exact.tail, exact.truncated) == (1001, b"", False)
        await sandbox.run(f"echo first; rm -rf {os.path.dirname(exact.output_path)}; echo second", timeout_s=60)
        assert await sandbox.read_output() == b"first\nsecond\n"

    @in_sandbox
    async def test_output_is_bytes(self, sandbox: Sandbox) -> None:
        """Also where they are no text."""
        assert (await sandbox.run(r"printf 'a\377\000b'", timeout_s=60)).head == b"a\xff\x00b"

    @in_sandbox
    async def test_a_command_line_may_be_longer_than_an_argument(self, sandbox: Sandbox) -> None:
        """Linux bounds one argument at 128 KiB; agents write files with longer commands."""
        result = await sandbox.run(f"cat <<'END' | wc -c\n{'x' * 300_000}\nEND\nexit 3", timeout_s=60)
        assert (result.output.strip(), result.exit_code) == ("300001", 3)

    # -- the end of commands ------------------------------------------------------------------------------------------

    @in_sandbox
    async def test_a_timeout_leaves_no_process_of_its_command(self, sandbox: Sandbox) -> None:
        """Children in the background, in sessions of their own and without a living parent included; what an earlier
        command left running on purpose is spared."""
        before = await others(sandbox)
        for command in (
            "echo before; sleep 300 & setsid sleep 300 & sleep 300",
            "echo before; (setsid bash -c 'sleep 300 & sleep 300' &); trap '' TERM INT HUP; while :; do :; done",
        ):
            result = await sandbox.run(command, timeout_s=1)
            assert (result.output, result.timed_out, result.exit_code) == ("before\n", True, 124)
            assert result.killed >= 1
            assert await others(sandbox) == before
        await sandbox.run("setsid sleep 300 >/dev/null 2>&1 &", timeout_s=60)
        assert (await sandbox.run("sleep 300", timeout_s=1)).timed_out
        assert await others(sandbox) == before + 1

    @in_sandbox
    async def test_a_cancelled_call_ends_its_command(self, sandbox: Sandbox) -> None:
        """The sandbox is as good as before."""
        before = await others(sandbox)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await sandbox.run("setsid sleep 300 & sleep 300", timeout_s=100)
        assert await others(sandbox) == before
        assert await output(sandbox, "echo fine") == "fine\n"

    @in_sandbox
    async def test_settling_ends_every_process(self, sandbox: Sandbox) -> None:
        """Whatever commands have left, `settle` counts and ends."""
        before = await others(sandbox)
        assert await sandbox.settle() == 0
        await output(sandbox, "for i in 1 2 3 4 5; do setsid sleep 300 >/dev/null 2>&1 & done; (setsid sleep 300 &)")
        assert await sandbox.settle() == 6
        assert await sandbox.settle() == 0
        assert await others(sandbox) == before

    @in_sandbox
    async def test_a_script_can_settle_too_and_continue(self, sandbox: Sandbox) -> None:
        """`settle_command` ends all but its own shell: evaluations run it before they write what counts."""
        start = "(setsid sleep 300 &); (setsid bash -c 'trap \"\" TERM; sleep 300; sleep 300' &); sleep 0.2"
        before = await others(sandbox)
        gone = f"for i in $(seq 600); do [ $({_OTHERS}) -le {before + 1} ] && break; sleep 0.1; done; {_OTHERS}"
        command = f"{start}; {{ {sandbox.settle_command}; }} 2>/dev/null; echo here; {gone}"
        assert await output(sandbox, command) == f"here\n{before}\n"
        assert await sandbox.settle() == 0
        assert await sandbox.alive()

    # -- files --------------------------------------------------------------------------------------------------------

    @in_sandbox
    async def test_files_are_read_and_written(self, sandbox: Sandbox) -> None:
        """Paths are relative to the work tree; errors are those of the operating system."""
        blob = bytes(range(256)) * 5000
        await sandbox.write_file("new/deep/file.bin", blob)
        assert await sandbox.read_file("/testbed/new/deep/file.bin") == blob
        await sandbox.write_file("new/deep/file.bin", b"")
        assert await sandbox.read_file("new/deep/file.bin") == b""
        with pytest.raises(FileNotFoundError, match="no-such"):
            await sandbox.read_file("no-such")
        for call in (sandbox.read_file("package"), sandbox.write_file("package", b"")):
            with pytest.raises(IsADirectoryError):
                await call
        with pytest.raises(NotADirectoryError):
            await sandbox.write_file("run.sh/below", b"")
        with pytest.raises(OSError, match=r"."):
            await sandbox.read_file("package/module.py", max_bytes=3)

    @in_sandbox
    async def test_writing_keeps_the_mode_and_follows_links(self, sandbox: Sandbox) -> None:
        """An existing file is replaced in place."""
        await output(sandbox, "ln -s run.sh link; ln -s ../testbed/link link2")
        await sandbox.write_file("link2", b"#!/bin/sh\necho changed\n")
        told = await output(sandbox, "readlink link link2; ./run.sh; ls")
        assert told == "run.sh\n../testbed/link\nchanged\nlink\nlink2\npackage\nrun.sh\n"

    @in_sandbox
    async def test_what_could_block_a_reader_is_refused(self, sandbox: Sandbox) -> None:
        """Pipes and devices are no files."""
        await output(sandbox, "mkfifo pipe")
        for path in ("pipe", "/dev/zero"):
            with pytest.raises(OSError, match=r"."):
                await asyncio.wait_for(sandbox.read_file(path), 60)
        assert await sandbox.alive()

    # -- the work tree ------------------------------------------------------------------------------------------------

    @in_sandbox
    async def test_a_tree_is_listed_without_entering_links_and_repositories(self, sandbox: Sandbox) -> None:
        """Names, kinds, sizes, times and targets; what changes later has a later change time, whatever it claims."""
        await output(
            sandbox,
            "ln -s package link; ln -s /etc away; mkfifo pipe; mkdir -p .git/objects deep/.git/x "
            "$'od\\nd\\377'; echo 'gitdir: x' > package/.git; chmod 4711 run.sh",
        )
        tree = await sandbox.list_tree("/testbed")
        names = {"link", "away", "pipe", ".git", "deep", "deep/.git", "od\nd\udcff", "package", "package/.git"}
        assert set(tree.entries) == names | {"package/module.py", "run.sh"}
        assert tree.left_out == 0
        assert (tree.entries["away"].mode & 0o170000, tree.entries["away"].target) == (LINK, b"/etc")
        assert (oct(tree.entries["run.sh"].mode), tree.entries["run.sh"].size) == ("0o104711", 19)
        await output(sandbox, "touch -r run.sh kept; echo other > run.sh; touch -r kept run.sh")
        after = (await sandbox.list_tree(".")).entries
        assert after["run.sh"].mtime_ns == tree.entries["run.sh"].mtime_ns
        assert after["run.sh"].ctime_ns > max(entry.ctime_ns for entry in tree.entries.values())
        few = await sandbox.list_tree(".", max_entries=2)
        assert (len(few.entries), few.left_out > 0) == (2, True)
        with pytest.raises(FileNotFoundError):
            await sandbox.list_tree("/nowhere")
        with pytest.raises(NotADirectoryError):
            await sandbox.list_tree("package/module.py")

    @in_sandbox
    async def test_only_regular_files_of_a_tree_are_read(self, sandbox: Sandbox) -> None:
        """Links are not followed, nothing blocks, and both bounds hold."""
        await output(sandbox, "ln -s run.sh link; ln -s package dir; mkfifo pipe; : > empty; truncate -s 200M sparse")
        wanted = ["run.sh", "link", "dir/module.py", "package/module.py", "pipe", "empty", "package", "sparse", "no/x"]
        found = dict(zip(wanted, await sandbox.read_tree("/testbed", wanted), strict=True))
        regular = {"run.sh": b"#!/bin/sh\necho ran\n", "package/module.py": b"answer = 41\n", "empty": b""}
        assert found == {**dict.fromkeys(wanted), **regular}
        assert await sandbox.read_tree(".", ["run.sh", "package/module.py"], max_bytes=15) == [None, b"answer = 41\n"]
        both = await sandbox.read_tree(".", ["package/module.py", "run.sh"], max_total_bytes=20)
        assert both == [b"answer = 41\n", None]
        for path in ("../etc/passwd", "/etc/passwd", "package/../run.sh"):
            with pytest.raises(OSError, match=r"."):
                await sandbox.read_tree("/testbed", [path])

    @in_sandbox
    async def test_a_tree_is_changed_exactly(self, sandbox: Sandbox) -> None:
        """Removals come first and take empty parents with them; what stands in the place of a file goes; modes are
        exact."""
        await output(sandbox, "mkdir -p full/of/things a/b; touch full/of/things/x a/b/c; ln -s package link")
        await sandbox.change_tree(
            "/testbed",
            [
                TreeChange("full", FILE, b"a file now"),
                TreeChange("new/deep/file", PROGRAM, b"#!/bin/sh\n"),
                TreeChange("link", FILE, b"no link"),
                TreeChange("package", LINK, b"nowhere/at all"),
                *(TreeChange(path, 0, None) for path in ("a/b/c", "package/module.py", "never/there", "run.sh/never")),
            ],
        )
        entries = (await sandbox.list_tree("/testbed")).entries
        kinds = {path: (oct(entry.mode), entry.target) for path, entry in entries.items() if path != "run.sh"}
        assert kinds == {
            "full": ("0o100644", b""),
            "new": ("0o40755", b""),
            "new/deep": ("0o40755", b""),
            "new/deep/file": ("0o100755", b""),
            "link": ("0o100644", b""),
            "package": ("0o120777", b"nowhere/at all"),
        }
        assert await sandbox.read_tree(".", ["full", "link"]) == [b"a file now", b"no link"]

    @in_sandbox
    async def test_no_change_goes_through_a_link(self, sandbox: Sandbox) -> None:
        """Neither out of the tree nor within it."""
        await output(sandbox, "mkdir /tmp/outside; ln -s /tmp/outside out; ln -s package in")
        for path in ("out/x", "in/x", "run.sh/x"):
            with pytest.raises(NotADirectoryError):
                await sandbox.change_tree("/testbed", [TreeChange(path, FILE, b"")])
        await sandbox.change_tree("/testbed", [TreeChange("in/module.py", 0, None)])
        assert await output(sandbox, "ls /tmp/outside package") == "/tmp/outside:\n\npackage:\nmodule.py\n"
        for path in ("../x", "/tmp/x", "a/../../x", ""):
            with pytest.raises(OSError, match=r"."):
                await sandbox.change_tree("/testbed", [TreeChange(path, FILE, b"")])

    @on_backend
    async def test_nothing_of_the_sandbox_s_own_is_in_the_work_tree(
        self, backend: SandboxBackend, spec: SandboxSpec
    ) -> None:
        """Private files and output of commands lie elsewhere, also where the work tree is /tmp."""
        for workdir in ("/testbed", "/tmp"):
            async with backend.open(spec.model_copy(update={"workdir": workdir})) as sandbox:
                await sandbox.write_file(f"{sandbox.private_dir}/x", b"private")
                result = await sandbox.run(f": {'x' * 200_000}; yes | head -c 100000", timeout_s=60)
                assert len(await sandbox.read_file(result.output_path)) == 100_000
                assert not f"{sandbox.private_dir}/".startswith(f"{workdir}/")
                assert set((await sandbox.list_tree(workdir)).entries) == {"package", "package/module.py", "run.sh"}

    # -- limits -------------------------------------------------------------------------------------------------------

    @on_backend
    async def test_a_limit_is_enforced_or_refused(self, backend: SandboxBackend, spec: SandboxSpec) -> None:
        """Never ignored: a command that passes one ends, the sandbox answers, and the counters say what happened."""
        mib = 1 << 20
        none = Limits(**dict.fromkeys(Limits.model_fields))
        fill = "for i in $(seq 30); do head -c 10M /dev/zero > fill.$i || break; done; echo end >> said; sync"
        forks = "python3 -c 'import os, time\nfor _ in range(60): os.fork() or time.sleep(300)'"
        refused: set[str] = set()
        for name, value, command in (
            ("memory_bytes", 128 * mib, "python3 -c \"x = b'x' * (400 << 20)\""),
            ("pids", 24, forks),
            ("disk_bytes", 64 * mib, fill),
        ):
            limited = spec.model_copy(update={"limits": none.model_copy(update={name: value})})
            try:
                async with backend.open(limited) as sandbox:
                    result = await sandbox.run(command, timeout_s=60)
                    hits = await sandbox.limit_hits()
                    match name:
                        case "memory_bytes":
                            assert (result.exit_code, result.oom, hits.oom_kills > 0) == (137, True, True)
                        case "pids":
                            assert hits.pids_refused > 0, result.output
                            assert await sandbox.settle() > 10
                        case _:
                            assert hits.disk_kills > 0 or "No space left" in result.output
                            await output(sandbox, "rm -f fill.*")
                    assert await output(sandbox, "echo fine") == "fine\n"
            except UserError:
                refused.add(name)
        assert refused <= {name for name, value in self.limits.model_dump().items() if value is None}

    @on_backend
    async def test_no_limits_are_allowed(self, backend: SandboxBackend, spec: SandboxSpec) -> None:
        """Every one of them may be None."""
        free = spec.model_copy(update={"limits": Limits(**dict.fromkeys(Limits.model_fields))})
        async with backend.open(free) as sandbox:
            assert await output(sandbox, "echo free") == "free\n"

    @on_backend
    async def test_capabilities_users_and_networks_are_given_or_refused(
        self, backend: SandboxBackend, spec: SandboxSpec
    ) -> None:
        """Each is a setting of tasks; a backend that has it not says so."""
        datagram = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 9))"
        for changes, command, told in (
            ({"capabilities": ("CHOWN",)}, "chown 1234 run.sh && stat -c %u run.sh", "1234\n"),
            ({"user": "1234"}, "id -u", "1234\n"),
            ({"network": "blackhole"}, f'python3 -c "{datagram}" && echo sent', "sent\n"),
        ):
            try:
                async with backend.open(spec.model_copy(update=changes)) as sandbox:
                    assert await output(sandbox, command) == told
            except UserError:
                continue
        with pytest.raises(UserError, match="SYS_ADMIN"):
            async with backend.open(spec.model_copy(update={"capabilities": ("SYS_ADMIN",)})):
                pass

    @in_sandbox
    async def test_there_is_no_network_but_loopback(self, sandbox: Sandbox) -> None:
        """Tests may talk to servers of their own."""
        server = (
            "python3 -c \"import socket; s = socket.create_server(('127.0.0.1', 0)); "
            "c = socket.create_connection(s.getsockname()); print('connected')\""
        )
        assert await output(sandbox, server) == "connected\n"

    # -- lifetimes ----------------------------------------------------------------------------------------------------

    @on_backend
    async def test_sandboxes_are_strangers(self, backend: SandboxBackend, spec: SandboxSpec) -> None:
        """Several run at once, and none sees files or processes of another."""
        async with backend.open(spec) as one, backend.open(spec) as other:
            assert one.id != other.id
            await output(one, "touch /tmp/mine mine; setsid sleep 300 >/dev/null 2>&1 &")
            assert await output(other, "ls /tmp/mine mine 2>/dev/null; ls") == "package\nrun.sh\n"
            assert await other.settle() == 0
            assert await one.settle() == 1

    @on_backend
    async def test_the_end_is_idempotent_and_final(self, backend: SandboxBackend, spec: SandboxSpec) -> None:
        """A closed sandbox is on no list, answers nothing, and still says what its limits did."""
        async with backend.open(spec) as sandbox:
            (info,) = [info for info in await backend.ls() if info.id == sandbox.id]
            assert (info.labels, info.owner_alive, info.expired) == (spec.labels, True, False)
            assert sandbox.id not in await backend.prune()
            assert await sandbox.alive()
            await asyncio.gather(sandbox.close(), sandbox.close())
            assert not await sandbox.alive()
            calls: tuple[Callable[[], Awaitable[Any]], ...] = (
                lambda: sandbox.run("true", timeout_s=60),
                lambda: sandbox.read_file("run.sh"),
                lambda: sandbox.list_tree("."),
                sandbox.settle,
            )
            for call in calls:
                with pytest.raises(SandboxDead):
                    await call()
            await sandbox.limit_hits()
        assert sandbox.id not in {info.id for info in await backend.ls()}

    @on_backend
    async def test_a_sandbox_ends_itself_when_its_time_is_over(
        self, backend: SandboxBackend, spec: SandboxSpec
    ) -> None:
        """Whatever became of its owner."""
        async with backend.open(spec.model_copy(update={"ttl_s": 2.0})) as sandbox:
            with pytest.raises(SandboxDead):
                await sandbox.run("sleep 120", timeout_s=120)
            assert not await sandbox.alive()

    @on_backend
    async def test_a_start_that_is_cancelled_leaves_nothing(self, backend: SandboxBackend, spec: SandboxSpec) -> None:
        """At any moment."""
        for delay_s in (0.0, 0.01, 0.05, 0.2):

            async def start() -> None:
                async with backend.open(spec):
                    await asyncio.sleep(60)

            starting = asyncio.create_task(start())
            await asyncio.sleep(delay_s)
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await starting
            assert [info.id for info in await backend.ls() if info.labels == spec.labels] == [], delay_s

    @on_backend
    async def test_nothing_outlives_an_owner_that_was_killed(self, backend: SandboxBackend, spec: SandboxSpec) -> None:
        """A sandbox of a dead process ends by itself, or is removed by `prune`."""
        plain = self.sandbox if isinstance(self.sandbox, str) else dict(self.sandbox)
        arguments = [sys.executable, "-c", _OWNER, json.dumps(plain), spec.model_dump_json()]
        path = os.pathsep.join(filter(None, sys.path))
        owner = await asyncio.create_subprocess_exec(
            *arguments, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
        )
        assert owner.stdout is not None
        id = (await owner.stdout.readline()).decode().strip()
        assert id in {info.id for info in await backend.ls()}, "another process's sandboxes are on the list"
        os.kill(owner.pid, signal.SIGKILL)
        await owner.wait()
        end = time.monotonic() + 60
        while id in {info.id for info in await backend.ls()}:
            assert time.monotonic() < end, f"{id} outlives its owner"
            await backend.prune()
            await asyncio.sleep(0.1)

    def test_leaving_a_backend_gives_everything_back(self, tmp_path: Path) -> None:
        """Threads end and files are closed."""

        async def use() -> None:
            opened = open_backend(self.sandbox)
            async with asyncio.timeout(self.limit_s), opened as backend, backend.open(spec) as sandbox:
                await output(sandbox, "true")

        spec = self.spec(tmp_path)
        asyncio.run(use())  # what a process takes once
        gc.collect()
        threads, files = set(threading.enumerate()), len(os.listdir("/proc/self/fd"))
        asyncio.run(use())
        gc.collect()
        assert set(threading.enumerate()) <= threads
        assert len(os.listdir("/proc/self/fd")) <= files

    # -- images and layers --------------------------------------------------------------------------------------------

    @on_backend
    async def test_an_image_has_a_digest_or_a_way_to_get_it(self, backend: SandboxBackend, spec: SandboxSpec) -> None:
        """A missing one is the user's to get, and named."""
        assert await backend.answers()
        digest = await backend.image_digest(spec.image)
        assert digest
        assert await backend.image_digest(spec.image) == digest
        unknown = spec.model_copy(update={"image": "no-such/image:9"})
        with pytest.raises(UserError, match="no-such/image:9"):
            await backend.image_digest(unknown.image)
        with pytest.raises(UserError, match="no-such/image:9"):
            async with backend.open(unknown):
                pass

    @on_backend
    async def test_a_layer_is_kept_whole_or_not_at_all(self, backend: SandboxBackend, spec: SandboxSpec) -> None:
        """What was written while it was made is there for whoever starts on it. A backend may keep none."""
        plain = spec.model_copy(update={"workspace": None, "workdir": "/tmp/work", "layer": uuid.uuid4().hex})
        if await backend.has_layer(plain) is None:
            return

        async def fail() -> None:
            async with backend.make_layer(plain) as sandbox:
                await output(sandbox, "true", cwd="/")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        assert await backend.has_layer(plain) is False
        kept = plain.model_copy(update={"layer": "c0f0" * 8})
        if not await backend.has_layer(kept):
            async with backend.make_layer(kept) as sandbox:
                await output(sandbox, "echo kept > /opt/kept-in-a-layer", cwd="/")
        async with backend.open(kept) as sandbox:
            assert sandbox.layer == kept.layer
            assert await output(sandbox, "cat /opt/kept-in-a-layer", cwd="/") == "kept\n"

    @on_backend
    async def test_a_person_can_be_let_in(self, backend: SandboxBackend, spec: SandboxSpec) -> None:
        """By a command line of this host."""
        async with backend.open(spec) as sandbox:
            command = backend.shell_command(sandbox)
            assert command
            assert all(isinstance(word, str) for word in command)


async def output(sandbox: Sandbox, command: str, cwd: str | None = None) -> str:
    """What a command prints that must succeed."""
    result = await sandbox.run(command, timeout_s=60, cwd=cwd)
    assert result.exit_code == 0, result.output
    return result.output


async def others(sandbox: Sandbox) -> int:
    """How many processes there are beside the shell that counts them."""
    return int(await output(sandbox, _OTHERS))
