"""Escaping keeps every string and leaves no surrogate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swe_aem.store.surrogates import MARK, escape, unescape

anything = st.text(st.characters(exclude_categories=())) | st.text(
    st.sampled_from(["\ud800", "\udc80", "\udfff", MARK, "\U0010d800", "\U0010dfff", "a", "\n", "\U0001f600"])
)


@given(anything)
def test_round_trip_without_surrogates(text: str) -> None:
    escaped = escape(text)
    escaped.encode("utf-8")
    assert unescape(escaped) == text


@pytest.mark.parametrize("text", ["", "plain", "tschüß \u2028 \U0001f600", "\x00"])
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert escape(text) == text


def test_bytes_of_a_patch_survive() -> None:
    patch = bytes(range(256)).decode("utf-8", "surrogateescape")
    assert unescape(escape(patch)).encode("utf-8", "surrogateescape") == bytes(range(256))
