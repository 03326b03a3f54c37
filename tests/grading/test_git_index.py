"""The index parser reads what git writes in every version, and never fails on what git did not write."""

import hashlib
import os
import random
import struct
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swe_aem.grading.git_index import MAX_INDEX_ENTRIES, index_names

FILES = {
    "a.py": "1\n",
    "dir/b.py": "2\n",
    'dir/ümläut "q".py': "3\n",
    "dir/" + "x" * 150: "4\n",
    "lib/forced": "5\n",
    "z": "6\n",
}


def index_of(repo):
    return (repo.path / ".git/index").read_bytes()


@pytest.mark.parametrize("version", ["2", "3", "4"])
def test_names_are_those_that_git_lists(repo, version):
    repo.write({**FILES, ".gitignore": "lib/\n"})
    (repo.path / "link").symlink_to("a.py")
    repo.git("add", "-f", ".")
    repo.git("update-index", f"--index-version={version}")
    if version == "3":  # git writes version 3 only where an entry needs it
        repo.write({"later": "7\n"})
        repo.git("add", "-N", "later")
        repo.git("update-index", "--skip-worktree", "z")
    data = index_of(repo)
    assert data[4:8] == struct.pack(">I", int(version))
    listed = repo.git("ls-files", "-z").split("\0")
    assert index_names(data) == {name for name in listed if name} >= {*FILES, "link"}


def test_names_of_a_repository_with_sha256(tmp_path):
    subprocess.run(["git", "init", "-q", "--object-format=sha256", str(tmp_path)], check=True)
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    subprocess.run(["git", "add", "-A"], cwd=tmp_path, check=True)
    assert index_names((tmp_path / ".git/index").read_bytes()) == set(FILES)


def test_submodules_and_unfinished_merges_are_no_files(repo, make_repo):
    base = repo.commit("base", {"a": "1\n", "b": "1\n"})
    repo.commit("one", {"a": "2\n"})
    repo.git("checkout", "-q", "-b", "other", base)
    repo.commit("two", {"a": "3\n"})
    with pytest.raises(subprocess.CalledProcessError):
        repo.git("merge", "-q", "main")
    repo.git("update-index", "--add", "--cacheinfo", f"160000,{base},sub")
    assert index_names(index_of(repo)) == {"b"}


def test_bytes_that_are_not_utf8_are_kept(repo):
    name = b"caf\xe9"
    with open(os.path.join(os.fsencode(repo.path), name), "wb"):
        pass
    repo.git("add", "-A")
    assert index_names(index_of(repo)) == {"caf\udce9"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"DIRC",
        b"junk" * 100,
        b"DIRC" + struct.pack(">II", 5, 1) + bytes(200),
        b"DIRC" + struct.pack(">II", 2, MAX_INDEX_ENTRIES + 1) + bytes(200),
        b"DIRC" + struct.pack(">II", 2, 1000) + bytes(200),
    ],
)
def test_what_is_no_index_has_no_names(data):
    assert index_names(data) == frozenset()


def test_any_damage_is_no_exception_and_gives_no_name_that_leads_out(repo):
    repo.commit("base", FILES)
    for version in ("2", "4"):
        repo.git("update-index", f"--index-version={version}")
        sound = index_of(repo)
        dice = random.Random(7)
        for _ in range(1500):
            data = bytearray(sound[: dice.randrange(len(sound))] if dice.random() < 0.3 else sound)
            for _ in range(dice.randrange(1, 6)):
                if data:
                    data[dice.randrange(len(data))] = dice.randrange(256)
            for name in index_names(bytes(data)):
                assert name
                assert not {"", ".", ".."} & set(name.split("/"))


@given(st.binary(max_size=400), st.integers(0, 5), st.integers(0, 4))
def test_any_bytes_behind_a_header(body, version, count):
    names = index_names(b"DIRC" + struct.pack(">II", version, count) + body + hashlib.sha1(body).digest())
    assert len(names) <= count


def test_names_that_repeat_the_one_before_them_cannot_fill_the_memory(monkeypatch):
    prefix = b"a/" * 2000

    def entry(name, dropped):
        stat = struct.pack(">10I", 0, 0, 0, 0, 0, 0, 0o100644, 0, 0, 0)
        return stat + bytes(20) + struct.pack(">H", 0) + bytes([dropped]) + name + b"\0"

    count = 3000
    entries = [entry(prefix + b"000000", 0), *(entry(b"%06d" % number, 6) for number in range(1, count))]
    data = b"DIRC" + struct.pack(">II", 4, count) + b"".join(entries) + bytes(20)
    assert len(index_names(data)) == count
    monkeypatch.setattr("swe_aem.grading.git_index.MAX_INDEX_BYTES", 1 << 20)
    assert index_names(data) == frozenset()
