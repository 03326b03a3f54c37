"""`docs/security.md`: a row for each thing, and the test that each row names exists."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "security.md"


def rows() -> list[list[str]]:
    """The cells of each row of the table, without its head."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_row_names_a_test_that_exists() -> None:
    found = {
        name
        for path in TESTS.rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.M)
    }
    assert len(rows()) > 30
    for thing, bubblewrap, docker, tests in rows():
        named = re.findall(r"`(test_\w+)`", tests)
        assert named, thing
        assert bubblewrap, thing
        assert docker, thing
        assert set(named) <= found, thing
