"""The text of a delta: `git apply` makes exactly the delta out of it, whatever is in the files."""

import os
import shutil
import stat

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from swe_aem.grading.delta import EXECUTABLE, FILE, LINK, Blob, Change
from swe_aem.grading.diff import parse_diff
from swe_aem.grading.diff_text import diff_text, render_delta
from swe_aem.grading.host_git import HostGit, HostGitTimeout


def put(root, blobs):
    """Write files and links below a directory."""
    for path, blob in blobs.items():
        target = os.path.join(os.fsencode(root), path.encode("utf-8", "surrogateescape"))
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if blob.mode == LINK:
            os.symlink(blob.content, target)
            continue
        with open(target, "wb") as stream:
            stream.write(blob.content)
        os.chmod(target, blob.mode & 0o777)


def taken(root):
    """Files and links below a directory, `.git` left out."""
    found = {}
    top = os.fsencode(root)
    for directory, directories, files in os.walk(top):
        directories[:] = [name for name in directories if name != b".git"]
        for name in [*files, *(name for name in directories if os.path.islink(os.path.join(directory, name)))]:
            path = os.path.join(directory, name)
            key = os.path.relpath(path, top).decode("utf-8", "surrogateescape")
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                found[key] = Blob(LINK, os.readlink(path))
            else:
                with open(path, "rb") as stream:
                    found[key] = Blob(EXECUTABLE if mode & 0o100 else FILE, stream.read())
    return found


def changes_between(before, after):
    names = sorted({*before, *after})
    return [Change(name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)]


def assert_goes_there_and_back(make_repo, root, before, after):
    patch = diff_text(changes_between(before, after))
    patch.encode()
    repo = make_repo(str(root))
    put(repo.path, before)
    if patch:
        repo.git("apply", "-", data=patch.encode())
    assert taken(repo.path) == after
    shutil.rmtree(repo.path)
    assert bool(patch) is (before != after)
    return patch


def test_changes_of_every_kind(make_repo, tmp_path):
    before = {
        "a.py": Blob(FILE, b"1\n"), "gone": Blob(FILE, b"x\n"), "run": Blob(FILE, b"x\n"), "link": Blob(LINK, b"a.py"),
        "file then link": Blob(FILE, b"x\n"), "was a file": Blob(FILE, b"x"), "was a directory/in": Blob(FILE, b"x"),
        "latin.py": Blob(FILE, "x = 'ä'\n".encode("latin-1")), "blob": Blob(FILE, b"\0\1\2"),
    }  # fmt: skip
    after = {
        "a.py": Blob(FILE, b"2\n"), "run": Blob(EXECUTABLE, b"x\n"), "link": Blob(LINK, b"elsewhere"),
        "file then link": Blob(LINK, b"a.py"), "was a file/in": Blob(FILE, b"x"), "was a directory": Blob(FILE, b"x"),
        "latin.py": Blob(FILE, "x = 'öä'\n".encode("latin-1")), "blob": Blob(FILE, b"\0\1\3"), "empty": Blob(FILE, b""),
        "no newline": Blob(FILE, b"x"), "crlf.py": Blob(FILE, b"a\r\nb\r\n"), "new.py": Blob(EXECUTABLE, b"n\n"),
        'dir/ümläut "quoted".py': Blob(FILE, b"x\n"), "dir/with\ttab.py": Blob(FILE, b"x\n"),
        "caf\udce9": Blob(FILE, b"x\n"), "*.py": Blob(FILE, b"\xff"), ".gitattributes": Blob(FILE, b"* -diff\n"),
    }  # fmt: skip
    patch = assert_goes_there_and_back(make_repo, tmp_path / "there", before, after)
    assert "rename" not in patch
    named = {path for section in parse_diff(patch) for path in section.paths}
    assert named == {change.path for change in changes_between(before, after)}


def test_attributes_in_the_tree_hide_nothing():
    patch = diff_text(
        [
            Change(".gitattributes", None, Blob(FILE, b"*.py -diff\n* text eol=crlf\n")),
            Change("a.py", Blob(FILE, b"1\n"), Blob(FILE, b"2\n")),
        ]
    )
    assert "-1\n+2\n" in patch


def test_a_hunk_header_is_never_cut_inside_a_character():
    lines = [b"def " + "ü".encode() * 60 + b"():\n", *[b"    x\n"] * 10]
    patch = diff_text([Change("a.py", Blob(FILE, b"".join(lines)), Blob(FILE, b"".join(lines[:-1]) + b"    y\n"))])
    assert "+    y\n" in patch
    patch.encode()


def test_a_delta_has_its_changes_in_order_and_an_empty_one_has_no_text():
    one, two = (Change(name, None, Blob(FILE, b"x\n")) for name in ("a", "b"))
    assert render_delta([two, one]).changes == (one, two)
    assert render_delta([]).patch == ""


NAMES = st.text(
    st.characters(blacklist_categories=("Cs",), blacklist_characters="/\x00"), min_size=1, max_size=8
).filter(lambda name: name not in (".", "..") and not name.lower().startswith((".git", "git~")))
CONTENT = st.one_of(st.binary(max_size=200), st.text("ab\n\r -+@\\\u2028ü", max_size=60).map(str.encode))
BLOBS = st.one_of(
    st.builds(Blob, st.sampled_from([FILE, EXECUTABLE]), CONTENT),
    st.builds(Blob, st.just(LINK), st.text("ab./", min_size=1, max_size=9).map(str.encode)),
)


def without_conflicts(tree):
    """Leave out what would have to lie below a file of the same tree."""
    return {
        name: blob
        for name, blob in tree.items()
        if not any(other != name and name.startswith(f"{other}/") for other in tree)
    }


TREES = st.dictionaries(st.one_of(NAMES, st.sampled_from(["a", "b", "a/b", "a/b/c", "b/a"])), BLOBS, max_size=4).map(
    without_conflicts
)


def a_link_becomes_a_directory(before, after):
    """`git apply` refuses some of these, where the link leads round in a circle (`b -> b`) or to its own directory."""
    links = [name for name, blob in before.items() if blob.mode == LINK]
    return any(inside.startswith(f"{name}/") for name in links for inside in after)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=TREES, after=TREES)
def test_any_change_of_any_tree_goes_there_and_back(tmp_path_factory, make_repo, before, after):
    assume(not a_link_becomes_a_directory(before, after))
    assert_goes_there_and_back(make_repo, tmp_path_factory.mktemp("trees") / "there", before, after)


@pytest.mark.parametrize("leads_to", [b"c", b"c/x", b"nowhere"])
def test_a_link_becomes_a_directory(tmp_path, make_repo, leads_to):
    same = {"c/x": Blob(FILE, b"x\n")}
    before = {"a": Blob(LINK, leads_to), **same}
    assert_goes_there_and_back(make_repo, tmp_path / "there", before, {"a/b": Blob(FILE, b"b\n"), **same})


@pytest.mark.parametrize("name", ["GIT_DIR", "GIT_EXTERNAL_DIFF", "GIT_CONFIG_PARAMETERS", "GIT_OBJECT_DIRECTORY"])
def test_the_hosts_environment_changes_nothing(monkeypatch, name):
    monkeypatch.setenv(name, "/nonexistent")
    assert "+2\n" in diff_text([Change("a", Blob(FILE, b"1\n"), Blob(FILE, b"2\n"))])


def test_content_that_takes_a_line_diff_too_long_is_shown_as_binary(monkeypatch):
    """Nothing of a policy's can keep the text from being made."""
    run = HostGit.__call__

    def slow(self, *arguments, **options):
        if arguments[0] == "diff-tree" and (self.git_dir / "info/attributes").read_text() != "* -diff\n":
            raise HostGitTimeout("too slow")
        return run(self, *arguments, **options)

    monkeypatch.setattr(HostGit, "__call__", slow)
    patch = diff_text([Change("a.py", Blob(FILE, b"1\n"), Blob(FILE, b"2\n"))])
    assert "GIT binary patch" in patch


@pytest.mark.parametrize(
    "name",
    [
        ".GIT/x",
        "git~1/x",
        ".git /x",
        "a\\.git\\x",
        ".gitmodules",
        "x/.gitignore",
        "a:b",
        "-x",
        "\udcff",
        "a\nb",
        "d/" * 900 + "x",
    ],
)
def test_no_name_and_no_link_keeps_the_text_from_being_made(name):
    for new in (Blob(FILE, b"x\n"), Blob(LINK, b"/etc/passwd"), Blob(LINK, b"\xff" * 300)):
        assert diff_text([Change(name, None, new)])
