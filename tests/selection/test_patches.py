"""Patches taken apart, and which changes are equal."""

from swe_aem.selection import read_patch

CODE = """\
diff --git a/pkg/a.py b/pkg/a.py
index 1111111..2222222 100644
--- a/pkg/a.py
+++ b/pkg/a.py
@@ -1,3 +1,3 @@ def f():
 one
-two
+three
 four
"""
TESTS = """\
diff --git a/tests/test_a.py b/tests/test_a.py
new file mode 100644
--- /dev/null
+++ b/tests/test_a.py
@@ -0,0 +1,2 @@
+def test():
+    pass
diff --git a/tests/data.txt b/tests/data.txt
new file mode 100644
--- /dev/null
+++ b/tests/data.txt
@@ -0,0 +1 @@
+x
"""


def test_tests_and_program_are_told_apart() -> None:
    patch = read_patch(CODE + TESTS)
    assert (patch.code, patch.tests, patch.test_files) == (CODE, TESTS, ("tests/test_a.py",))
    assert patch.text == CODE + TESTS


def test_equal_changes_have_one_key() -> None:
    elsewhere = CODE.replace("@@ -1,3 +1,3 @@ def f():", "@@ -7,3 +9,3 @@").replace("2222222", "3333333")
    around = elsewhere.replace(" four\n", " five\n").replace("+three\n", "+three  \n")
    keys = {read_patch(text).key for text in (CODE, CODE + TESTS, elsewhere, around)}
    assert len(keys) == 1
    other_file = CODE.replace("pkg/a.py", "pkg/b.py")
    other_line = CODE.replace("+three", "+ three")
    assert len({read_patch(text).key for text in (CODE, other_file, other_line)}) == 3


def test_tests_alone_change_nothing_of_the_program() -> None:
    assert read_patch(TESTS).empty
    assert read_patch("").empty
    assert not read_patch(CODE).empty


def test_what_is_no_diff_stays_whole() -> None:
    patch = read_patch("--- a/x\n+++ b/x\nno hunk\n")
    assert (patch.code, patch.tests, patch.empty) == (patch.text, "", False)
