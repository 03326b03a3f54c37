"""The reader of diffs knows exactly which files a diff changes, or refuses to guess."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swe_aem.grading.diff import DiffError, parse_diff, unquote


def edit(path, line="x"):
    return f"diff --git a/{path} b/{path}\n--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-old\n+{line}\n"


def paths(text):
    return [section.paths for section in parse_diff(text)]


def test_a_hunk_line_cannot_pose_as_a_header():
    inner = "diff --git a/conftest.py b/conftest.py\n--- a/conftest.py\n+++ b/conftest.py\n"
    body = "".join(f"+{line}\n" for line in inner.splitlines()) + "--- a/conftest.py\n"
    assert paths(f"diff --git a/a.txt b/a.txt\n--- a/a.txt\n+++ b/a.txt\n@@ -1 +1,3 @@\n{body}") == [("a.txt",)]


def test_text_between_files_is_dropped():
    assert paths("From: somebody\n\nA message\n" + edit("a.py") + "-- \n2.39.5\n" + edit("b.py")) == [
        ("a.py",),
        ("b.py",),
    ]


def test_lines_end_at_line_feeds_alone():
    assert paths(edit("sep.py", "a\u2028b\x0cc\x85d") + edit("crlf.py", "x\r")) == [("sep.py",), ("crlf.py",)]


def test_renames_copies_and_binary_files():
    rename = "diff --git a/a.py b/b.py\nsimilarity index 100%\nrename from a.py\nrename to b.py\n"
    copy = "diff --git a/a.py b/c.py\nsimilarity index 100%\ncopy from a.py\ncopy to c.py\n"
    binary = (
        "diff --git a/b b/b\nindex 00..11 100644\nGIT binary patch\nliteral 3\nKcmZQ!\n\nliteral 0\nHcmV?d00001\n\n"
    )
    assert paths(rename + copy + binary) == [("a.py", "b.py"), ("c.py",), ("b",)]
    assert [section.is_new for section in parse_diff(rename + copy + binary)] == [False, True, False]


@pytest.mark.parametrize(
    "patch",
    [
        "diff --git a/a.py b/a.py\n--- a/a.py\n+++ b/conftest.py\n@@ -1 +1 @@\n-a\n+b\n",
        "diff --git a/a.py b/a.py\n--- a/conftest.py\n+++ b/conftest.py\n@@ -1 +1 @@\n-a\n+b\n",
        "diff --git a/a.py b/b.py\n--- a/a.py\n+++ b/b.py\n@@ -1 +1 @@\n-a\n+b\n",
        "--- a.py\n+++ a.py\n@@ -1 +1 @@\n-a\n+b\n",
        "diff --git a/a b/a\n--- a/a\n+++ b/a\n",
        edit("a.py").replace("@@ -1 +1 @@", "@@ -1,2 +1 @@"),
        edit("a.py").replace("@@ -1 +1 @@", "@@ -1 +1,2 @@"),
        edit("a.py") + "@@ -9 +9 @@\n-a\n+b\nrubbish\n@@ -12,3 +12 @@\n-a\n",
        "@@ -1 +1 @@\n-a\n+b\n",
        "diff --git a/a.py b/a.py\nrename from a.py\nrename to a.py\nrename to b.py\n",
        "diff --git a/a.py b/a.py\nrename to conftest.py\n",
        "diff --git a/a.py b/a.py\nrename from a.py\ncopy to a.py\n",
        f"diff --git a/b b/b\nGIT binary patch\nliteral {'1' * 5000}\n",
        'diff --git "a/\\x" "b/\\x"\nold mode 100644\nnew mode 100755\n',
        "diff --git a/b b/b\nGIT binary patch\nliteral x\n",
        "diff --git a/b b/b\nGIT binary patch\nliteral 1\nnot base85 at all ...\n",
    ],
)
def test_what_cannot_be_read_without_guessing_is_refused(patch):
    with pytest.raises(DiffError):
        parse_diff(patch)


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(DiffError):
        assert all(section.paths for section in parse_diff(text))


@pytest.mark.parametrize(
    "headers",
    [
        "new file mode 100644\ndeleted file mode 100644",
        "new file mode 100644\nrename from conftest.py\nrename to a.py",
        "deleted file mode 100644\nrename from a.py\nrename to conftest.py",
    ],
)
def test_a_file_has_one_fate(headers):
    """With two of them a path would be left out of what is looked at."""
    names = ("a.py", "conftest.py") if "to conftest" in headers else ("conftest.py", "a.py")
    if "rename" not in headers:
        names = ("conftest.py", "conftest.py")
    with pytest.raises(DiffError, match="different things of what became of the file"):
        parse_diff(f"diff --git a/{names[0]} b/{names[1]}\n{headers}\n")


def test_quoted_names_are_read_as_git_writes_them():
    assert unquote('"a/\\303\\244\\t\\"\\\\"') == 'a/ä\t"\\'
    assert unquote('"\\377"') == "\udcff"
    for bad in ('"a', '"\\q"', '"\\40"', '"'):
        with pytest.raises(DiffError):
            unquote(bad)
