"""Nothing that a command leaves behind can hold up the sandbox's own files: drafts, output, private ones."""

import asyncio

import pytest

from swe_aem.core import Limits, Sandbox, SandboxBackend, SandboxSpec
from swe_aem.errors import UserError

WRITE_LEASE = (
    "import fcntl, os, sys, time; fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT); "
    "fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK); print('held', flush=True); time.sleep(300)"
)
"""Who opens such a file has to wait until its holder gives it back, or 45 seconds."""

LONGEST_S = 25
"""Far above any answer, far below the 45 seconds of a lease; the host gives up a silent warden after 30."""


async def run(sandbox: Sandbox, command: str) -> str:
    result = await sandbox.run(command, timeout_s=30, cwd="/testbed")
    assert result.exit_code == 0, result.output
    return result.output


async def write(sandbox: Sandbox, path: str) -> None:
    await asyncio.wait_for(sandbox.write_file(path, b"written"), LONGEST_S)


async def test_no_guessed_name_of_a_draft_stands_in_the_way(sandbox: Sandbox) -> None:
    for obstacle in ("mkfifo {draft}", "mkdir {draft}", "ln -s /dev/full {draft}", "ln -s {draft} {draft}"):
        await run(sandbox, f"mkdir case && cd case && {obstacle.format(draft='x.py.swe-aem-draft')}; mkfifo .swe-aem-")
        before = (await sandbox.list_tree("case")).entries
        await write(sandbox, "case/x.py")
        assert await sandbox.read_file("case/x.py") == b"written"
        after = (await sandbox.list_tree("case")).entries
        assert set(after) - set(before) == {"x.py"}
        assert {path: entry for path, entry in after.items() if path in before} == before
        await run(sandbox, "rm -rf case")


async def test_what_cannot_be_written_is_an_error_at_once(sandbox: Sandbox) -> None:
    obstacles: dict[str, type[OSError]] = {
        "mkfifo x.py": OSError,
        "mkdir x.py": IsADirectoryError,
        "ln -s x.py x.py": OSError,
        "ln -s pipe x.py; mkfifo pipe": OSError,
        "ln -s /dev/zero x.py": OSError,
        "mkfifo deep; ln -s deep/x.py x.py": NotADirectoryError,
        "mkdir shut; ln -s shut/x.py x.py; chmod 0 shut": PermissionError,
    }
    for obstacle, error in obstacles.items():
        await run(sandbox, f"mkdir case && cd case && {obstacle}")
        with pytest.raises(error):
            await write(sandbox, "case/x.py")
        assert not [path for path in (await sandbox.list_tree(".")).entries if "swe-aem" in path]
        await run(sandbox, "rm -rf case")


async def test_a_leased_file_is_replaced_or_refused_at_once(sandbox: Sandbox) -> None:
    hold = f'setsid python3 -c "{WRITE_LEASE}" x.py > told & until [ -s told ]; do sleep 0.05; done'
    await run(sandbox, hold)
    with pytest.raises(BlockingIOError):
        await asyncio.wait_for(sandbox.read_file("x.py"), LONGEST_S)
    await write(sandbox, "x.py")
    assert await sandbox.read_file("x.py") == b"written"


async def test_a_name_of_the_longest_length_can_be_written(sandbox: Sandbox) -> None:
    name = "n" * 255
    await write(sandbox, name)
    assert await sandbox.read_file(name) == b"written"


OUTPUT_OBSTACLES = (
    "rm -rf {output}; mkfifo {output}",
    "rm -rf {output}; touch {output}",
    "rm -rf {output}; ln -s /testbed {output}",
    "rm -rf {output}; mkdir -p /testbed/in; ln -s /testbed/in {output}",
    "rm -rf {output}; ln -s {output} {output}",
    "chmod 0 {output}",
    "for n in $(seq 200); do mkfifo {output}/$(printf %06d.log $n) || true; done",
    "for n in $(seq 200); do mkdir {output}/$(printf %06d.log $n); done",
    "for n in $(seq 200); do ln -s /testbed/run.sh {output}/$(printf %06d.log $n); done",
    "mv {output} /testbed/; ln -s /testbed/swe-aem-output {output}",
    "rm -rf /tmp; ln -s /testbed /tmp",
    "rm -rf /tmp; touch /tmp",
)


async def test_output_comes_back_whatever_stands_at_its_place(sandbox: Sandbox) -> None:
    first = await sandbox.run("true", timeout_s=60)
    output = first.output_path.rpartition("/")[0]
    for obstacle in OUTPUT_OBSTACLES:
        await sandbox.run(f"rm -rf {output}; mkdir {output}; {obstacle.format(output=output)}", timeout_s=30, cwd="/")
        before = set((await sandbox.list_tree("/testbed")).entries)
        for _ in range(2):
            result = await asyncio.wait_for(sandbox.run("echo said; exit 3", timeout_s=60), LONGEST_S)
            assert (result.output, result.exit_code) == ("said\n", 3), obstacle
            assert await sandbox.read_output() == b"said\n"
        assert set((await sandbox.list_tree("/testbed")).entries) == before, obstacle
        assert await sandbox.read_file("run.sh") == b"#!/bin/sh\necho ran\n"


STORMS = (
    "bomb() { bomb | bomb & }; bomb; sleep 0.5",
    "for i in $(seq 8); do setsid bash -c 'while :; do setsid sleep 100 & done' >/dev/null 2>&1 & done; sleep 0.5",
    "python3 -c 'import os\nwhile os.fork(): os._exit(0)\nwhile True:\n  if os.fork(): os._exit(0)' & sleep 0.5",
    "for i in $(seq 60); do setsid bash -c 'trap : TERM HUP INT; kill -STOP $$' & done; sleep 0.5",
)


@pytest.mark.slow
@pytest.mark.usefixtures("contained")
async def test_settling_outruns_whatever_forks(sandbox: Sandbox) -> None:
    for storm in STORMS:
        await sandbox.run(storm, timeout_s=20)
        assert await sandbox.settle() > 0
        assert (await sandbox.run("set -- /proc/[0-9]*; echo $#", timeout_s=20)).output == "2\n"
        assert await sandbox.settle() == 0


async def test_the_whole_file_system_is_no_work_tree(backend: SandboxBackend, spec: SandboxSpec) -> None:
    for workdir in ("/", "//", "/tmp/..", "testbed"):
        with pytest.raises(UserError, match="workdir"):
            async with backend.open(spec.model_copy(update={"workdir": workdir})):
                pass


async def test_a_work_tree_that_is_a_link_holds_nothing_of_ours(backend: SandboxBackend, spec: SandboxSpec) -> None:
    if backend.name == "bubblewrap":
        pytest.skip("the work tree is mounted there, so it is no link")
    changes = {"workdir": "/var/lock", "workspace": None, "limits": Limits()}
    async with backend.open(spec.model_copy(update=changes)) as sandbox:
        assert (await sandbox.run("pwd -P", timeout_s=60)).output == "/run/lock\n"
        assert "swe-aem" not in " ".join((await sandbox.list_tree("/var/lock")).entries)
