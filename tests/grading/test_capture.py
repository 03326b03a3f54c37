"""What capture finds applies again and gives the same tree, whatever an agent left behind."""

import os
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swe_aem.core import SandboxSpec
from swe_aem.errors import SandboxDead
from swe_aem.grading import capture_patch, scrub_history
from swe_aem.grading.diff import join, parse_diff
from swe_aem.sandbox import open_backend
from swe_aem.testing.sandbox import FakeSandbox


@pytest.fixture
def captured(repo, at):
    """Capture the repository's changes since a commit."""

    async def run(base, **options):
        return await capture_patch(at(repo.path), str(repo.path), base, **options)

    return run


def assert_applies(make_repo, repo, base, patch):
    """The patch, applied to a checkout of `base` and staged, gives the tree of the work tree."""
    fresh = make_repo("fresh")
    fresh.git("fetch", "-q", str(repo.path), base)
    fresh.git("checkout", "-q", base)
    fresh.git("apply", "--index", "-", data=patch.encode())
    repo.git("add", "-A")
    assert fresh.git("write-tree") == repo.git("write-tree")


async def test_changes_of_every_kind_are_found(repo, make_repo, captured):
    base = repo.commit(
        "base", {"a.py": "1\n", "gone.py": "1\n", "moved.py": "1\n2\n3\n", "run": "x\n", "kept.py": "k\n"}
    )
    repo.write({"a.py": "2\n", "new.py": "n\n", "blob": b"\x00\xff\n", "no newline": "x", "crlf.py": "a\r\nb\r\n"})
    repo.write({'dir/ümläut "quoted".py': "x\n", "dir/with\ttab.py": "x\n"})
    (repo.path / "gone.py").unlink()
    (repo.path / "moved.py").rename(repo.path / "there.py")
    (repo.path / "run").chmod(0o755)
    (repo.path / "link").symlink_to("a.py")
    patch = await captured(base)
    assert {path for section in parse_diff(patch) for path in section.paths} == {
        "a.py", "gone.py", "moved.py", "there.py", "run", "new.py", "blob", "no newline", "crlf.py", "link",
        'dir/ümläut "quoted".py', "dir/with\ttab.py",
    }  # fmt: skip
    assert "rename" not in patch
    assert_applies(make_repo, repo, base, patch)


async def test_commits_and_staged_changes_count(repo, captured):
    base = repo.commit("base", {"a.py": "1\n"})
    repo.commit("of the agent", {"a.py": "2\n"})
    repo.write({"b.py": "staged\n"})
    repo.git("add", "b.py")
    repo.git("checkout", "-q", "-b", "elsewhere")
    patch = await captured(base)
    assert "+2" in patch
    assert "+staged" in patch


async def test_no_change_is_an_empty_patch(repo, captured):
    base = repo.commit("base", {"a.py": "1\n", "lib.so": b"\x00"})
    assert await captured(base) == ""


async def test_ignored_files_stay_out_by_every_list_of_the_repository(repo, captured):
    base = repo.commit("base", {".gitignore": "*.log\n", ".git/info/exclude": "*.tmp\n"})
    repo.write({"x.log": "1\n", "x.tmp": "1\n", "x.py": "1\n"})
    assert [section.new_path for section in parse_diff(await captured(base))] == ["x.py"]


async def test_a_new_virtual_environment_stays_out(repo, captured):
    base = repo.commit("base", {"a.py": "1\n"})
    repo.write({"my env/pyvenv.cfg": "", "my env/lib/x.py": "1\n", "deep/er/pyvenv.cfg": "", "b.py": "1\n"})
    new = [section.new_path for section in parse_diff(await captured(base))]
    assert new == ["b.py", "deep/er/pyvenv.cfg"]


HOSTILE = {
    "index lock": lambda r: r.write({".git/index.lock": ""}),
    "broken index": lambda r: r.write({".git/index": "junk"}),
    "no index": lambda r: (r.path / ".git/index").unlink(),
    "external diff": lambda r: r.git("config", "diff.external", "true"),
    "no prefix": lambda r: r.git("config", "diff.noprefix", "true"),
    "mnemonic prefix": lambda r: r.git("config", "diff.mnemonicPrefix", "true"),
    "colour": lambda r: r.git("config", "color.ui", "always"),
    "renames": lambda r: r.git("config", "diff.renames", "copies"),
    "hooks": lambda r: (r.git("config", "core.hooksPath", "."), r.write({".git/hooks/pre-commit": "exit 1\n"})),
    "autocrlf": lambda r: r.git("config", "core.autocrlf", "true"),
    "fsmonitor": lambda r: r.git("config", "core.fsmonitor", "false"),
    "filter": lambda r: (
        r.git("config", "filter.x.clean", "cat /dev/null"),
        r.git("config", "filter.x.required", "true"),
        r.write({".git/info/attributes": "* filter=x\n"}),
    ),
    "textconv": lambda r: (r.git("config", "diff.x.textconv", "wc"), r.write({".git/info/attributes": "* diff=x\n"})),
    "hidden by attributes": lambda r: r.write({".git/info/attributes": "* -diff -text\n"}),
    "work tree elsewhere": lambda r: r.git("config", "core.worktree", "/nonexistent"),
    "bare": lambda r: r.git("config", "core.bare", "true"),
    "broken configuration": lambda r: r.write({".git/config": "[core\n"}),
    "assumed unchanged": lambda r: r.git("update-index", "--assume-unchanged", "a.py"),
    "skipped": lambda r: r.git("update-index", "--skip-worktree", "a.py"),
    "detached": lambda r: r.git("checkout", "-q", "--detach"),
    "unborn branch": lambda r: r.git("symbolic-ref", "HEAD", "refs/heads/nothing"),
    "broken head": lambda r: r.write({".git/HEAD": "junk\n"}),
    "no refs": lambda r: shutil.rmtree(r.path / ".git/refs"),
    "merge under way": lambda r: r.write({".git/MERGE_HEAD": "1" * 40}),
    "nested repository": lambda r: (os.mkdir(r.path / "sub"), r.git("init", "-q", "sub"), r.write({"sub/f": "1"})),
    "fifo": lambda r: os.mkfifo(r.path / "fifo"),
    "fifo for .gitignore": lambda r: os.mkfifo(r.path / ".gitignore"),
    "fifo for attributes": lambda r: os.mkfifo(r.path / ".gitattributes"),
    "fifo for the configuration": lambda r: ((r.path / ".git/config").unlink(), os.mkfifo(r.path / ".git/config")),
    "fifo for alternates": lambda r: os.mkfifo(r.path / ".git/objects/info/alternates"),
    "fifo for excludes": lambda r: (
        (r.path / ".git/info/exclude").unlink(missing_ok=True),
        os.mkfifo(r.path / ".git/info/exclude"),
    ),
    "repacked": lambda r: (r.git("repack", "-a", "-d"), r.git("prune-packed")),
    "replaced base": lambda r: r.git("replace", "HEAD", r.git("commit-tree", "-m", "x", "HEAD^{tree}")),
    "large file": lambda r: r.write({"core dump [1].bin": b"x" * (2 << 20), "-rf": b"x" * (2 << 20)}),
}


@pytest.mark.parametrize("state", HOSTILE)
async def test_the_state_of_the_repository_does_not_change_the_patch(repo, captured, state):
    base = repo.commit("base", {"a.py": "1\n"})
    (repo.path / "a.py").write_text("2\n")
    HOSTILE[state](repo)
    patch = await captured(base)
    assert [section.paths for section in parse_diff(patch)] == [("a.py",)], patch
    assert patch.startswith("diff --git a/a.py b/a.py\nindex ")
    assert patch.endswith("@@ -1 +1 @@\n-1\n+2\n")


async def test_the_environment_does_not_change_the_patch(repo, captured, monkeypatch):
    base = repo.commit("base", {"a.py": "1\n"})
    repo.write({"a.py": "2\n"})
    for name, value in {"GIT_EXTERNAL_DIFF": "true", "GIT_DIR": "/nonexistent", "GIT_INDEX_FILE": "/dev/null"}.items():
        monkeypatch.setenv(name, value)
    assert "+2" in await captured(base)


async def test_the_agents_repository_is_not_written_to(repo, captured):
    base = repo.commit("base", {"a.py": "1\n"})
    repo.write({"a.py": "2\n", "b.py": "new\n"})
    before = sorted((str(path), path.stat().st_mtime_ns) for path in (repo.path / ".git").rglob("*"))
    await captured(base)
    assert sorted((str(path), path.stat().st_mtime_ns) for path in (repo.path / ".git").rglob("*")) == before


@pytest.mark.parametrize("damage", [".git", ".git/objects"])
async def test_without_the_repository_the_patch_is_empty_and_the_log_says_why(repo, captured, caplog, damage):
    base = repo.commit("base", {"a.py": "1\n"})
    shutil.rmtree(repo.path / damage)
    assert await captured(base) == ""
    assert "no patch" in caplog.text


async def test_an_unknown_base_gives_an_empty_patch(repo, captured, caplog):
    repo.commit("base", {"a.py": "1\n"})
    assert await captured("f" * 40) == ""
    assert "the base commit is not there" in caplog.text


async def test_a_patch_above_the_bound_is_dropped(repo, captured, caplog):
    base = repo.commit("base", {"a.py": "1\n"})
    repo.write({"a.py": "2\n" * 1000})
    assert await captured(base, max_bytes=1000) == ""
    assert "dropped" in caplog.text


async def test_text_that_is_not_utf8_survives_in_valid_text(repo, make_repo, captured):
    base = repo.commit("base", {"latin [1].py": "x = 'ä'\n".encode("latin-1"), "a.py": "1\n"})
    repo.write({"latin [1].py": "x = 'öä'\n".encode("latin-1"), "a.py": "2 # ü\n"})
    patch = await captured(base)
    patch.encode()
    assert "GIT binary patch" in patch
    assert "+2 # ü" in patch
    assert_applies(make_repo, repo, base, patch)


async def test_a_capture_that_does_not_come_to_its_end_gives_an_empty_patch(caplog):
    assert await capture_patch(FakeSandbox("x", SandboxSpec(image="x")), "/testbed", "f" * 40) == ""
    assert "did not finish" in caplog.text


async def test_a_sandbox_that_died_is_our_fault(repo, at):
    base = repo.commit("base", {"a.py": "1\n"})
    sandbox = at(repo.path)
    await sandbox.close()
    with pytest.raises(SandboxDead):
        await capture_patch(sandbox, str(repo.path), base)


async def test_a_patch_that_cannot_be_read_is_empty(repo, at, caplog):
    base = repo.commit("base", {"a.py": "1\n"})
    sandbox = at(repo.path)

    async def gone(path, *, max_bytes=0):
        raise FileNotFoundError(path)

    sandbox.read_file = gone
    assert await capture_patch(sandbox, str(repo.path), base) == ""
    assert "cannot be read" in caplog.text


SABOTAGE = [
    pytest.param("bubblewrap", "mkfifo .gitignore", True, marks=pytest.mark.bubblewrap),
    pytest.param("docker", "printf '#!/bin/sh\\necho x\\n' >/usr/bin/stat", True, marks=pytest.mark.docker),
    pytest.param("docker", "rm -f /bin/bash", False, marks=pytest.mark.docker),
    pytest.param(
        "docker",
        "printf '#!/bin/sh\\nsleep 60\\n' >\"$(command -v git)\"",
        False,
        marks=[pytest.mark.docker, pytest.mark.slow],
    ),
]


@pytest.mark.parametrize(("kind", "command", "survives"), SABOTAGE)
async def test_what_an_agent_does_to_its_sandbox_is_its_own_loss(request, calc, caplog, kind, command, survives):
    request.getfixturevalue(f"require_{kind}")
    async with open_backend(kind).open(calc.spec()) as sandbox:
        base = await scrub_history(sandbox, "/testbed", calc.record.task.base_commit)
        await sandbox.write_file("new.py", b"x\n")
        await sandbox.run(command, timeout_s=10)
        patch = await capture_patch(sandbox, "/testbed", base, timeout_s=8)
    assert ("new.py" in patch) is survives
    assert survives or "no patch" in caplog.text


NAMES = st.text(
    st.characters(blacklist_categories=("Cs",), blacklist_characters="/\x00\n\r"), min_size=1, max_size=12
).filter(lambda name: name not in (".", "..") and not name.lower().startswith(".git") and len(name.encode()) < 200)
CONTENT = st.one_of(st.binary(max_size=200), st.text("ab\n\r -+@\\\u2028", max_size=60).map(str.encode))
TREES = st.dictionaries(NAMES, CONTENT, max_size=4)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=TREES, after=TREES)
async def test_any_change_of_any_tree_goes_there_and_back(tmp_path_factory, make_repo, at, before, after):
    root = tmp_path_factory.mktemp("trees")
    repo = make_repo(str(root / "repo"))
    base = repo.commit("base", before)
    for name in before:
        (repo.path / name).unlink()
    repo.write(after)
    patch = await capture_patch(at(repo.path), str(repo.path), base)
    sections = parse_diff(patch)
    assert join(sections) == patch
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    assert {path for section in sections for path in section.paths} == changed
    if patch:
        assert_applies(lambda name: make_repo(str(root / name)), repo, base, patch)
