"""Hygiene takes out what a patch has no business with, names it, and leaves the rest byte for byte."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from swe_aem.core import AnswerKey
from swe_aem.grading.diff import DiffError, join, parse_diff, unquote
from swe_aem.grading.patch import MAX_BINARY_BYTES, MAX_FILE_DIFF_BYTES, clean_patch
from swe_aem.grading.rules import command_words


def edit(path, line="x"):
    return f"diff --git a/{path} b/{path}\n--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-old\n+{line}\n"


def create(path, line="x", mode="100644"):
    return f"diff --git a/{path} b/{path}\nnew file mode {mode}\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+{line}\n"


def evaluation(command):
    return f"cd /x\n: '>>>>> Start Test Output'\n{command}\n: '>>>>> End Test Output'\nrm y\n"


def make_key(**changes):
    fields = {
        "task_id": "t",
        "repo": "o/r",
        "version": "1",
        "gold_patch": edit("pkg/core.py"),
        "test_patch": edit("tests/test_core.py") + create("tests/data/new.json"),
        "eval_script": evaluation("./tests/runner.py tests/test_core.py docs"),
        "log_parser": "parse_log_pytest",
        "eval_type": "pass_and_fail",
        "fail_to_pass": ("tests/test_core.py::test_a",),
        "pass_to_pass": ("tests/test_other.py::test_b", "pkg/core.py::pkg.core.f", "test_c (tests.Case)"),
    }
    return AnswerKey.model_validate({**fields, **changes})


KEY = make_key()


@pytest.mark.parametrize(
    "section",
    [
        edit("pkg/core.py"),
        create("pkg/new.py"),
        edit("pkg/other.py") + edit("README.md"),
        create("pkg/queue.py"),
        edit("queue.py"),
        create("src/_pytest/new.py"),
        create("docs/page.rst"),
        create("a/link", "../pkg/core.py", "120000"),
        "diff --git a/run b/run\nold mode 100644\nnew mode 100755\n",
        "diff --git a/a.py b/b.py\nsimilarity index 100%\nrename from a.py\nrename to b.py\n",
        "diff --git a/empty.py b/empty.py\nnew file mode 100644\nindex 000..e69\n",
        "diff --git a/b b/b\nindex 00..11 100644\nGIT binary patch\nliteral 3\nKcmZQ!\n\nliteral 0\nHcmV?d00001\n\n",
        edit("crlf.py", "x\r"),
        edit("sep.py", "a\u2028b\x0cc\x85d"),
        edit("n") + "\\ No newline at end of file\n",
        edit("n").replace("-old\n", "-old\n\\ No newline at end of file\n"),
    ],
)
def test_ordinary_changes_stay_as_they_are(section):
    clean = clean_patch(section, KEY)
    assert clean.patch == section
    assert clean.stripped == clean.integrity == ()


STRIPPED = {
    "tests/test_core.py": "tests of the task",
    "tests/data/new.json": "tests of the task",
    "tests/test_other.py": "run by the evaluation",
    "tests/runner.py": "run by the evaluation",
    "docs/test_more.py": "run by the evaluation",
    "conftest.py": "test runner",
    "pkg/sub/conftest.py": "test runner",
    "pytest.ini": "test runner",
    "tox.ini": "test runner",
    "setup.cfg": "test runner",
    "setup.py": "test runner",
    "pyproject.toml": "test runner",
    ".coveragerc": "test runner",
    "noxfile.py": "test runner",
    "pkg/testing/runtests.py": "test runner",
    "package.json": "test runner",
    "web/jest.config.js": "test runner",
    "pkg/__pycache__/core.cpython-311.pyc": "build product",
    "pkg.egg-info/entry_points.txt": "build product",
    "tests/__init__.py": "imported with the tests",
    "tests/helper.py": "imported with the tests",
    "tests/new/native.so": "imported with the tests",
    "__init__.py": "imported with the tests",
    "random.py": "module of Python's own",
    "json/__init__.py": "module of Python's own",
}


@pytest.mark.parametrize("path", STRIPPED)
def test_files_that_decide_the_verdict_go_out_without_blame(path):
    clean = clean_patch(edit("pkg/core.py") + create(path), KEY)
    assert clean.patch == edit("pkg/core.py")
    assert len(clean.stripped) == 1
    assert clean.stripped[0].startswith(f"{path} (")
    assert STRIPPED[path] in clean.stripped[0]
    assert clean.integrity == ()


@pytest.mark.parametrize(
    "path",
    [
        "sitecustomize.py", "src/usercustomize.py", "x.pth", "../outside.py", "/etc/passwd", "a/../../b", ".git/config",
        "sub/.git/hooks/pre-commit", ".GIT/config", "pytest.py", "_pytest/__init__.py", "pluggy/__init__.py",
    ],
)  # fmt: skip
def test_what_no_task_asks_for_is_evidence(path):
    clean = clean_patch(edit("pkg/core.py") + create(path), KEY)
    assert clean.patch == edit("pkg/core.py")
    assert len(clean.stripped) == len(clean.integrity) == 1


@pytest.mark.parametrize(
    "path", ["setup.cfg", "conftest.py", "pyproject.toml", "random.py", "x.pth", "tests/runner.py"]
)
def test_what_the_gold_patch_changes_may_be_changed(path):
    key = make_key(gold_patch=create(path))
    assert clean_patch(create(path, "another"), key).patch == create(path, "another")


def test_tests_of_the_task_go_out_even_if_the_gold_patch_changes_them():
    key = make_key(gold_patch=edit("tests/test_core.py"))
    assert clean_patch(edit("tests/test_core.py"), key).patch == ""


@pytest.mark.parametrize(("old", "new"), [("conftest.py", "pkg/x.py"), ("pkg/x.py", "conftest.py")])
def test_a_rename_goes_out_if_either_end_must_not_change(old, new):
    rename = f"diff --git a/{old} b/{new}\nsimilarity index 100%\nrename from {old}\nrename to {new}\n"
    assert clean_patch(rename, KEY).patch == ""


def test_a_copy_of_a_runner_file_to_a_harmless_name_stays():
    copy = "diff --git a/conftest.py b/pkg/x.py\nsimilarity index 100%\ncopy from conftest.py\ncopy to pkg/x.py\n"
    assert clean_patch(copy, KEY).patch == copy


def test_deleting_a_runner_file_goes_out():
    gone = "diff --git a/tox.ini b/tox.ini\ndeleted file mode 100644\n--- a/tox.ini\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"
    assert clean_patch(gone, KEY).patch == ""


@pytest.mark.parametrize("target", ["/etc", "../..", "../.git/config"])
def test_links_that_lead_out_go_out(target):
    clean = clean_patch(create("pkg/link", target, "120000"), KEY)
    assert clean.patch == ""
    assert "leads out" in clean.stripped[0]


def test_submodules_and_content_that_is_not_there_go_out():
    assert "submodule" in clean_patch(create("lib", "Subproject commit 1", "160000"), KEY).stripped[0]
    binary = "diff --git a/x.png b/x.png\nindex 00..11\nBinary files a/x.png and b/x.png differ\n"
    assert "does not have its content" in clean_patch(binary, KEY).stripped[0]


def test_what_is_too_large_goes_out():
    size = MAX_BINARY_BYTES + 1
    binary = f"diff --git a/b b/b\nnew file mode 100644\nindex 0..1\nGIT binary patch\ndelta {size}\nKcmZQ!\n\n"
    assert "larger" in clean_patch(binary, KEY).stripped[0]
    assert "larger" in clean_patch(create("a.py", "x" * MAX_FILE_DIFF_BYTES), KEY).stripped[0]


@pytest.mark.parametrize("line", ["from _pytest import runner", "def pytest_runtest_makereport(item, call):"])
def test_reaching_into_the_runner_is_evidence_in_production_code_and_goes_out_of_tests(line):
    assert clean_patch(create("pkg/new.py", line), KEY).integrity
    for path in ("other/tests/helper.py", "pkg/testing/x.py", "pkg/tests/__init__.py"):
        clean = clean_patch(create(path, line) + edit("pkg/core.py"), KEY)
        assert clean.patch == edit("pkg/core.py")
        assert clean.stripped == (f"{path} (reaches into the test runner)",)
        assert not clean.integrity
    assert clean_patch(create("pkg/testing/x.py", line), make_key(gold_patch=create("pkg/testing/x.py"))).integrity
    assert not clean_patch(create("pkg/new.py", line), make_key(repo="pytest-dev/pytest")).integrity
    assert not clean_patch(create("pkg/new.py", line), make_key(gold_patch=create("a.py", line))).integrity


def test_package_files_above_tests_stay_where_they_are_production_code():
    inside = make_key(test_patch=edit("pkg/sub/tests/test_core.py"))
    for path in ("pkg/__init__.py", "pkg/sub/__init__.py"):
        assert clean_patch(edit(path), inside).patch == edit(path)
        assert clean_patch(create(path), inside).patch == ""
    assert clean_patch(edit("pkg/sub/tests/__init__.py"), inside).patch == ""
    assert clean_patch(create("pkg/other/__init__.py"), inside).patch
    beside = make_key(test_patch=edit("pkg/core_test.py"))
    assert clean_patch(create("pkg/new.py"), beside).patch


def test_a_new_name_is_a_new_file():
    rename = "diff --git a/a.py b/tests/b.py\nsimilarity index 100%\nrename from a.py\nrename to tests/b.py\n"
    assert clean_patch(rename, KEY).patch == ""


def test_a_hunk_line_cannot_pose_as_a_header():
    inner = "diff --git a/conftest.py b/conftest.py\n--- a/conftest.py\n+++ b/conftest.py\n"
    body = "".join(f"+{line}\n" for line in inner.splitlines()) + "--- a/conftest.py\n"
    patch = f"diff --git a/a.txt b/a.txt\n--- a/a.txt\n+++ b/a.txt\n@@ -1 +1,3 @@\n{body}"
    assert [section.paths for section in parse_diff(patch)] == [("a.txt",)]
    assert clean_patch(patch, KEY).patch == patch


def test_text_between_files_is_dropped():
    patch = "From: somebody\n\nA message\n" + edit("a.py") + "-- \n2.39.5\n" + edit("b.py")
    assert clean_patch(patch, KEY).patch == edit("a.py") + edit("b.py")


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
    clean = clean_patch(patch, KEY)
    assert clean.patch == ""
    assert clean.error


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text):
    clean = clean_patch(text, KEY)
    assert clean.error is not None or join(parse_diff(clean.patch)) == clean.patch


PIECES = st.sampled_from([
    "diff --git a/a.py b/a.py", "diff --git a/conftest.py b/conftest.py", "--- a/a.py", "+++ b/a.py", "--- /dev/null",
    "+++ b/conftest.py", "@@ -1 +1 @@", "@@ -0,0 +1 @@", "-x", "+y", " z", "", "\\ No newline at end of file",
    "new file mode 100644", "deleted file mode 100644", "rename from a.py", "rename to conftest.py", "GIT binary patch",
    "literal 3", "KcmZQ!", "index 00..11 120000",
])  # fmt: skip


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
    clean = clean_patch(f"diff --git a/{names[0]} b/{names[1]}\n{headers}\n", KEY)
    assert (clean.patch, clean.error) == ("", "line 1: the headers say different things of what became of the file")


@given(st.lists(PIECES, max_size=14).map("\n".join))
@example("diff --git a/conftest.py b/conftest.py\nnew file mode 100644\ndeleted file mode 100644")
def test_nothing_that_is_kept_touches_a_refused_path(text):
    """Also for diffs put together from shreds, where readers tend to disagree."""
    clean = clean_patch(text, KEY)
    assert not any(
        "conftest.py" in line for line in clean.patch.split("\n") if line[:3] in ("---", "+++", "dif", "ren")
    )
    assert clean_patch(clean.patch, KEY).patch == clean.patch


def test_quoted_names_are_read_as_git_writes_them():
    assert unquote('"a/\\303\\244\\t\\"\\\\"') == 'a/ä\t"\\'
    assert unquote('"\\377"') == "\udcff"
    for bad in ('"a', '"\\q"', '"\\40"', '"'):
        with pytest.raises(DiffError):
            unquote(bad)


def test_command_words_are_those_between_the_markers():
    script = evaluation("A=1 bin/test -C 'a b' ./t/x.py::T::m .")
    assert set(command_words(script)) == {"A=1", "bin/test", "a b", "t/x.py"}


def test_gold_patches_of_real_rows_pass_whole_and_their_test_patches_go_out_whole(dataset_rows):
    seen = 0
    for file in sorted(dataset_rows.glob("*.jsonl")):
        for line in file.read_text().split("\n"):
            if not line:
                continue
            row = json.loads(line)
            tests = {
                name.lower(): row[name] if isinstance(row[name], list) else json.loads(row[name])
                for name in ("FAIL_TO_PASS", "PASS_TO_PASS")
            }
            key = make_key(
                repo=row["repo"],
                gold_patch=row["patch"],
                test_patch=row["test_patch"],
                eval_script=row["eval_script"],
                **tests,
            )
            clean = clean_patch(row["patch"], key)
            assert (clean.patch, clean.stripped, clean.integrity) == (row["patch"], (), ()), row["instance_id"]
            assert clean_patch(row["test_patch"], key).patch == "", row["instance_id"]
            seen += 1
    assert seen >= 50
