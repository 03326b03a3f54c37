"""Hygiene leaves out what a patch has no business with, names it, and keeps the rest."""

import re
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swe_aem.core import AnswerKey
from swe_aem.grading.configuration_files import CONFIGURATION_FILES, matches
from swe_aem.grading.delta import EXECUTABLE, FILE, LINK, Blob, Change, Delta
from swe_aem.grading.hygiene import MAX_NEW_FILE_BYTES, clean_delta
from swe_aem.grading.rules import command_words


def blob(text="x", mode=FILE):
    return Blob(mode, text if isinstance(text, bytes) else f"{text}\n".encode())


def edit(path, text="x"):
    return Change(path, blob("old"), blob(text))


def create(path, text="x", mode=FILE):
    return Change(path, None, blob(text, mode))


def remove(path):
    return Change(path, blob("old"), None)


def clean(changes, key, **options):
    return clean_delta(Delta(tuple(changes) if isinstance(changes, list) else (changes,)), key, **options)


def diff_of(*paths, is_new=False):
    """A diff that names these paths."""
    head = "new file mode 100644\n--- /dev/null\n" if is_new else ""
    return "".join(
        f"diff --git a/{path} b/{path}\n{head or f'--- a/{path}' + chr(10)}+++ b/{path}\n"
        + ("@@ -0,0 +1 @@\n+x\n" if is_new else "@@ -1 +1 @@\n-old\n+x\n")
        for path in paths
    )


def evaluation(command):
    return f"cd /x\n: '>>>>> Start Test Output'\n{command}\n: '>>>>> End Test Output'\nrm y\n"


def make_key(**changes):
    fields = {
        "task_id": "t",
        "repo": "o/r",
        "version": "1",
        "gold_patch": diff_of("pkg/core.py"),
        "test_patch": diff_of("tests/test_core.py") + diff_of("tests/data/new.json", is_new=True),
        "eval_script": evaluation("./tests/runner.py tests/test_core.py docs"),
        "log_parser": "parse_log_pytest",
        "eval_type": "pass_and_fail",
        "fail_to_pass": ("tests/test_core.py::test_a",),
        "pass_to_pass": ("tests/test_other.py::test_b", "pkg/core.py::pkg.core.f", "test_c (tests.Case)"),
    }
    return AnswerKey.model_validate({**fields, **changes})


KEY = make_key()


@pytest.mark.parametrize(
    "change",
    [
        edit("pkg/core.py"), create("pkg/new.py"), edit("README.md"), create("pkg/queue.py"), edit("queue.py"),
        create("src/_pytest/new.py"), create("docs/page.rst"), remove("pkg/old.py"), create("reproduce.py"),
        create("repro/test_issue.py"), create("newpackage/__init__.py"), create("empty.py", b""),
        create("run", mode=EXECUTABLE), Change("run", blob(), blob(mode=EXECUTABLE)), create("blob.bin", b"\0\1\2\xff"),
        Change("link", blob(b"a", LINK), None), edit("tests/helper.py"), create("logo.png", b"\x89PNG\r\n\x1a\n\0\0"),
        create("MZ.txt", b"MZ is a name" * 9), create("crlf.txt", b"a,\r\nb,\r\n"), create("src/vendored.py"),
        create(".gitignore"), create("odd \udcff name.py"), create("requirements.txt"), edit("building/x.py"),
    ],
)  # fmt: skip
def test_ordinary_changes_are_accepted(change):
    result = clean(change, KEY)
    assert result.accepted == (change,)
    assert result.refused == result.integrity == ()


REFUSED = {
    "tests/test_core.py": "tests of the task",
    "tests/data/new.json": "tests of the task",
    "tests": "tests of the task",
    "tests/test_core.py/x": "tests of the task",
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
    "pkg/__pycache__/core.cpython-311.pyc": "compiled code",
    "pkg.egg-info/entry_points.txt": "register a plugin",
    "sitecustomize.py": "whenever Python starts",
    "sitecustomize/__init__.py": "whenever Python starts",
    "sitecustomize.cpython-311-x86_64-linux-gnu.so": "whenever Python starts",
    "src/usercustomize.py": "whenever Python starts",
    "x.pth": "whenever Python starts",
    "tests/__init__.py": "loaded with the tests",
    "tests/helper_of_mine.py": "loaded with the tests",
    "tests/deep/er/native.so": "loaded with the tests",
    "__init__.py": "loaded with the tests",
    "pytest.py": "test runner",
    "_pytest/__init__.py": "test runner",
    "pluggy/__init__.py": "test runner",
    "random.py": "module of Python's own",
    "json/__init__.py": "module of Python's own",
    ".gitattributes": "configures git",
    "sub/.gitattributes": "configures git",
    ".gitmodules": "configures git",
    "package.json": "test runner",
    "web/jest.config.js": "test runner",
    "vitest.config.ts": "test runner",
    ".mocharc.yml": "test runner",
    "packages/a/tsconfig.build.json": "compiled or loaded",
    "node_modules/jest/index.js": "installed package",
    "go.mod": "the build",
    "vendor/github.com/x/y.go": "installed package",
    "Cargo.toml": "the build",
    "crates/a/build.rs": "the build",
    ".cargo/config.toml": "the build",
    ".config/nextest.toml": "test runner",
    "pom.xml": "the build",
    "app/build.gradle.kts": "the build",
    "gradle/wrapper/gradle-wrapper.properties": "the build",
    "src/main/resources/META-INF/services/org.junit.platform.launcher.TestExecutionListener": "test runner",
    "spec/spec_helper.rb": "test runner",
    ".rspec": "test runner",
    "Gemfile.lock": "the build",
    "x.gemspec": "the build",
    "phpunit.xml.dist": "test runner",
    "composer.json": "installation",
    "CMakeLists.txt": "the build",
    "cmake/Modules.cmake": "the build",
    "src/Makefile": "the build",
    "configure.ac": "the build",
}


@pytest.mark.parametrize("path", REFUSED)
def test_files_that_decide_the_verdict_are_refused_without_blame(path):
    result = clean([edit("pkg/core.py"), create(path)], KEY)
    assert result.accepted == (edit("pkg/core.py"),)
    assert len(result.refused) == 1
    assert result.refused[0].startswith(f"{path} (")
    assert REFUSED[path] in result.refused[0]
    assert result.integrity == ()


def test_every_kind_of_configuration_has_patterns_that_match_a_path():
    for kind in CONFIGURATION_FILES:
        for pattern in kind.patterns:
            path = re.sub(r"\[.*?\]|\*", "x", pattern)
            assert matches(path, (pattern,)), pattern
            assert matches(f"deep/er/{path}", (pattern,)), pattern
            assert not matches(f"{path}.of/another", (pattern,)) or pattern.endswith("*"), pattern


@pytest.mark.parametrize(
    "path", ["setup.cfg", "conftest.py", "go.mod", "random.py", "x.pth", "tests/runner.py", "a.so"]
)
def test_what_the_gold_patch_changes_may_be_changed(path):
    key = make_key(gold_patch=diff_of(path, is_new=True))
    assert clean(create(path, "another"), key).accepted
    assert clean(remove(path), key).accepted


def test_tests_of_the_task_are_refused_even_if_the_gold_patch_changes_them():
    assert not clean(edit("tests/test_core.py"), make_key(gold_patch=diff_of("tests/test_core.py"))).accepted


def test_removing_a_runner_file_is_refused():
    assert not clean(remove("tox.ini"), KEY).accepted


def test_a_command_instead_of_a_gold_patch_lets_the_build_through():
    """Nobody knows then which of these the solution makes; what steers the runner stays refused."""
    key = make_key(gold_patch="", gold_command="bash /solution/solve.sh")
    for change in (
        create("Makefile"),
        create("link", b"a", LINK),
        create("prog", b"\x7fELF\2"),
        create("package-lock.json"),
    ):
        assert clean(change, key).accepted, change.path
    for path in ("conftest.py", "sitecustomize.py", ".gitattributes"):
        assert not clean(create(path), key).accepted


@pytest.mark.parametrize("target", [b"/etc", b"../..", b"pkg/core.py", b"almanac/_compat"])
def test_new_links_are_refused_wherever_they_lead(target):
    for change in (
        create("pluggy", target, LINK),
        Change("a", blob(), blob(target, LINK)),
        Change("l", blob(b"x", LINK), blob(target, LINK)),
    ):
        assert clean(change, KEY).refused == (f"{change.path} (is a new link)",)
    assert clean(create("pluggy", target, LINK), make_key(gold_patch=diff_of("pluggy", is_new=True))).accepted


@pytest.mark.parametrize(
    "content",
    [
        b"\x7fELF\2\1\1", b"\xcf\xfa\xed\xfe\7", b"\xca\xfe\xba\xbe\0", b"MZ" + bytes(58) + b"\x40\0\0\0PE\0\0",
        b"\xa7\r\r\n\0\0\0\0abc", b"\xcb\r\r\n\1\0\0\0abc", b"\0asm\1", b"!<arch>\nx", b"BC\xc0\xde", b"\x1bLuaS",
    ],
)  # fmt: skip
def test_compiled_code_is_refused_by_its_content_whatever_its_name(content):
    assert clean(create("data/words.txt", content), KEY).refused == ("data/words.txt (is compiled code)",)
    assert clean(edit("data/words.txt", content), KEY).refused


@pytest.mark.parametrize(
    "name", ["lib.so", "lib.so.1.2", "pluggy.abi3.so", "a.dll", "A.class", "a.jar", "m.pyc", "x.node"]
)
def test_compiled_code_is_refused_by_its_name_whatever_its_content(name):
    assert clean(create(f"pkg/{name}"), KEY).refused


def test_new_files_that_are_too_large_are_refused():
    large = create("data.json", b"x" * (MAX_NEW_FILE_BYTES + 1))
    assert "larger" in clean(large, KEY).refused[0]
    assert clean(Change("data.json", blob(), large.new), KEY).accepted
    assert clean(large, make_key(gold_patch=diff_of("data.json", is_new=True))).accepted


def test_what_is_above_or_below_a_refused_path_is_refused_with_it():
    """A file that became a directory cannot be written while the file stays, and the reverse."""
    result = clean([remove("conftest.py"), create("conftest.py/x.py"), edit("pkg/core.py")], KEY)
    assert result.accepted == (edit("pkg/core.py"),)
    result = clean([create("pkg"), remove("pkg/conftest.py"), remove("pkg/core.py")], KEY)
    assert result.accepted == (remove("pkg/core.py"),)


def test_what_the_grader_writes_is_protected_with_everything_in_its_way():
    for path in ("run.sh", "run.sh/x", "run.sh.d", "sub/tests"):
        accepted = clean(create(path), KEY, protected=["run.sh", "sub/tests/one.sh"]).accepted
        assert bool(accepted) is (path == "run.sh.d"), path
    assert not clean(create("r2e/x"), make_key(hidden=("r2e", "/outside"))).accepted


def test_names_are_judged_by_the_rule_that_is_given():
    def rule(path):
        return "would be imported in place of an installed module" if path.split("/")[0] == "yaml" else None

    assert clean(create("yaml/__init__.py"), KEY, name_rule=rule).refused
    assert clean(create("random.py"), KEY, name_rule=rule).accepted
    assert clean(edit("yaml/__init__.py"), KEY, name_rule=rule).accepted


def test_what_was_left_out_before_is_listed_too():
    delta = Delta((create("a.py"),), left_out=(".venv (is a new virtual environment)",))
    assert clean_delta(delta, KEY).refused == (".venv (is a new virtual environment)",)


MACHINERY = ["from _pytest import runner", "def pytest_runtest_makereport(item, call):"]


@pytest.mark.parametrize("line", MACHINERY)
def test_reaching_into_the_runner_is_evidence_in_production_code_and_refused_in_tests(line):
    assert clean(create("pkg/new.py", line), KEY).integrity
    assert clean(Change("pkg/core.py", blob(b"x\n" + b"\xff"), blob(f"{line}\n".encode() + b"\xff")), KEY).integrity
    for path in ("other/tests/helper.py", "pkg/testing/x.py", "pkg/tests/util.py"):
        result = clean([create(path, line), edit("pkg/core.py")], KEY)
        assert result.accepted == (edit("pkg/core.py"),)
        assert result.refused == (f"{path} (reaches into the test runner)",)
        assert not result.integrity
    assert clean(create("pkg/testing/x.py", line), make_key(gold_patch=diff_of("pkg/testing/x.py"))).integrity
    assert not clean(create("pkg/new.py", line), make_key(repo="pytest-dev/pytest")).integrity
    gold = diff_of("a.py").replace("+x\n", f"+{line}\n")
    assert not clean(create("pkg/new.py", line), make_key(gold_patch=gold)).integrity


@pytest.mark.parametrize("line", MACHINERY)
def test_what_was_there_before_or_is_no_code_is_no_evidence(line):
    before = blob(f"{line}\n    a = 1")
    assert not clean(Change("pkg/plugin.py", before, blob(f"{line}\n    a = 2")), KEY).integrity
    assert not clean(Change("pkg/plugin.py", before, None), KEY).integrity
    assert not clean(create("docs/how.rst", line), KEY).integrity


def test_attributes_do_not_blind_the_search():
    """It looks at contents, so `.gitattributes` with `*.py -diff` hides nothing."""
    result = clean([create(".gitattributes", "*.py -diff"), create("pkg/new.py", MACHINERY[0])], KEY)
    assert result.integrity
    assert result.refused == (".gitattributes (configures git, which the evaluation runs)",)


def test_package_files_above_tests_stay_where_they_are_production_code():
    inside = make_key(test_patch=diff_of("pkg/sub/tests/test_core.py"))
    for path in ("pkg/__init__.py", "pkg/sub/__init__.py"):
        assert clean(edit(path), inside).accepted
        assert not clean(create(path), inside).accepted
    assert not clean(edit("pkg/sub/tests/__init__.py"), inside).accepted
    assert clean(create("pkg/other/__init__.py"), inside).accepted
    beside = make_key(test_patch=diff_of("pkg/core_test.py"))
    assert clean(create("pkg/new.py"), beside).accepted


@pytest.mark.parametrize(
    ("tests", "path", "accepted"),
    [
        ("pkg/core_test.go", "pkg/main_test.go", False),
        ("pkg/core_test.go", "pkg/new.go", True),
        ("pkg/core_test.go", "other/main_test.go", True),
        ("spec/models/user_spec.rb", "spec/support/patch.rb", False),
        ("src/test/java/a/ATest.java", "src/test/resources/x.properties", False),
        ("src/test/java/a/ATest.java", "src/main/java/a/B.java", True),
        ("src/__tests__/a.spec.ts", "src/__tests__/setup.ts", False),
        ("src/a.spec.ts", "src/b.ts", True),
        ("tests/unit/test_a.py", "tests/plugin.py", False),
        ("spec/tests/test_a.py", "spec/new.py", True),
        ("core/src/test/java/query/spec/ATest.java", "core/src/main/java/query/spec/B.java", True),
    ],
)
def test_new_files_among_the_tests_are_refused_in_every_language(tests, path, accepted):
    key = make_key(test_patch=diff_of(tests), eval_script=evaluation("run"), fail_to_pass=("a",), pass_to_pass=())
    assert bool(clean(create(path), key).accepted) is accepted


def test_command_words_are_those_between_the_markers():
    script = evaluation("A=1 bin/test -C 'a b' ./t/x.py::T::m . ./... ./pkg/...")
    named = set(command_words(script, "/x"))
    assert {"A=1", "bin/test", "a b", "t/x.py", "pkg"} <= named
    assert not named & {"y", "/x", ".", "-C", "rm"}


@pytest.mark.parametrize(
    "command",
    [
        "pytest --rootdir=sub -c=ci/x.cfg",
        "pytest --config-file=/testbed/ci/x.cfg tests",
        "CONFIG=ci/x.cfg make test",
        "bash -c 'run ci/x.cfg'",
        'bash -lc "cd /testbed && pytest -c ci/x.cfg tests/test_a.py"',
        """bash -c "env A=1 sh -c 'run --config=./ci/x.cfg'" """,
        "bash -c 'set -e\nrun ci/x.cfg\n'",
        """eval "su me -c \\"bash -c 'run ci/x.cfg'\\"" """,
        "run $(cat ci/x.cfg) <ci/x.cfg",
        "cd /testbed;ci/x.cfg&&pytest",
        "run @ci/x.cfg",
        "run -C a,b:ci/x.cfg",
        "run `cat ci/x.cfg`",
        "cat <<END | sh\nit's ci/x.cfg\nEND",
    ],
)
def test_what_the_test_command_names_inside_a_word_may_not_be_changed(command):
    found = clean([edit("ci/x.cfg"), edit("pkg/x.py")], make_key(eval_script=evaluation(command)), workdir="/testbed")
    assert [change.path for change in found.accepted] == ["pkg/x.py"]
    assert found.refused == ("ci/x.cfg (is run by the evaluation)",)


def test_a_path_with_a_blank_in_a_quoted_command_may_not_be_changed():
    key = make_key(eval_script=evaluation("""bash -c 'run "my ci/x.cfg"'"""))
    assert not clean(edit("my ci/x.cfg"), key).accepted


def test_a_command_that_is_quoted_without_end_costs_no_time():
    deep = "x"
    for _ in range(12):
        deep = shlex.quote(f"sh -c {deep} a=b")
    assert "a" in command_words(evaluation(f"sh -c {deep}"), "/x")


@pytest.mark.parametrize("workdir", ["/testbed", "/srv/a b", "/x/"])
@pytest.mark.parametrize("path", ["ci/check.sh", ".venv/bin/python", "a/./b//run"])
def test_what_the_test_command_names_by_its_whole_path_may_not_be_changed(workdir, path):
    command = f"cd '{workdir}' && '{workdir}/{path}' -m pytest /elsewhere/x.py"
    script, changed = evaluation(command), path.replace("/./", "/").replace("//", "/")
    assert {changed, "/elsewhere/x.py"} <= set(command_words(script, workdir))
    found = clean([edit(changed), edit("pkg/x.py")], make_key(eval_script=script), workdir=workdir)
    assert [change.path for change in found.accepted] == ["pkg/x.py"]
    assert "is run by the evaluation" in found.refused[0]


PATHS = st.lists(
    st.sampled_from(["a", "b.py", "tests", "conftest.py", "pkg", "x.so", "random.py", ".git", "\udcff"]),
    min_size=1,
    max_size=4,
).map("/".join)


@given(st.dictionaries(PATHS, st.sampled_from(["edit", "create", "remove", "link"]), max_size=6))
def test_every_change_is_either_accepted_or_listed(kinds):
    make = {"edit": edit, "create": create, "remove": remove, "link": lambda path: create(path, b"t", LINK)}
    changes = [make[kind](path) for path, kind in kinds.items()]
    result = clean(changes, KEY)
    assert len(result.accepted) + len(result.refused) == len(changes)
    assert set(result.accepted) <= set(changes)
    assert clean(list(result.accepted), KEY).accepted == result.accepted
    assert not any(change.path.split("/")[-1] == "conftest.py" for change in result.accepted)
