"""Twins are made by one thread at a time: two that parse end each other in CPython 3.11."""

from typing import Any

import pytest

from swe_aem.grading.twins import making
from swe_aem.testing.builders import make_record


def test_twins_are_made_by_one_thread_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[bool] = []

    def made(*_: Any, **__: Any) -> making.Twins:
        held.append(making._ONE_AT_A_TIME.locked())
        return making.Twins.model_construct(why_not={})

    monkeypatch.setattr(making, "_made", made)
    making.make_twins(make_record("task").key, "statement", {})
    assert held == [True]
    assert not making._ONE_AT_A_TIME.locked()
