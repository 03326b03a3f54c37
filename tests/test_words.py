"""Plain English in what people read: docs, docstrings, comments, errors and help.

`docs/architecture.md` says which term stands for which thing. This test holds the few that are easy to fall back from.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = sorted(path.parent.name for path in (ROOT / "swe_aem").glob("*/__init__.py"))
SOURCES = {
    **{name: sorted((ROOT / "swe_aem" / name).rglob("*.py")) for name in PACKAGES},
    "modules": sorted((ROOT / "swe_aem").glob("*.py")),
    "benchmarks": sorted((ROOT / "benchmarks").rglob("*.py")),
}
PROSE = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "configs").rglob("*.yaml")),
    *sorted((ROOT / "tasks").glob("*/README.md")),
]

SAY_INSTEAD = {
    r"\bof ours\b|\bour (side|fault|doing)\b": "infrastructure failure",
    r"\b(go|goes|going|went) on\b": "resume, continue",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\banew\b": "again, or new",
    r"\brooms?\b(?! (for|to|left|in)\b)": "package; or space, where space is meant",
    r"\bhouses?\b": "project, or package",
    r"\bnouns?\b": "types",
    r"\blessons?\b": "zero-variance groups, or signal",
    r"\bgated\b": "unmodulated",
}
"""What a reader of the field stumbles over, as a regular expression, and what to say in its place."""


def docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of each string that stands alone as a statement: docstrings, of attributes too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value.strip()


def stumbling_blocks(path: Path) -> list[str]:
    """Lines of a file that say what `SAY_INSTEAD` replaces."""
    return [
        f"{path.relative_to(ROOT)}:{number}: {found.group(0)!r}; say: {better}"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        for pattern, better in SAY_INSTEAD.items()
        if (found := re.search(pattern, line, flags=re.IGNORECASE))
    ]


@pytest.mark.parametrize("package", sorted(SOURCES))
def test_sources_use_the_terms_of_the_field(package: str) -> None:
    found = [line for path in SOURCES[package] for line in stumbling_blocks(path)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", PROSE, ids=lambda path: str(path.relative_to(ROOT)))
def test_docs_use_the_terms_of_the_field(path: Path) -> None:
    found = stumbling_blocks(path)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("package", sorted(SOURCES))
def test_docstrings_can_be_read_alone(package: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text.splitlines()[0]}"
        for path in SOURCES[package]
        for line, text in docstrings(ast.parse(path.read_text(encoding="utf-8")))
        if re.match(r"(Of|As|See)\b", text)
    ]
    assert not found, "\n".join(found)
