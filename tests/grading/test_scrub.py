"""Nothing later than HEAD survives a scrub, wherever git may have put it."""

import shutil
import subprocess

import pytest

from swe_aem.core import SandboxSpec
from swe_aem.errors import InfrastructureError
from swe_aem.grading import scrub_history
from swe_aem.testing.sandbox import FakeSandbox
from tests.waiting import cpu_s

SECRET = "the fix that must not be found"


def later_commit(repo):
    """Put a commit after the current one and go back; returns (base, later)."""
    base = repo.commit("base", {"a.py": "old\n"})
    later = repo.commit("fix", {"a.py": SECRET + "\n"})
    repo.git("reset", "-q", "--hard", base)
    return base, later


def visible(repo):
    """Everything that git can list or that lies in its directory."""
    listed = subprocess.run(
        "git log --all --reflog --format=%H; git reflog --all; git tag; git remote -v;"
        "git fsck --unreachable --no-reflogs; git cat-file --batch-all-objects --batch='%(objectname)';"
        "grep -ra . .git/config .git/packed-refs .git/logs .git/hooks",
        shell=True,
        cwd=repo.path,
        capture_output=True,
        check=False,
    )
    return (listed.stdout + listed.stderr).decode("utf-8", "replace")


PLANTS = {
    "reflog": lambda r, later: None,
    "branch": lambda r, later: r.git("branch", "future", later),
    "packed branch": lambda r, later: (r.git("branch", "future", later), r.git("pack-refs", "--all")),
    "tag": lambda r, later: r.git("tag", "v2", later),
    "annotated tag": lambda r, later: r.git("tag", "-a", "-m", SECRET, "v2", later),
    "tag of a blob": lambda r, later: r.git("tag", "blob", f"{later}:a.py"),
    "remote": lambda r, later: (
        r.git("remote", "add", "origin", "https://example.org/x.git"),
        r.git("update-ref", "refs/remotes/origin/main", later),
        r.git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main"),
    ),
    "notes": lambda r, later: r.git("notes", "add", "-m", SECRET, "HEAD"),
    "stash": lambda r, later: (r.write({"a.py": SECRET}), r.git("stash")),
    "replace": lambda r, later: r.git("replace", "HEAD", later),
    "original": lambda r, later: r.git("update-ref", "refs/original/x", later),
    "fetch head": lambda r, later: r.write({".git/FETCH_HEAD": f"{later}\tbranch 'main'\n"}),
    "orig head": lambda r, later: r.write({".git/ORIG_HEAD": f"{later}\n"}),
    "packed unreachable": lambda r, later: (r.git("repack", "-a", "-d", "-k"), r.git("prune-packed")),
    "kept pack": lambda r, later: (
        r.git("repack", "-a", "-d"),
        [p.with_suffix(".keep").write_text("") for p in (r.path / ".git/objects/pack").glob("*.pack")],
        r.git("update-ref", "-d", "refs/tags/x"),
    ),
    "promisor pack": lambda r, later: (
        r.git("repack", "-a", "-d"),
        [p.with_suffix(".promisor").write_text("") for p in (r.path / ".git/objects/pack").glob("*.pack")],
        r.git("config", "remote.origin.promisor", "true"),
        r.git("config", "extensions.partialClone", "origin"),
    ),
    "grafts": lambda r, later: r.write({".git/info/grafts": f"{later}\n"}),
    "commit graph": lambda r, later: (r.git("branch", "future", later), r.git("commit-graph", "write", "--reachable")),
    "worktree": lambda r, later: r.git("worktree", "add", "-q", str(r.path.parent / "elsewhere"), later),
    "hook": lambda r, later: r.write({".git/hooks/post-checkout": f"#!/bin/sh\n# {SECRET}\n"}),
    "blob": lambda r, later: r.git("hash-object", "-w", "--stdin", data=SECRET.encode()),
    "broken ref": lambda r, later: r.write({".git/refs/heads/broken": "1" * 40 + "\n"}),
    "merge head": lambda r, later: r.write({".git/MERGE_HEAD": f"{later}\n"}),
}


@pytest.mark.parametrize("plant", PLANTS)
async def test_scrub_removes_what_is_later(repo, at, plant):
    base, later = later_commit(repo)
    PLANTS[plant](repo, later)
    assert later in visible(repo)
    assert await scrub_history(at(repo.path), str(repo.path), base) == base
    seen = visible(repo)
    assert later not in seen
    assert SECRET not in seen
    assert "example.org/x.git" not in seen
    assert repo.git("log", "--format=%H") == base
    assert repo.git("status", "--porcelain") == ""


@pytest.mark.parametrize("left_bytes", [0, 20])
async def test_an_index_that_cannot_be_read_is_made_anew_from_head(repo, at, left_bytes):
    """Images have such, and a rollout in one could not begin."""
    base, later = later_commit(repo)
    index = repo.path / ".git/index"
    index.write_bytes(index.read_bytes()[:left_bytes])
    repo.write({"a.py": "an image may have changed files\n"})
    assert await scrub_history(at(repo.path), str(repo.path), base) == base
    assert later not in visible(repo)
    assert repo.git("status", "--porcelain").strip() == "M a.py"


async def test_objects_borrowed_from_another_repository_are_taken_in_and_the_loan_ends(make_repo, at, shell, tmp_path):
    source = make_repo("source")
    base, later = later_commit(source)
    shell("git", "clone", "-q", "--shared", source.path, tmp_path / "clone")
    clone = make_repo("clone")
    assert await scrub_history(at(clone.path), str(clone.path), base) == base
    shutil.rmtree(source.path)
    assert clone.git("show", "HEAD:a.py") == "old"
    assert later not in visible(clone)


async def test_a_submodule_is_scrubbed_too(make_repo, at, shell):
    inner = make_repo("inner")
    base, later = later_commit(inner)
    inner.git("branch", "future", later)
    outer = make_repo("outer")
    outer.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner.path), "lib")
    outer_base = outer.commit("with a submodule")
    module = outer.path / ".git/modules/lib"
    assert later in shell("git", "log", "--all", cwd=outer.path / "lib")
    assert await scrub_history(at(outer.path), str(outer.path), outer_base) == outer_base
    objects = shell("git", "--git-dir", module, "cat-file", "--batch-all-objects", "--batch-check")
    assert base in objects
    assert later not in objects


async def test_ancestors_and_their_tags_stay(repo, at):
    first = repo.commit("first", {"a.py": "1\n"})
    repo.git("tag", "v1")
    repo.git("tag", "-a", "-m", "release", "v1.1")
    base = repo.commit("base", {"a.py": "2\n"})
    later = repo.commit("later", {"a.py": "3\n"})
    repo.git("tag", "v2")
    repo.git("reset", "-q", "--hard", base)
    await scrub_history(at(repo.path), str(repo.path), base)
    assert repo.git("tag") == "v1\nv1.1"
    assert repo.git("describe") == "v1.1-1-g" + base[:7]
    assert repo.git("show", f"{first}:a.py") == "1"
    assert later not in visible(repo)


async def test_a_setup_commit_on_top_of_the_base_is_the_diff_base(repo, at):
    base = repo.commit("base", {"a.py": "1\n"})
    head = repo.commit("SWE-bench", {"setup.cfg": "x\n"})
    assert await scrub_history(at(repo.path), str(repo.path), base) == head
    assert repo.git("show", f"{base}:a.py") == "1"


async def test_a_detached_head_stays_detached(repo, at):
    base, later = later_commit(repo)
    repo.git("checkout", "-q", "--detach", base)
    repo.git("branch", "-f", "main", later)
    assert await scrub_history(at(repo.path), str(repo.path), base) == base
    assert repo.git("rev-parse", "--abbrev-ref", "HEAD") == "HEAD"
    assert later not in visible(repo)


async def test_a_base_that_the_image_does_not_have_is_not_required(repo, at):
    head = repo.commit("a tree without history", {"a.py": "1\n"})
    assert await scrub_history(at(repo.path), str(repo.path), "f" * 40) == head


async def test_staged_content_stays(repo, at):
    base = repo.commit("base", {"a.py": "1\n"})
    repo.write({"b.py": "staged\n"})
    repo.git("add", "b.py")
    await scrub_history(at(repo.path), str(repo.path), base)
    assert repo.git("show", ":b.py") == "staged"


async def test_configuration_of_the_user_has_no_say(repo, at, monkeypatch):
    base, later = later_commit(repo)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.sharedRepository")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "nonsense")
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", "/nonexistent")
    assert await scrub_history(at(repo.path), str(repo.path), base) == base
    monkeypatch.undo()
    assert later not in visible(repo)


async def test_a_head_beyond_the_base_is_refused(repo, at):
    base = repo.commit("base")
    for n in range(4):
        repo.commit(f"later {n}")
    with pytest.raises(InfrastructureError, match="4 commits ahead"):
        await scrub_history(at(repo.path), str(repo.path), base)


async def test_a_head_beside_the_base_is_refused(repo, at):
    _, later = later_commit(repo)
    with pytest.raises(InfrastructureError, match="does not contain the base commit"):
        await scrub_history(at(repo.path), str(repo.path), later)


async def test_a_directory_without_repository_is_refused(at, tmp_path):
    plain = tmp_path / "plain"
    plain.mkdir()
    with pytest.raises(InfrastructureError, match="not the top of a git repository"):
        await scrub_history(at(plain), str(plain), "f" * 40)


async def test_what_cannot_be_removed_is_named(repo, at):
    base, _ = later_commit(repo)
    blob = repo.git("rev-parse", f"{base}:a.py")
    (repo.path / ".git/objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(InfrastructureError, match="history of HEAD is incomplete"):
        await scrub_history(at(repo.path), str(repo.path), base)


async def test_a_sandbox_that_answers_without_the_token_is_not_believed():
    sandbox = FakeSandbox("x", SandboxSpec(image="x"), lambda s, c: (0, b"swe-aem-0 head " + b"a" * 40))
    with pytest.raises(InfrastructureError, match="scrub"):
        await scrub_history(sandbox, "/testbed", "a" * 40)


async def test_a_clean_small_repository_is_quick(repo, at):
    base = repo.commit("base", {"a.py": "1\n"})
    sandbox = at(repo.path)
    await scrub_history(sandbox, str(repo.path), base)
    before_s = cpu_s()
    await scrub_history(sandbox, str(repo.path), base)
    assert cpu_s() - before_s < 1.0
    assert sandbox.runs == 2
