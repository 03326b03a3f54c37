"""Text that hides something is shown with what it hides."""

import pytest

from swe_aem.view.html import _TO_SHOW, _VISIBLE, readable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\nc", "a\tb\nc"),
        ("naïve 漢字 🙂 family 👩\u200d👩\u200d👧", "naïve 漢字 🙂 family 👩\u200d👩\u200d👧"),
        ("\0 \x1b[31m \x7f \r", "␀ ␛[31m ␡ ␍"),
        ("\udc80", "\\udc80"),
        ("if user != 'admin\u202e \u2066// check\u2069", "if user != 'admin[U+202E] [U+2066]// check[U+2069]"),
        ("\u200b\ufeff\u061c\x9b\U000e0041", "[U+200B][U+FEFF][U+061C][U+009B][U+E0041]"),
    ],
)
def test_what_cannot_be_seen_is_made_visible(text: str, shown: str) -> None:
    assert readable(text) == shown


def test_the_pattern_finds_what_the_table_has() -> None:
    assert {code for code in range(0x110000) if _TO_SHOW.match(chr(code))} == set(_VISIBLE)
