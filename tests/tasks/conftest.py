"""A valid row, and a tiny package for the generator of bugs."""

from pathlib import Path
from typing import Any

import pytest

from swe_aem.tasks.synthesis.synth import SynthConfig, synthesize, write_rows

SHAPES = '''"""Shapes."""


def area(width: int, height: int) -> int:
    """Area of a rectangle."""
    if width < 0 or height < 0:
        raise ValueError("negative side")
    return width * height


def ratio(width: int, height: int) -> float:
    """Width to height; 0 for a flat rectangle."""
    if height == 0:
        return 0.0
    return width / height


def tiles(width: int, size: int) -> int:
    """Number of tiles that cover the width."""
    whole = width // size
    rest = width - whole * size
    return whole + 1 if rest > 0 else whole
'''

TESTS = """import pytest

from shapes import area, ratio, tiles


def test_area():
    assert area(3, 4) == 12


def test_area_refuses_negative_sides():
    with pytest.raises(ValueError, match="negative"):
        area(-1, 4)


def test_area_of_nothing():
    assert area(0, 5) == 0


def test_ratio():
    assert ratio(3, 2) == 1.5


def test_ratio_of_a_flat_rectangle():
    assert ratio(3, 0) == 0.0


def test_tiles():
    assert [tiles(10, 5), tiles(11, 5)] == [2, 3]
"""


@pytest.fixture
def row() -> dict[str, Any]:
    """A row in the format of SWE-bench version 5."""
    return {
        "instance_id": "owner__name-1",
        "repo": "owner/name",
        "base_commit": "a" * 40,
        "patch": "diff --git a/x b/x\n",
        "test_patch": "diff --git a/tests/x b/tests/x\n",
        "problem_statement": "It is broken.",
        "hints_text": "Look into x.",
        "created_at": "2024-01-01T00:00:00Z",
        "version": "1.0",
        "FAIL_TO_PASS": '["tests/x::a"]',
        "PASS_TO_PASS": '["tests/x::b", "tests/x::c"]',
        "environment_setup_commit": "b" * 40,
        "image": "registry/image:latest",
        "eval_script": "#!/bin/bash\ntrue\n",
        "log_parser": "parse_log_pytest",
        "eval_type": "pass_and_fail",
    }


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A directory with one package, `shapes`."""
    return _write_packages(tmp_path / "set" / "packages")


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Rows made from the package, at most two of each kind."""
    root = _write_packages(tmp_path_factory.mktemp("generated") / "packages")
    return synthesize(SynthConfig(packages=root, per_package=14, jobs=2))


@pytest.fixture
def made(packages: Path, generated: dict[str, list[dict[str, Any]]]) -> Path:
    """A set directory with those rows and the package."""
    for split, rows in generated.items():
        write_rows(packages.parent / f"{split}.jsonl", rows)
    return packages.parent


def _write_packages(root: Path) -> Path:
    files = {
        "README.md": "# shapes\n",
        "shapes/__init__.py": "from shapes.rectangle import area, ratio, tiles\n",
        "shapes/rectangle.py": SHAPES,
        "tests/test_rectangle.py": TESTS,
    }
    for name, text in files.items():
        path = root / "shapes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trees made by a test never enter the user's cache."""
    monkeypatch.setenv("SWE_AEM_CACHE", str(tmp_path / "cache"))
