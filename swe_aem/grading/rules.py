"""Which paths a patch may not change, and why. `docs/grading.md` gives the reason and the cost of each rule."""

import posixpath
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from swe_aem.core import AnswerKey
from swe_aem.grading.configuration_files import CONFIGURATION_FILES, matches
from swe_aem.grading.diff import DiffError, parse_diff
from swe_aem.grading.markers import marked_lines

NameRule = Callable[[str], str | None]
"""(path of a new file) -> why it may not be there, or None. For names that would be imported in place of others."""

RUNNER_MODULES = frozenset({"pytest", "_pytest", "pluggy", "iniconfig", "py", "xdist", "coverage", "unittest"})
"""New files of these names at the top of the repository would be imported in place of the runner."""

_TEST_NAME = re.compile(
    r"(?:^|/)(?:tests?|testing|__tests__)/|(?:^|/)(?:test_[^/]*|[^/]*_test|tests)\.\w+$"
    r"|(?:^|/)spec/(?:.*/)?[^/]*(?:/|\.(?:rb|coffee|[cm]?[jt]sx?))$"  # elsewhere `spec` is a name like others
)
_PYTHON_TEST_ROOT = re.compile(r"(?:.*?/)??tests?(?=/)")
_TEST_ROOT = re.compile(r"(?:.*?/)??(?:tests?|__tests__|spec(?=.*\.(?:rb|coffee|[cm]?[jt]sx?)$))(?=/)")
_BETWEEN_PARTS = re.compile(r"[\s=:,;|&()<>@`$'\"]+")
_NUMBER = re.compile(r"[\d.]*")
_QUOTED_DEPTH = 4
"""A command is quoted in another at most so often."""


@dataclass(frozen=True)
class PathRules:
    """The rules of one task."""

    key: AnswerKey
    name_rule: NameRule
    protected: frozenset[str] = frozenset()
    """Paths that the grader writes."""
    workdir: str = "/testbed"
    """The work tree, as the test command names it."""

    @cached_property
    def allowed(self) -> frozenset[str]:
        """Paths that the gold patch changes; the rules about names and kinds do not apply to them."""
        return paths_of(self.key.gold_patch)

    @cached_property
    def test_files(self) -> frozenset[str]:
        """Paths that the test patch changes; the evaluation puts its own version there."""
        return paths_of(self.key.test_patch)

    @cached_property
    def _of_the_tests(self) -> frozenset[str]:
        return self.test_files | frozenset(self.key.hidden) | self.protected

    @cached_property
    def evaluated(self) -> frozenset[str]:
        """Paths named by the test command or by test ids."""
        ids = (test.partition("::")[0] for test in (*self.key.fail_to_pass, *self.key.pass_to_pass) if "::" in test)
        tests = frozenset(path for path in ids if is_test_name(path))
        return tests | frozenset(command_words(self.key.eval_script, self.workdir))

    def refuse(self, path: str, *, is_new: bool) -> str | None:
        """Why `path` may not be changed, or None."""
        if any(_in_each_others_way(path, name) for name in self._of_the_tests):
            return "belongs to the tests of the task, or is in their way"
        if path in self.allowed:
            return None
        for kind in CONFIGURATION_FILES:
            if matches(path, kind.patterns) and not (kind.builds and self.key.gold_command):
                return kind.reason
        if path in self.evaluated or self._is_test_below_evaluated(path):
            return "is run by the evaluation"
        if self._is_loaded_with_tests(path, is_new=is_new):
            return "would be loaded with the tests of the task"
        return self.name_rule(path) if is_new else None

    def _is_test_below_evaluated(self, path: str) -> bool:
        below = any(path.startswith(f"{directory}/") for directory in self.evaluated)
        return below and is_test_name(path)

    @cached_property
    def _test_directories(self) -> frozenset[str]:
        """Directories of the files that are evaluated."""
        files = (path for path in (*self.evaluated, *self.test_files) if posixpath.splitext(path)[1])
        return frozenset(posixpath.dirname(path) for path in files)

    @cached_property
    def _python_test_directories(self) -> frozenset[str]:
        """Directories of the Python files that are evaluated; where tests are imported from."""
        files = (path for path in (*self.evaluated, *self.test_files) if path.endswith(".py"))
        return frozenset(posixpath.dirname(path) for path in files)

    @cached_property
    def _test_roots(self) -> frozenset[str]:
        """The outermost directory of tests above each evaluated file (`spec`, for `spec/models/user_spec.rb`)."""
        found = (
            (_PYTHON_TEST_ROOT if path.endswith(".py") else _TEST_ROOT).match(path)
            for path in (*self.evaluated, *self.test_files)
        )
        named = (directory for directory in self._test_directories if is_test_name(f"{directory}/"))
        return frozenset([*(root[0] for root in found if root), *named])

    def _is_loaded_with_tests(self, path: str, *, is_new: bool) -> bool:
        """New files among the tests, and package files on the way to them: no test of the task needs them.

        A package file of production code that was there before is production code, even with tests below.
        """
        directory, name = posixpath.split(path)
        if name == "__init__.py" and (is_new or is_test_name(path)):
            prefix = f"{directory}/" if directory else ""
            if any(f"{tests}/".startswith(prefix) for tests in self._python_test_directories):
                return True
        if not is_new:
            return False
        beside = directory in self._test_directories and is_test_name(path)  # x_test.go, in the package that is tested
        return beside or any(path.startswith(f"{root}/") for root in self._test_roots)


def shadows(path: str) -> str | None:
    """The name rule where nothing was measured: modules at the top of the repository with the name of a known one."""
    parts = path.split("/")
    module = parts[0] if len(parts) > 1 else parts[0].removesuffix(".py")
    if len(parts) == 1 and not parts[0].endswith(".py"):
        return None
    if module in RUNNER_MODULES:
        return "would be imported in place of the test runner"
    if module in sys.stdlib_module_names and (len(parts) == 1 or parts[1] == "__init__.py"):
        return "would be imported in place of a module of Python's own"
    return None


def is_test_name(path: str) -> bool:
    """Does the path look like that of a test, or does it lie where tests lie?"""
    return _TEST_NAME.search(path) is not None


def command_words(eval_script: str, workdir: str) -> tuple[str, ...]:
    """Words of the test command that can be paths: what stands between the two markers of an evaluation script.

    Paths below `workdir` come out relative to it. Commands that are quoted in another (`bash -c "..."`) count too, and
    so do the parts of a word, as in `--config=x.ini`.
    """
    lines = marked_lines(eval_script)
    words = {word for text in ("\n".join(lines), *lines) for word in _words(text, _QUOTED_DEPTH)}
    paths = (word.partition("::")[0].lstrip("(").rstrip(";)").removesuffix("/...") for word in words)
    root = posixpath.normpath(workdir)
    cleaned = (posixpath.normpath(path) for path in paths if path)
    relative = (word.removeprefix(f"{root}/") for word in cleaned if word != root)
    return tuple(sorted(word for word in relative if word not in (".", "/", "...") and not word.startswith("-")))


def _words(text: str, depth: int) -> Iterator[str]:
    """Words as a shell reads them, their parts, and both of commands that are quoted in them, `depth` deep."""
    try:
        words = shlex.split(text, comments=True)
    except ValueError:
        words = text.split()
    for word in words:
        yield word
        yield from (part for part in _BETWEEN_PARTS.split(word) if not _NUMBER.fullmatch(part))
        if depth and any(sign.isspace() for sign in word):
            yield from _words(word, depth - 1)


def _in_each_others_way(path: str, name: str) -> bool:
    return path == name or path.startswith(f"{name}/") or name.startswith(f"{path}/")


def paths_of(patch: str) -> frozenset[str]:
    """Every path that a patch of the dataset names; falls back to its header lines if it cannot be parsed."""
    try:
        sections = parse_diff(patch)
    except DiffError:
        return frozenset(re.findall(r"^(?:---|\+\+\+) [ab]/([^\t\n]+)", patch, re.MULTILINE))
    return frozenset(path for section in sections for path in (section.old_path, section.new_path) if path)
