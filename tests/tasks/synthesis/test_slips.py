"""Slips: one token written for another."""

import pytest

from swe_aem.tasks.synthesis.mutate import find_mutations
from swe_aem.tasks.synthesis.slips import SLIPS

TEXT = """def pick(items, at):
    if at < 0:
        return None
    return items[at % len(items)]
"""


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("wrong_name", {"items < 0", "at[at", "items[items", "len(at)"}),
        ("wrong_number", {f"at < {digit}" for digit in range(1, 10)}),
        ("wrong_operator", {f"at {sign} len" for sign in ("+", "-", "*", "//")}),
        ("wrong_comparison", {f"at {sign} 0" for sign in ("<=", ">", ">=", "==", "!=")}),
    ],
)
def test_every_slip_of_a_kind(kind: str, changed: set[str]) -> None:
    texts = [slip.text for slip in find_mutations("pick.py", TEXT, SLIPS) if slip.kind == kind]
    assert len(texts) == len(changed)
    for piece in changed:
        assert any(piece in text for text in texts), piece


def test_names_of_functions_are_no_variables() -> None:
    for slip in find_mutations("pick.py", TEXT, SLIPS):
        assert "pick(items, at)" in slip.text
        assert "None" in slip.text
