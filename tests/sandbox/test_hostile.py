"""What a hostile or clumsy command can do: hurt its own sandbox at most. The host and a neighbour do not notice.

No test here runs on a backend that `contained` finds too open.
"""

import os
import shutil

import pytest

from swe_aem.core import Sandbox, SandboxBackend, SandboxSpec
from swe_aem.grading import capture_work, record_given

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("contained")]


async def still_works(sandbox: Sandbox) -> None:
    result = await sandbox.run("echo alive; cat package/module.py", timeout_s=20)
    assert result.output == "alive\nanswer = 41\n"


async def test_a_fork_bomb_hits_the_pids_limit_and_dies_with_its_command(sandbox: Sandbox) -> None:
    result = await sandbox.run("bomb() { bomb | bomb & }; bomb; sleep 60", timeout_s=3)
    assert result.killed_for == "timeout" or result.exit_code != 0
    await still_works(sandbox)


async def test_a_command_still_works_after_a_fork_bomb_in_the_background(sandbox: Sandbox) -> None:
    await sandbox.run("for i in $(seq 200); do setsid sleep 60 >/dev/null 2>&1 & done", timeout_s=2)
    await still_works(sandbox)


async def test_memory_beyond_the_limit_is_an_oom_kill_of_the_command(sandbox: Sandbox) -> None:
    result = await sandbox.run("python3 -c \"x = b'x' * (2 << 30)\"", timeout_s=60)
    assert (result.exit_code, result.oom) == (137, True)
    await still_works(sandbox)
    assert not (await sandbox.run("exit 1", timeout_s=60)).oom


async def test_filling_the_disk_ends_at_the_limit(sandbox: Sandbox) -> None:
    before = shutil.disk_usage("/").free
    write = "dd if=/dev/zero of=/testbed/fill.$i bs=1M count=100 conv=fsync status=none"
    fill = f"for i in $(seq 40); do {write} || break; done"
    result = await sandbox.run(f"{fill}; ls /testbed | wc -l", timeout_s=120)
    assert result.killed_for == "disk" or "No space left" in result.output
    assert before - shutil.disk_usage("/").free < 2 << 30
    cleaned = await sandbox.run("rm -f /testbed/fill.*; ls", timeout_s=30)
    assert cleaned.output == "package\nrun.sh\n"
    await still_works(sandbox)


async def test_a_gigabyte_of_output_is_bounded_in_the_host(backend: SandboxBackend, spec: SandboxSpec) -> None:
    limits = spec.limits.model_copy(update={"disk_bytes": 3 << 30, "memory_bytes": 4 << 30})
    async with backend.open(spec.model_copy(update={"limits": limits})) as sandbox:
        result = await sandbox.run("yes 0123456789abcde | head -c 1073741824", timeout_s=120)
        assert result.output_bytes == 1 << 30
        assert len(result.head) + len(result.tail) == 10_000
        kept = await sandbox.run(f"stat -c %s {result.output_path}; tail -c 16 {result.output_path}", timeout_s=30)
        assert kept.output == f"{1 << 30}\n0123456789abcde\n"
        with pytest.raises(OSError, match="large"):
            await sandbox.read_file(result.output_path)
        await still_works(sandbox)


async def test_killing_everything_spares_the_warden(sandbox: Sandbox) -> None:
    await sandbox.run("kill -9 -1; kill -9 1", timeout_s=60)
    await still_works(sandbox)
    assert (await sandbox.run("kill -9 $$", timeout_s=60)).exit_code == 137
    await still_works(sandbox)


async def test_removing_everything_is_survived_or_a_dead_sandbox(sandbox: Sandbox) -> None:
    await sandbox.run("rm -rf --no-preserve-root / 2>/dev/null", timeout_s=60)
    result = await sandbox.run("echo $((6 * 7))", timeout_s=60)
    assert result.output == "42\n" or result.exit_code in (126, 127)
    assert os.path.exists("/usr/bin/env")


async def test_output_through_closed_and_odd_descriptors(sandbox: Sandbox) -> None:
    result = await sandbox.run("exec >&- 2>&-; echo lost; exit 5", timeout_s=60)
    assert (result.exit_code, result.output_bytes) == (5, 0)
    result = await sandbox.run("truncate -s 0 /proc/self/fd/1; rm -rf /tmp/swe-aem-output; echo kept", timeout_s=60)
    assert result.output == "kept\n"
    await still_works(sandbox)


async def test_planted_output_files_do_not_redirect_the_warden(sandbox: Sandbox) -> None:
    link = "ln -sf /testbed/run.sh $(printf %06d.log $n)"
    await sandbox.run(f"cd /tmp/swe-aem-output && for n in $(seq 1 50); do {link}; done", timeout_s=60)
    result = await sandbox.run("echo written", timeout_s=60)
    assert result.output == "written\n"
    assert b"written" not in await sandbox.read_file("run.sh")


async def test_a_neighbour_does_not_notice(backend: SandboxBackend, spec: SandboxSpec) -> None:
    async with backend.open(spec) as rude, backend.open(spec) as quiet:
        storm = "bomb() { bomb | bomb & }; bomb; python3 -c \"x = b'x' * (2 << 30)\"; kill -9 -1; sleep 5"
        await rude.run(storm, timeout_s=2)
        await still_works(quiet)
        seen = await quiet.run("set -- /proc/[0-9]*; echo $#", timeout_s=60)
        assert seen.output == "2\n"


async def test_work_is_captured_from_a_starved_sandbox(sandbox: Sandbox) -> None:
    given = await record_given(sandbox, "/testbed")
    await sandbox.write_file("package/module.py", b"answer = 42\n")
    await sandbox.run("yes | head -c 400M", timeout_s=20)
    await sandbox.run("for i in $(seq 200); do setsid sleep 60 >/dev/null 2>&1 & done", timeout_s=2)
    work = await capture_work(sandbox, "/testbed", given)
    assert [file.content for file in work.files] == [b"answer = 42\n"]


async def test_work_is_captured_where_the_disk_is_full_and_there_is_no_tmp(sandbox: Sandbox) -> None:
    given = await record_given(sandbox, "/testbed")
    await sandbox.write_file("package/module.py", b"answer = 42\n")
    await sandbox.run("rm -rf /tmp && touch /tmp; dd if=/dev/zero of=/tmp/x; dd if=/dev/zero of=/tmp/y", timeout_s=20)
    work = await capture_work(sandbox, "/testbed", given)
    assert [file.content for file in work.files] == [b"answer = 42\n"]


@pytest.mark.parametrize("directory", ["/testbed", "/dev/shm"])
async def test_allocated_space_counts_too(sandbox: Sandbox, directory: str) -> None:
    before = shutil.disk_usage("/").free
    allocate = f"for i in $(seq 20); do fallocate -l 100M {directory}/fill.$i || break; sleep 0.05; done"
    await sandbox.run(f"{allocate}; sleep 1", timeout_s=30)
    assert before - shutil.disk_usage("/").free < 1 << 30
    await sandbox.run(f"rm -f {directory}/fill.*", timeout_s=60)
    await still_works(sandbox)


async def test_the_device_directory_is_no_way_around_the_disk_limit(sandbox: Sandbox) -> None:
    filled = await sandbox.run("dd if=/dev/zero of=/dev/fill bs=1M count=600", timeout_s=30)
    assert filled.exit_code != 0
    await still_works(sandbox)


async def test_without_dev_null_no_command_gets_the_channel(sandbox: Sandbox) -> None:
    await sandbox.run("rm -f /dev/null; mkfifo /dev/null", timeout_s=60)
    result = await sandbox.run("cat; ls -l /proc/self/fd/0", timeout_s=60)
    assert "pipe" not in result.output
    assert "socket" not in result.output
    await still_works(sandbox)


async def test_a_long_command_after_its_directory_was_spoilt_is_a_failing_command(sandbox: Sandbox) -> None:
    await sandbox.run(f"rm -rf {sandbox.private_dir}; touch {sandbox.private_dir}", timeout_s=60)
    result = await sandbox.run(f": {'x' * 200_000}", timeout_s=60)
    assert (result.exit_code, "this long" in result.output) == (126, True)
    await still_works(sandbox)
