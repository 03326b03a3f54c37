"""What an agent did is found in whatever state it left its sandbox, and what the image brought is never part of it."""

import os
import shutil
import stat
import tempfile
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swe_aem.errors import GraderError, InfrastructureError, SandboxDead
from swe_aem.grading import capture, capture_work, comparing, prepare_for_agent, record_given
from swe_aem.grading.comparing import delta_of
from swe_aem.grading.delta import EXECUTABLE, FILE, LINK, Blob
from swe_aem.grading.diff import parse_diff


@dataclass
class Given:
    """A repository as an agent is given it, and a copy that it never touches."""

    repo: object
    sandbox: object
    untouched: object
    tree: object

    async def delta(self, **options):
        """What was done in the repository since."""
        work = await capture_work(self.sandbox, str(self.repo.path), self.tree, **options)
        return await delta_of(work, self.untouched, self.untouched.spec.workdir)


@pytest.fixture
def give(at, tmp_path_factory):
    """Give a repository as it is now."""

    async def give(repo):
        copy = tmp_path_factory.mktemp("untouched") / "tree"
        shutil.copytree(repo.path, copy, symlinks=True)
        sandbox = at(repo.path)
        return Given(repo, sandbox, at(copy), await record_given(sandbox, str(repo.path)))

    return give


def paths(delta):
    return [change.path for change in delta.changes]


async def test_changes_of_every_kind_are_found(repo, give):
    repo.commit(
        "base", {"a.py": "1\n", "gone.py": "1\n", "moved.py": "1\n", "run": "x\n", "kept.py": "k\n", "d/f": "1"}
    )
    (repo.path / "old link").symlink_to("a.py")
    given = await give(repo)
    repo.write({"a.py": "2\n", "new.py": "n\n", "blob": b"\x00\xff\n", 'dir/ümläut "q".py': "x\n", "empty": ""})
    (repo.path / "gone.py").unlink()
    (repo.path / "moved.py").rename(repo.path / "there.py")
    (repo.path / "run").chmod(0o755)
    (repo.path / "link").symlink_to("a.py")
    (repo.path / "old link").unlink()
    shutil.rmtree(repo.path / "d")
    (repo.path / "d").write_text("a file now\n")
    delta = await given.delta()
    found = {change.path: (change.old, change.new) for change in delta.changes}
    assert found == {
        "a.py": (Blob(FILE, b"1\n"), Blob(FILE, b"2\n")),
        "gone.py": (Blob(FILE, b"1\n"), None),
        "moved.py": (Blob(FILE, b"1\n"), None),
        "there.py": (None, Blob(FILE, b"1\n")),
        "run": (Blob(FILE, b"x\n"), Blob(EXECUTABLE, b"x\n")),
        "link": (None, Blob(LINK, b"a.py")),
        "old link": (Blob(LINK, b"a.py"), None),
        "new.py": (None, Blob(FILE, b"n\n")),
        "blob": (None, Blob(FILE, b"\x00\xff\n")),
        'dir/ümläut "q".py': (None, Blob(FILE, b"x\n")),
        "empty": (None, Blob(FILE, b"")),
        "d/f": (Blob(FILE, b"1"), None),
        "d": (None, Blob(FILE, b"a file now\n")),
    }
    assert {path for section in parse_diff(delta.patch) for path in section.paths} == set(found)


async def test_commits_branches_and_staged_changes_count(repo, give):
    repo.commit("base", {"a.py": "1\n"})
    given = await give(repo)
    repo.commit("of the agent", {"a.py": "2\n"})
    repo.write({"b.py": "staged\n"})
    repo.git("add", "b.py")
    repo.git("checkout", "-q", "-b", "elsewhere")
    assert paths(await given.delta()) == ["a.py", "b.py"]


async def test_nothing_done_is_an_empty_delta_whatever_lies_around(repo, give):
    repo.commit("base", {"a.py": "1\n", ".gitignore": "*.log\n"})
    repo.write({"a.py": "dirty\n", "build/meta.txt": "1\n", "_native.so": os.urandom(2 << 20), "x.log": "1\n"})
    repo.write({"dirty/pyvenv.cfg": "", "clone/.git/HEAD": "x\n", "clone/file": "1\n", "staged.py": "1\n"})
    repo.git("add", "staged.py")
    given = await give(repo)
    work = await capture_work(given.sandbox, str(repo.path), given.tree)
    assert work.empty
    assert (await given.delta()).patch == ""


async def test_files_that_were_only_touched_drop_out(repo, give):
    repo.commit("base", {f"{n}.py": f"{n}\n" for n in range(50)})
    (repo.path / "link").symlink_to("1.py")
    given = await give(repo)
    for path in repo.path.glob("*.py"):
        os.utime(path)
        path.chmod(0o644)
    repo.git("stash", "--include-untracked")
    repo.git("stash", "pop")
    repo.write({"7.py": "8\n"})
    work = await capture_work(given.sandbox, str(repo.path), given.tree)
    assert len(work.files) > 40
    assert paths(await given.delta()) == ["7.py"]


async def test_untracked_files_of_the_image_that_change_count(repo, give):
    repo.commit("base", {"a.py": "1\n"})
    repo.write({"notes.txt": "of the image\n", "gone.txt": "x\n"})
    given = await give(repo)
    repo.write({"notes.txt": "of the agent\n"})
    (repo.path / "gone.txt").unlink()
    delta = await given.delta()
    assert [(change.path, change.old.content) for change in delta.changes] == [
        ("gone.txt", b"x\n"), ("notes.txt", b"of the image\n"),
    ]  # fmt: skip


async def test_ignored_names_do_not_count_by_every_list_of_the_given_repository(repo, give):
    repo.commit("base", {".gitignore": "*.log\nlib/\n", "sub/.gitignore": "*\n", "lib/kept": "1\n"})
    repo.write({".git/info/exclude": "*.tmp\n", "old.log": "1\n"})
    given = await give(repo)
    repo.write({"x.log": "1\n", "x.tmp": "1\n", "x.py": "1\n", "sub/y": "1\n", "lib/new": "1\n", "old.log": "2\n"})
    repo.write({"lib/kept": "2\n"})
    assert paths(await given.delta()) == ["lib/kept", "x.py"]


async def test_rules_of_the_agent_hide_nothing(repo, give):
    repo.commit("base", {".gitignore": "*.log\n"})
    given = await give(repo)
    repo.write(
        {".gitignore": "*\n", ".git/info/exclude": "*\n", "x.py": "1\n", "sub/.gitignore": "x.py\n", "sub/x.py": ""}
    )
    assert paths(await given.delta()) == [".gitignore", "sub/.gitignore", "sub/x.py", "x.py"]


@pytest.mark.parametrize("committed", [False, True])
async def test_names_that_are_forced_into_the_index_count_although_they_are_ignored(repo, give, committed):
    repo.commit("base", {".gitignore": "lib/\n", "pkg/__init__.py": "", "pkg/lib/__init__.py": ""})
    given = await give(repo)
    repo.write({"pkg/lib/new.py": "X = 1\n", "pkg/lib/other.py": "X = 1\n"})
    repo.git("add", "-f", "pkg/lib/new.py")
    if committed:
        repo.git("commit", "-qm", "fix")
    repo.write({"pkg/lib/new.py": "X = 2\n"})  # contents come from the work tree
    delta = await given.delta()
    assert [(change.path, change.new.content) for change in delta.changes] == [("pkg/lib/new.py", b"X = 2\n")]


async def test_what_had_to_go_for_a_forced_name_goes_with_it(repo, give):
    repo.commit("base", {".gitignore": "build\n"})
    repo.write({"build": "a file of the image, ignored\n"})
    given = await give(repo)
    (repo.path / "build").unlink()
    repo.write({"build/x.py": "1\n"})
    repo.git("add", "-f", "build/x.py")
    assert paths(await given.delta()) == ["build", "build/x.py"]


LEFT_OUT = {
    "a new virtual environment": (lambda r: r.write({"my env/pyvenv.cfg": "", "my env/lib/x.py": "1\n"}), "my env"),
    "a deep one": (lambda r: r.write({"a/b/pyvenv.cfg": "", "a/b/lib/x.py": "1\n"}), "a/b"),
    "a cache": (lambda r: r.write({"target/CACHEDIR.TAG": "", "target/debug/x": "1\n"}), "target"),
    "a directory that ignores itself": (
        lambda r: r.write({".x_cache/.gitignore": "# x\n*\n", ".x_cache/v": ""}),
        ".x_cache",
    ),
    "a clone": (lambda r: (r.write({"sub/f": "1\n"}), r.git("init", "-q", "sub")), "sub"),
    "a worktree": (lambda r: r.write({"sub/f": "1\n", "sub/.git": "gitdir: elsewhere\n"}), "sub"),
    "a large file": (lambda r: r.write({"core dump [1].bin": b"x" * (2 << 20)}), "core dump [1].bin"),
    "a pipe": (lambda r: os.mkfifo(r.path / "pipe"), "pipe"),
    "a socket": (lambda r: os.mknod(r.path / "sock", 0o600 | stat.S_IFSOCK), "sock"),
}


@pytest.mark.parametrize("kind", LEFT_OUT)
async def test_what_is_no_part_of_a_patch_is_left_out_and_listed(repo, give, kind):
    repo.commit("base", {"a.py": "1\n"})
    given = await give(repo)
    make, name = LEFT_OUT[kind]
    make(repo)
    repo.write({"a.py": "2\n"})
    delta = await given.delta()
    assert paths(delta) == ["a.py"]
    assert len(delta.left_out) == 1
    assert delta.left_out[0].startswith(f"{name} (")


async def test_a_virtual_environment_of_the_image_is_no_part_of_a_patch_whatever_the_index_says(repo, give):
    repo.commit("base", {"a.py": "1\n", "env/tracked.py": "1\n"})
    repo.write({".git/info/exclude": "/env/\n", "env/pyvenv.cfg": "", "env/bin/python": "the interpreter\n"})
    given = await give(repo)
    repo.write({"a.py": "2\n", "env/bin/python": "#!/bin/bash\n", "env/bin/pytest": "x\n", "env/tracked.py": "2\n"})
    repo.git("add", "-f", "env/bin/python", "env/bin/pytest")
    assert paths(await given.delta()) == ["a.py", "env/tracked.py"]


async def test_tracked_names_count_even_below_a_new_repository(repo, give):
    repo.commit("base", {"pkg/a.py": "1\n"})
    given = await give(repo)
    repo.git("init", "-q", "pkg")
    repo.write({"pkg/a.py": "2\n", "pkg/b.py": "1\n"})
    assert paths(await given.delta()) == ["pkg/a.py"]


HOSTILE = {
    "no repository": lambda r: shutil.rmtree(r.path / ".git"),
    "no objects": lambda r: shutil.rmtree(r.path / ".git/objects"),
    "the repository is a file": lambda r: (shutil.rmtree(r.path / ".git"), r.write({".git": "gitdir: /nonexistent\n"})),
    "the repository is a link": lambda r: (shutil.rmtree(r.path / ".git"), (r.path / ".git").symlink_to("/")),
    "index lock": lambda r: r.write({".git/index.lock": ""}),
    "broken index": lambda r: r.write({".git/index": "junk"}),
    "no index": lambda r: (r.path / ".git/index").unlink(),
    "a pipe for an index": lambda r: ((r.path / ".git/index").unlink(), os.mkfifo(r.path / ".git/index")),
    "a link for an index": lambda r: (
        (r.path / ".git/index").unlink(),
        (r.path / ".git/index").symlink_to("/dev/zero"),
    ),
    "a huge index": lambda r: os.truncate(r.path / ".git/index", 1 << 33),
    "external diff": lambda r: r.git("config", "diff.external", "true"),
    "no prefix": lambda r: r.git("config", "diff.noprefix", "true"),
    "colour": lambda r: r.git("config", "color.ui", "always"),
    "hooks": lambda r: (r.git("config", "core.hooksPath", "."), r.write({".git/hooks/pre-commit": "exit 1\n"})),
    "autocrlf": lambda r: r.git("config", "core.autocrlf", "true"),
    "fsmonitor": lambda r: r.git("config", "core.fsmonitor", "false"),
    "filter": lambda r: (
        r.git("config", "filter.x.clean", "cat /dev/null"),
        r.git("config", "filter.x.required", "true"),
        r.write({".git/info/attributes": "* filter=x\n"}),
    ),
    "hidden by attributes": lambda r: r.write({".git/info/attributes": "* -diff -text\n"}),
    "work tree elsewhere": lambda r: r.git("config", "core.worktree", "/nonexistent"),
    "bare": lambda r: r.git("config", "core.bare", "true"),
    "broken configuration": lambda r: r.write({".git/config": "[core\n"}),
    "assumed unchanged": lambda r: r.git("update-index", "--assume-unchanged", "a.py"),
    "skipped": lambda r: r.git("update-index", "--skip-worktree", "a.py"),
    "unborn branch": lambda r: r.git("symbolic-ref", "HEAD", "refs/heads/nothing"),
    "broken head": lambda r: r.write({".git/HEAD": "junk\n"}),
    "head moved": lambda r: r.git("reset", "-q", "--soft", r.git("commit-tree", "-m", "x", "HEAD^{tree}")),
    "alternates": lambda r: r.write({".git/objects/info/alternates": "/proc/self/fd\n"}),
    "fifo for alternates": lambda r: os.mkfifo(r.path / ".git/objects/info/alternates"),
    "replaced base": lambda r: r.git("replace", "HEAD", r.git("commit-tree", "-m", "x", "HEAD^{tree}")),
    "no execute bits": lambda r: r.git("config", "core.filemode", "false"),
}


@pytest.mark.parametrize("state", HOSTILE)
async def test_the_state_of_the_repository_does_not_change_the_delta(repo, give, state):
    repo.commit("base", {"a.py": "1\n"})
    given = await give(repo)
    (repo.path / "a.py").write_text("2\n")
    HOSTILE[state](repo)
    delta = await given.delta()
    assert paths(delta) == ["a.py"]
    assert delta.patch.startswith("diff --git a/a.py b/a.py\nindex ")
    assert delta.patch.endswith("@@ -1 +1 @@\n-1\n+2\n")


async def test_nothing_is_written_where_the_agent_worked(repo, give):
    repo.commit("base", {"a.py": "1\n"})
    given = await give(repo)
    repo.write({"a.py": "2\n", "b.py": "new\n"})
    before = sorted((str(path), path.stat().st_mtime_ns) for path in repo.path.rglob("*"))
    await given.delta()
    assert sorted((str(path), path.stat().st_mtime_ns) for path in repo.path.rglob("*")) == before


LIMITS = {
    "MAX_CHANGED_BYTES": (capture, 1000),
    "MAX_CHANGED_PATHS": (capture, 3),
    "MAX_PATCH_BYTES": (comparing, 1000),
}


@pytest.mark.parametrize("name", LIMITS)
async def test_too_much_is_an_empty_delta_and_the_log_says_why(repo, give, monkeypatch, caplog, name):
    repo.commit("base", {"a.py": "1\n"})
    given = await give(repo)
    repo.write({"a.py": "2\n" * 2000, **{f"{n}.py": "2\n" * 200 for n in range(6)}})
    repo.git("add", "-A")  # what the agent names itself is not taken for leftovers
    monkeypatch.setattr(*LIMITS[name][:1], name, LIMITS[name][1])
    delta = await given.delta()
    assert (delta.changes, delta.patch) == ((), "")
    assert "limit" in delta.why_empty
    assert "no patch" in caplog.text


async def test_files_that_were_only_touched_are_not_too_many(repo, give, monkeypatch):
    repo.commit("base", {f"{n}.py": "1\n" for n in range(20)})
    given = await give(repo)
    monkeypatch.setattr(capture, "MAX_CHANGED_PATHS", 6)
    for path in repo.path.glob("*.py"):
        os.utime(path)
    repo.write({"0.py": "22\n", "new.py": "3\n"})
    assert paths(await given.delta()) == ["0.py", "new.py"]


async def test_what_is_left_out_is_listed_within_bounds(repo, give, monkeypatch):
    repo.commit("base", {"a.py": "1\n"})
    given = await give(repo)
    monkeypatch.setattr(capture, "_MOST_LISTED", 5)
    for number in range(8):
        os.mkfifo(repo.path / f"pipe{number}")
    repo.write({"a.py": "2\n"})
    delta = await given.delta()
    assert paths(delta) == ["a.py"]
    assert len(delta.left_out) == 6
    assert delta.left_out[-1] == "3 more paths (are no part of a patch)"


async def test_the_most_numerous_new_files_are_left_out_where_too_many_changed(repo, give, monkeypatch):
    repo.commit("base", {"a.py": "1\n", "pkg/b.py": "1\n"})
    given = await give(repo)
    monkeypatch.setattr(capture, "MAX_CHANGED_PATHS", 6)
    crowd = {f"cache/{n}/{m}.x": "x" for n in range(3) for m in range(4)}
    few = {f"pkg/{n}.log": "x" for n in range(3)}
    repo.write({"a.py": "2\n", "new/c.py": "3\n", **crowd, **few})
    delta = await given.delta()
    assert paths(delta) == ["a.py", "new/c.py", *sorted(few)]
    assert delta.left_out == ("cache (12 new files in it are more than a patch may have)",)


async def test_the_largest_new_files_are_left_out_where_too_many_bytes_changed(repo, give, monkeypatch):
    repo.commit("base", {"a.py": "1\n"})
    given = await give(repo)
    monkeypatch.setattr(capture, "MAX_CHANGED_BYTES", 1000)
    repo.write({"a.py": "2\n", "new.py": "3\n", "one.log": "x" * 600, "two.log": "x" * 900})
    delta = await given.delta()
    assert paths(delta) == ["a.py", "new.py", "one.log"]
    assert [line.partition(" ")[0] for line in delta.left_out] == ["two.log"]


async def test_new_files_that_make_the_patch_too_long_are_left_out_largest_first(repo, give, monkeypatch):
    repo.commit("base", {"a.py": "1\n"})
    given = await give(repo)
    repo.write({"a.py": "2\n", "new.py": "3\n", "one.log": "x\n" * 900, "two.log": "x\n" * 1000})
    monkeypatch.setattr(comparing, "MAX_PATCH_BYTES", 3500)
    delta = await given.delta()
    assert paths(delta) == ["a.py", "new.py", "one.log"]
    assert [line.partition(" ")[0] for line in delta.left_out] == ["two.log"]
    monkeypatch.setattr(comparing, "MAX_PATCH_BYTES", 700)
    assert paths(await given.delta()) == ["a.py", "new.py"]


async def test_more_names_than_are_listed_are_too_many(repo, give, monkeypatch):
    repo.commit("base", {"a.py": "1\n"})
    given = await give(repo)
    repo.write({f"{n}.py": "" for n in range(9)})
    monkeypatch.setattr(capture, "MAX_ENTRIES", 5)
    assert "names" in (await given.delta()).why_empty
    monkeypatch.undo()
    monkeypatch.setattr("swe_aem.core.sandbox.MAX_PATH_CHARACTERS", 20)
    assert "too long" in (await given.delta()).why_empty


async def test_a_changed_file_above_the_limit_is_left_out(repo, give, monkeypatch):
    repo.commit("base", {"a.py": "1\n", "data": "x" * 50, "was": "x" * 5000})
    given = await give(repo)
    monkeypatch.setattr(capture, "MAX_FILE_BYTES", 1000)
    monkeypatch.setattr(comparing, "MAX_FILE_BYTES", 1000)
    repo.write({"a.py": "2\n", "data": "x" * 5000, "was": "x"})
    delta = await given.delta()
    assert paths(delta) == ["a.py"]
    assert [line.partition(" ")[0] for line in delta.left_out] == ["data", "was"]


async def test_of_many_touched_files_the_small_ones_are_kept(repo, give, monkeypatch):
    files = {f"{n}.py": f"{n}\n" for n in range(9)} | {"data": "x" * 5000}
    repo.commit("base", files)
    given = await give(repo)
    monkeypatch.setattr(capture, "MAX_TOUCHED_BYTES", 100)
    for name in files:
        os.utime(repo.path / name)
    repo.write({"3.py": "4\n"})
    assert paths(await given.delta()) == ["3.py"]
    repo.write({"data": "y" * 5000})
    delta = await given.delta()
    assert delta.changes == ()
    assert "touched" in delta.why_empty


async def test_a_file_that_cannot_be_read_is_left_out(repo, give):
    repo.commit("base", {"a.py": "1\n", "b.py": "1\n"})
    given = await give(repo)
    repo.write({"a.py": "2\n", "b.py": "22\n"})
    read = given.sandbox.read_tree

    async def closed(root, paths, **options):
        found = await read(root, paths, **options)
        return [None if path == "b.py" else content for path, content in zip(paths, found, strict=True)]

    given.sandbox.read_tree = closed
    delta = await given.delta()
    assert paths(delta) == ["a.py"]
    assert delta.left_out == ("b.py (cannot be read)",)


async def test_a_work_tree_that_is_gone_is_an_empty_delta(repo, give, caplog):
    repo.commit("base", {"a.py": "1\n"})
    given = await give(repo)

    async def gone(root, **options):
        raise FileNotFoundError(root)

    given.sandbox.list_tree = gone
    delta = await given.delta()
    assert delta.changes == ()
    assert "cannot be read" in caplog.text


async def test_a_host_without_room_is_no_empty_work(repo, give, tmp_path, monkeypatch):
    repo.commit("base", {"a.py": "1\n", ".gitignore": "*.log\n"})
    given = await give(repo)
    repo.write({"a.py": "2\n", "new.py": "n\n"})
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(InfrastructureError, match="scratch directory"):
        await capture_work(given.sandbox, str(repo.path), given.tree)


async def test_a_host_without_room_makes_no_delta(repo, give, tmp_path, monkeypatch):
    repo.commit("base", {"a.py": "1\n"})
    given = await give(repo)
    repo.write({"a.py": "2\n"})
    work = await capture_work(given.sandbox, str(repo.path), given.tree)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(InfrastructureError, match="scratch directory"):
        await delta_of(work, given.untouched, given.untouched.spec.workdir)


async def test_a_sandbox_that_died_is_an_infrastructure_failure(repo, give):
    repo.commit("base", {"a.py": "1\n"})
    given = await give(repo)

    async def dead(*arguments, **options):
        raise SandboxDead("gone")

    given.sandbox.settle = dead
    with pytest.raises(SandboxDead):
        await given.delta()


async def test_a_grading_sandbox_that_is_not_like_the_given_tree_is_an_infrastructure_failure(repo, give):
    repo.commit("base", {"a.py": "1\n"})
    given = await give(repo)
    repo.write({"a.py": "2\n"})
    os.unlink(f"{given.untouched.spec.workdir}/a.py")
    with pytest.raises(GraderError, match="not in the one that grades"):
        await given.delta()


SABOTAGE = {
    "git is replaced": "printf '#!/bin/sh\\necho no\\n' >/tmp/git; chmod +x /tmp/git; cp /tmp/git $(command -v git)",
    "no shell is left": "rm -f /bin/sh /bin/bash /usr/bin/env",
    "a library is loaded into every program": "echo /tmp/evil.so >/etc/ld.so.preload; echo junk >/tmp/evil.so",
    "attributes hide the change": "printf '*.py -diff binary filter=x\\n' >.gitattributes",
    "programs keep writing": "for i in 1 2 3; do setsid sh -c 'while :; do echo x >>/tmp/x$i; done' & done",
    "the repository is gone": "rm -rf .git",
    "a pipe for every rule": "mkfifo .gitignore2 .gitattributes; rm -rf .git/info; mkfifo .git/info",
    "nobody may read": "chmod 0 calc.py new.py; chmod 0 tests .git",
}
"""Some of these cannot work where the image is read-only; what is found must be the same in any case."""


@pytest.mark.parametrize("how", SABOTAGE)
async def test_what_an_agent_does_to_its_sandbox_changes_nothing(backend, calc, how):
    async with backend.open(calc.spec()) as sandbox, backend.open(calc.spec()) as untouched:
        given = await prepare_for_agent(sandbox, calc.record)
        await sandbox.write_file("new.py", b"x\n")
        await sandbox.run(f"sed -i 's/a - b/a + b/' calc.py; {SABOTAGE[how]}", timeout_s=20)
        delta = await delta_of(await capture_work(sandbox, "/testbed", given), untouched, "/testbed")
    assert {"calc.py", "new.py"} <= set(paths(delta)) <= {"calc.py", "new.py", ".gitattributes"}
    assert "+    return a + b" in delta.patch


async def test_names_that_are_too_deep_are_left_out_and_counted(backend, calc):
    async with backend.open(calc.spec()) as sandbox, backend.open(calc.spec()) as untouched:
        given = await record_given(sandbox, "/testbed")
        deep = "mkdir -p $(printf 'd/%.0s' $(seq 200)) && touch $(printf 'd/%.0s' $(seq 200))f && echo >>calc.py"
        assert (await sandbox.run(deep, timeout_s=20)).exit_code == 0
        delta = await delta_of(await capture_work(sandbox, "/testbed", given), untouched, "/testbed")
    assert paths(delta) == ["calc.py"]
    assert "more names (are too deep" in delta.left_out[0]


@pytest.mark.parametrize("workdir", ["/tmp", "/tmp/work"])
async def test_no_file_of_ours_is_in_a_work_tree(backend, calc, workdir):
    task = calc.record.task.model_copy(update={"workdir": workdir, "base_commit": ""})
    record = calc.record.model_copy(update={"task": task})
    spec = calc.spec(workdir)
    async with backend.open(spec) as sandbox, backend.open(spec) as untouched:
        given = await prepare_for_agent(sandbox, record)
        await sandbox.run("echo hi >new.txt; seq 100000", timeout_s=20)
        delta = await delta_of(await capture_work(sandbox, workdir, given), untouched, workdir)
    assert paths(delta) == ["new.txt"]


NAMES = st.text(
    st.characters(blacklist_categories=("Cs",), blacklist_characters="/\x00"), min_size=1, max_size=12
).filter(lambda name: name not in (".", "..") and name.lower() != ".git" and len(name.encode()) < 200)
CONTENT = st.one_of(st.binary(max_size=200), st.text("ab\n\r -+@\\\u2028", max_size=60).map(str.encode))
TREES = st.dictionaries(NAMES, CONTENT, max_size=4)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=TREES, after=TREES)
async def test_any_change_of_any_tree_is_found(tmp_path_factory, make_repo, give, before, after):
    repo = make_repo(str(tmp_path_factory.mktemp("trees") / "repo"))
    repo.write(before)
    given = await give(repo)
    for name in before:
        (repo.path / name).unlink()
    repo.write(after)
    delta = await given.delta()
    hidden = {".gitignore"} & before.keys()  # its rules hold
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    assert hidden or set(paths(delta)) == changed
