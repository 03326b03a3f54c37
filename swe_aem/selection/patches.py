"""A stored patch, taken apart: what it changes of the program, and the tests that it brings.

Two changes are equal if they remove and add the same lines of the same files. Where the lines stand, what stands around
them, and white space at their ends do not count.
"""

import hashlib

from swe_aem.core.base import Frozen
from swe_aem.grading import DiffError, FileDiff, is_test_name, split_diff

_NOT_COMPARED = ("index ", "similarity index ", "dissimilarity index ", "@@ ", " ")


class Patch(Frozen):
    """One patch."""

    text: str
    """All of it, as it is submitted."""
    code: str
    """What it changes of the program, as a diff; all of it where it cannot be taken apart."""
    tests: str
    """What it changes of test files, as a diff."""
    test_files: tuple[str, ...]
    """Test files that are there afterwards, sorted."""
    key: str
    """Equal for equal changes of the program."""

    @property
    def empty(self) -> bool:
        """Does it leave the program as it was?"""
        return not self.code.strip()


def read_patch(text: str) -> Patch:
    """Take a patch apart."""
    try:
        sections = split_diff(text)
    except DiffError:
        return Patch(text=text, code=text, tests="", test_files=(), key=_key([text]))
    code = [one for section, one in sections if not _is_of_tests(section)]
    tests = [(section, one) for section, one in sections if _is_of_tests(section)]
    files = (section.new_path for section, _ in tests)
    return Patch(
        text=text,
        code="".join(code),
        tests="".join(one for _, one in tests),
        test_files=tuple(sorted(path for path in files if path is not None and _is_run(path))),
        key=_key(code),
    )


def _is_of_tests(section: FileDiff) -> bool:
    return all(map(is_test_name, section.paths))


def _is_run(path: str) -> bool:
    """Is it a file of tests itself, and not one that tests read?"""
    return path.endswith(".py") and not path.endswith(("/__init__.py", "/conftest.py"))


def _key(sections: list[str]) -> str:
    lines = [
        line.rstrip()
        for section in sorted(sections)
        for line in section.split("\n")
        if line.strip() and not line.startswith(_NOT_COMPARED)
    ]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
