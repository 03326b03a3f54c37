"""Listing, reading and changing a tree without any help from what is in it, on every kind of sandbox."""

import errno
import os
import secrets

import pytest

from swe_aem.core import Limits, Sandbox, SandboxBackend, SandboxSpec, Tree, TreeChange, TreeEntry
from swe_aem.testing.sandbox import FakeBackend, FakeSandbox

FILE, PROGRAM, LINK = 0o100644, 0o100755, 0o120000

HOLD_LEASE = (
    "import ctypes, fcntl, os, sys, time; fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT); "
    "fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK); print('held', flush=True); time.sleep(300)"
)
"""Opens of the file by others wait until the lease is broken, 45 seconds by default."""

SPEC = SandboxSpec(image="swe-aem/micro:1")


def removal(path: str) -> TreeChange:
    return TreeChange(path, 0, None)


async def run(sandbox: Sandbox, command: str) -> str:
    result = await sandbox.run(command, timeout_s=30)
    assert result.exit_code == 0, result.output
    return result.output


async def test_a_list_has_everything_and_enters_no_link_and_no_repository(sandbox: Sandbox) -> None:
    await run(
        sandbox,
        "ln -s package link; ln -s /etc away; mkfifo pipe; mkdir -p .git/objects deep/er/.git/x deep/er/y "
        "$'od\\nd\\377'; echo 'gitdir: x' > package/.git; chmod 4711 run.sh",
    )
    tree = await sandbox.list_tree("/testbed")
    entries = tree.entries
    assert set(entries) == {
        *("link", "away", "pipe", ".git", "deep", "deep/er", "deep/er/.git", "deep/er/y", "od\nd\udcff", "package"),
        *("package/.git", "package/module.py", "run.sh"),
    }
    assert (entries["link"].mode & 0o170000, entries["link"].target) == (LINK, b"package")
    assert entries["away"].target == b"/etc"
    assert (oct(entries["run.sh"].mode), entries["run.sh"].size) == ("0o104711", len("#!/bin/sh\necho ran\n"))
    assert oct(entries["package"].mode & 0o170000) == "0o40000"
    told = await run(sandbox, "stat -c '%i %s %.9Y %.9Z' package/module.py")
    found = entries["package/module.py"]
    seconds = [f"{ns // 10**9}.{ns % 10**9:09d}" for ns in (found.mtime_ns, found.ctime_ns)]
    assert told.split() == [str(found.inode), str(found.size), *seconds]
    assert tree.left_out == 0
    with pytest.raises(FileNotFoundError, match="nowhere"):
        await sandbox.list_tree("/nowhere")
    with pytest.raises(NotADirectoryError):
        await sandbox.list_tree("run.sh")


async def test_a_list_says_what_it_left_out(sandbox: Sandbox) -> None:
    few = await sandbox.list_tree(".", max_entries=2)
    assert set(few.entries) == {"package", "run.sh"}
    assert few.left_out == 1
    await run(sandbox, "mkdir package/wide && touch package/wide/{1..3000}")
    await run(sandbox, "d=/testbed/deep; for i in $(seq 40); do d=$d/1/2/3/4; done; mkdir -p $d; touch $d/last")
    deep = await sandbox.list_tree(".")
    assert "deep" + "/1/2/3/4" * 30 in deep.entries
    assert not any(path.endswith("last") for path in deep.entries)
    assert deep.left_out == 1
    assert len([path for path in deep.entries if path.startswith("package/wide/")]) == 3000
    assert list(deep.entries).index("run.sh") < list(deep.entries).index("package/wide")


async def test_a_directory_with_a_longer_path_than_any_call_takes_is_not_entered(sandbox: Sandbox) -> None:
    deeper = "import os\nfor _ in range(40):\n os.mkdir('n' * 255); open('f', 'w').close(); os.chdir('n' * 255)\n"
    await run(sandbox, f'mkdir deep; cd deep; python3 -c "{deeper}"')
    tree = await sandbox.list_tree(".")
    longest = max(map(len, tree.entries))
    assert (longest, tree.left_out) == (len("deep") + 16 * 256, 1)
    await sandbox.change_tree(".", [removal("deep")])
    assert (await sandbox.list_tree(".")).left_out == 0


async def test_a_list_that_would_be_too_long_is_an_error(backend: SandboxBackend, spec: SandboxSpec) -> None:
    many = (  # a file system may allow no more than 65,000 names for one file
        "import os\nfor i in range(66_000):\n"
        " if i % 50_000 == 0: os.symlink('/' * 4095, f'{i}')\n"
        " else: os.link(f'{i // 50_000 * 50_000}', f'{i}', follow_symlinks=False)\n"
    )
    limits = Limits(memory_bytes=1 << 30, cpus=1.0, pids=64, disk_bytes=1 << 30)
    async with backend.open(spec.model_copy(update={"limits": limits})) as sandbox:
        await run(sandbox, f'mkdir links; cd links; python3 -c "{many}"')
        with pytest.raises(OSError, match="too large") as raised:
            await sandbox.list_tree(".")
        assert raised.value.errno == errno.EFBIG
        await run(sandbox, "rm -r links")
        assert "run.sh" in (await sandbox.list_tree(".")).entries


def test_all_paths_of_a_tree_together_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    folder, file = TreeEntry(0o040755, 0, 0, 0, 1, b""), TreeEntry(FILE, 0, 0, 0, 2, b"")
    tree = Tree.made_of({"a" * 100: folder, **{f"{'a' * 100}/{n}": file for n in range(9)}})
    monkeypatch.setattr("swe_aem.core.sandbox.MAX_PATH_CHARACTERS", 100 + 9 * 102 - 1)
    with pytest.raises(OSError, match="too long"):
        _ = tree.entries
    monkeypatch.setattr("swe_aem.core.sandbox.MAX_PATH_CHARACTERS", 100 + 9 * 102)
    assert len(tree.entries) == 10


async def test_any_later_change_has_a_later_time(sandbox: Sandbox) -> None:
    for round in range(20):
        await sandbox.write_file(f"new-{round}", b"as it was")
        before = (await sandbox.list_tree(".")).entries
        await run(sandbox, f"touch -r new-{round} kept; echo as it is > new-{round}; touch -r kept new-{round}")
        after = (await sandbox.list_tree(".")).entries
        assert after[f"new-{round}"].mtime_ns == before[f"new-{round}"].mtime_ns
        assert after[f"new-{round}"].ctime_ns > max(entry.ctime_ns for entry in before.values())


async def test_what_its_owner_made_unreadable_is_read_and_keeps_its_mode(sandbox: Sandbox) -> None:
    await run(sandbox, "mkdir -p shut/in/side; cd shut/in/side; echo found > file; touch kept; chmod 0 file")
    await run(sandbox, "chmod 0 shut/in/side shut/in shut; mkdir -p open/{1..300}; chmod 0 open/*; chmod 0 .")
    entries = (await sandbox.list_tree("/testbed")).entries
    modes = {path: oct(entry.mode & 0o7777) for path, entry in entries.items() if path.startswith("shut")}
    assert modes.pop("shut/in/side/kept") == "0o644"
    assert modes == dict.fromkeys(["shut", "shut/in", "shut/in/side", "shut/in/side/file"], "0o0")
    assert await sandbox.read_tree("/testbed", ["shut/in/side/file"]) == [b"found\n"]
    await sandbox.change_tree("/testbed", [TreeChange("shut/in/side/new", FILE, b"1"), removal("shut/in/side/file")])
    assert await sandbox.read_tree("/testbed", ["shut/in/side/file", "shut/in/side/new"]) == [None, b"1"]
    again = (await sandbox.list_tree("/testbed")).entries
    assert {oct(again[path].mode & 0o7777) for path in ["shut", "shut/in", "shut/in/side", "open/300"]} == {"0o0"}
    assert (await sandbox.run("stat -c %a /testbed; chmod 755 /testbed", timeout_s=10, cwd="/")).output == "0\n"


async def test_reading_gives_regular_files_and_none_for_the_rest(sandbox: Sandbox) -> None:
    await run(sandbox, "ln -s run.sh link; ln -s package dir; ln -s /proc proc; mkfifo pipe; : > empty; mkdir .git")
    await run(sandbox, "echo inside > .git/config; ln -s /dev/zero zero; truncate -s 200M sparse")
    wanted = [
        "run.sh",
        "link",
        "dir/module.py",
        "package/module.py",
        "proc/cmdline",
        "pipe",
        "empty",
        "package",
        "zero",
    ]
    wanted += ["no/where", "run.sh/below", ".git/config", "sparse", "x" * 300]
    found = await sandbox.read_tree("/testbed", wanted)
    assert dict(zip(wanted, found, strict=True)) == {
        **dict.fromkeys(wanted),
        "run.sh": b"#!/bin/sh\necho ran\n",
        "package/module.py": b"answer = 41\n",
        "empty": b"",
        ".git/config": b"inside\n",
    }
    assert await sandbox.read_tree(".", []) == []
    for path in ("../etc/passwd", "/etc/passwd", "package/../run.sh", "./run.sh", ""):
        with pytest.raises(OSError, match="Invalid"):
            await sandbox.read_tree("/testbed", [path])
    with pytest.raises(FileNotFoundError):
        await sandbox.read_tree("/nowhere", ["x"])


async def test_reading_is_bounded_for_each_file_and_in_all(sandbox: Sandbox) -> None:
    blobs = {f"f{n}": secrets.token_bytes(3 << 20) for n in range(7)}
    await sandbox.change_tree(".", [TreeChange(path, FILE, content) for path, content in blobs.items()])
    assert await sandbox.read_tree(".", [*blobs, "run.sh"]) == [*blobs.values(), b"#!/bin/sh\necho ran\n"]
    assert await sandbox.read_tree(".", ["f0", "run.sh"], max_bytes=100) == [None, b"#!/bin/sh\necho ran\n"]
    assert await sandbox.read_tree(".", ["f0"], max_bytes=3 << 20) == [blobs["f0"]]
    assert await sandbox.read_tree(".", ["f0"], max_bytes=(3 << 20) - 1) == [None]
    few = await sandbox.read_tree(".", ["f0", "f1", "run.sh"], max_total_bytes=4 << 20)
    assert few == [blobs["f0"], None, b"#!/bin/sh\necho ran\n"]


async def test_ten_thousand_files_are_read_and_written(sandbox: Sandbox) -> None:
    files = {f"many/d{n % 100}/f{n}": b"%d" % n for n in range(10_000)}
    await sandbox.change_tree(".", [TreeChange(path, FILE, content) for path, content in files.items()])
    entries = (await sandbox.list_tree(".")).entries
    assert set(files) < set(entries)
    assert await sandbox.read_tree(".", [*files]) == [*files.values()]
    await sandbox.change_tree(".", [removal(path) for path in files])
    assert "many" not in (await sandbox.list_tree(".")).entries


async def test_changes_are_exact(sandbox: Sandbox) -> None:
    await run(
        sandbox, "umask 077; mkdir -p full/of/things kept; touch full/of/things/{a,b} kept/{a,b}; chmod 700 run.sh"
    )
    await run(sandbox, "ln run.sh other-name; ln -s run.sh link; ln -s package dirlink; mkfifo pipe")
    await sandbox.change_tree(
        "/testbed",
        [
            TreeChange("full", FILE, b"a file now"),
            TreeChange("new/deep/er/file", PROGRAM, b"#!/bin/sh\n"),
            TreeChange("run.sh", FILE, b""),
            TreeChange("link", PROGRAM, b"no link"),
            TreeChange("package", LINK, b"nowhere/at all"),
            TreeChange("pipe", FILE, b"no pipe"),
            removal("kept/a"),
            removal("package/module.py"),
            removal("dirlink"),
            removal("never/there"),
            removal("run.sh/never"),
        ],
    )
    entries = (await sandbox.list_tree("/testbed")).entries
    kinds = {path: (oct(entry.mode), entry.target) for path, entry in entries.items()}
    assert kinds == {
        "full": ("0o100644", b""),
        "new": ("0o40755", b""),
        "new/deep": ("0o40755", b""),
        "new/deep/er": ("0o40755", b""),
        "new/deep/er/file": ("0o100755", b""),
        "run.sh": ("0o100644", b""),
        "other-name": ("0o100700", b""),
        "link": ("0o100755", b""),
        "package": ("0o120777", b"nowhere/at all"),
        "pipe": ("0o100644", b""),
        "kept": ("0o40700", b""),
        "kept/b": ("0o100600", b""),
    }
    contents = await sandbox.read_tree("/testbed", ["full", "link", "pipe", "run.sh", "other-name"])
    assert contents == [b"a file now", b"no link", b"no pipe", b"", b"#!/bin/sh\necho ran\n"]


async def test_removals_come_first_and_take_empty_parents_with_them(sandbox: Sandbox) -> None:
    await run(sandbox, "mkdir -p a/b/c && touch a/b/c/d; ln -s package way; mkdir -p tree/{1..20}/{1..20}/x")
    await sandbox.change_tree(
        ".", [TreeChange("way/in", FILE, b"1"), TreeChange("a/b", FILE, b"2"), removal("way"), removal("a/b/c/d")]
    )
    await sandbox.change_tree(".", [removal("package/module.py"), removal("tree")])
    assert set((await sandbox.list_tree(".")).entries) == {"a", "a/b", "way", "way/in", "run.sh"}


async def test_no_change_goes_through_a_link(sandbox: Sandbox) -> None:
    await run(sandbox, "mkdir /tmp/outside; ln -s /tmp/outside out; ln -s package in; ln -s out twice")
    for path in ("out/x", "in/x", "twice/x", "run.sh/x", "in/deep/x"):
        with pytest.raises(NotADirectoryError) as error:
            await sandbox.change_tree("/testbed", [TreeChange(path, FILE, b"")])
        assert error.value.filename == path
    await sandbox.change_tree("/testbed", [removal("out/x"), removal("in/module.py")])
    assert await run(sandbox, "ls /tmp/outside package") == "/tmp/outside:\n\npackage:\nmodule.py\n"
    for path in ("../x", "/tmp/x", "a/../../x", "a//x", "a/./x", "", "a/"):
        with pytest.raises(OSError, match="Invalid"):
            await sandbox.change_tree("/testbed", [TreeChange(path, FILE, b"")])
    with pytest.raises(ValueError, match="mode"):
        await sandbox.change_tree("/testbed", [TreeChange("x", 0o104755, b"")])
    with pytest.raises(ValueError, match="NUL"):
        await sandbox.change_tree("/testbed", [TreeChange("x\0y", FILE, b"")])


async def test_a_tree_that_is_very_deep_can_be_removed(sandbox: Sandbox) -> None:
    deeper = "import os\nfor _ in range(3000):\n os.mkdir('d'); open('f', 'w').close(); os.chdir('d')\n"
    await run(sandbox, f'mkdir deep; cd deep; python3 -c "{deeper}"; chmod 0 /testbed/deep/d/d')
    assert (await sandbox.list_tree(".")).left_out >= 1
    await sandbox.change_tree(".", [TreeChange("deep", FILE, b"flat")])
    assert await sandbox.read_tree(".", ["deep"]) == [b"flat"]


async def test_settling_ends_everything_and_frees_what_was_leased(sandbox: Sandbox) -> None:
    assert await sandbox.settle() == 0
    await run(sandbox, f'setsid python3 -c "{HOLD_LEASE}" leased > told & until [ -s told ]; do sleep 0.05; done')
    await run(sandbox, "for i in $(seq 10); do setsid sleep 300 >/dev/null 2>&1 & done")
    assert await sandbox.settle() == 11
    assert await sandbox.settle() == 0
    assert await sandbox.read_tree(".", ["leased", "told"]) == [b"", b"held\n"]
    assert (await run(sandbox, "set -- /proc/[0-9]*; echo $#")) == "2\n"


async def test_output_is_read_without_its_name(backend: SandboxBackend, sandbox: Sandbox) -> None:
    if backend.name != "podman":  # whose sandboxes begin with a command of ours
        with pytest.raises(FileNotFoundError):
            await sandbox.read_output()
    result = await sandbox.run("echo first; rm -rf /tmp/*; echo second", timeout_s=60)
    assert await sandbox.read_output() == b"first\nsecond\n"
    await sandbox.run("seq 1 200000", timeout_s=20)
    assert await sandbox.read_output() == "".join(f"{n}\n" for n in range(1, 200_001)).encode()
    assert await sandbox.read_output(offset=4, max_bytes=6) == b"3\n4\n5\n"
    assert await sandbox.read_output(offset=1 << 30) == b""
    assert result.output == "first\nsecond\n"


@pytest.mark.parametrize("workdir", ["/testbed", "/tmp", "/var/tmp", "/tmp/below"])
async def test_nothing_of_ours_is_in_the_work_tree(backend: SandboxBackend, spec: SandboxSpec, workdir: str) -> None:
    async with backend.open(spec.model_copy(update={"workdir": workdir})) as sandbox:
        result = await sandbox.run("yes | head -c 100000", timeout_s=60)
        assert not f"{sandbox.private_dir}/".startswith(f"{workdir}/")
        assert not result.output_path.startswith(f"{workdir}/")
        assert len(await sandbox.read_file(result.output_path)) == 100_000
        await sandbox.write_file(f"{sandbox.private_dir}/x", b"private")
        assert (await sandbox.run(f": {'x' * 200_000}", timeout_s=60)).exit_code == 0
        found = set((await sandbox.list_tree(workdir)).entries)
        assert {path for path in found if "swe-aem" in path} == set()
        assert {"package", "package/module.py", "run.sh"} <= found


async def test_a_fake_sandbox_has_a_tree_too() -> None:
    async with FakeBackend().open(SPEC) as sandbox:
        assert isinstance(sandbox, FakeSandbox)
        sandbox.files |= {"/testbed/a/b": b"1", "/testbed/.git/x": b"2", "/testbed/c": b"3", "/tmp/x": b""}
        before = (await sandbox.list_tree(".")).entries
        assert set(before) == {"a", "a/b", ".git", "c"}
        await sandbox.change_tree(".", [TreeChange("a", LINK, b"c"), removal("c"), TreeChange("d/e", PROGRAM, b"4")])
        after = (await sandbox.list_tree("/testbed")).entries
        assert set(after) == {"a", ".git", "d", "d/e"}
        assert (after["a"].target, after["d/e"].mode) == (b"c", PROGRAM)
        assert await sandbox.read_tree(".", ["a", "c", "d/e"]) == [None, None, b"4"]
        with pytest.raises(NotADirectoryError):
            await sandbox.change_tree(".", [TreeChange("d/e/f", FILE, b"")])
        await sandbox.run("true", timeout_s=1)
        assert (await sandbox.settle(), await sandbox.read_output()) == (0, b"")


def test_a_tree_is_what_it_was_made_of() -> None:
    entries = {
        "a": TreeEntry(0o040755, 0, -1, 2, 3, b""),
        "a/\udcff": TreeEntry(LINK, 5, 10**18, 2**62, 2**63 + 1, b"to\xff\0x"),
        "b": TreeEntry(FILE, 2**40, 0, 0, 0, b""),
    }
    tree = Tree.made_of(entries, left_out=7)
    assert (tree.entries, tree.left_out) == (entries, 7)
    assert os.fsencode([*tree.entries][1]) == b"a/\xff"
