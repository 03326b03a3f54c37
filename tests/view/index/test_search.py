"""What a search finds: words and beginnings of them, whatever is around."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swe_aem.core import Response, ToolCall
from swe_aem.testing.builders import make_trajectory
from swe_aem.view.index import Filter, StoreIndex
from swe_aem.view.index.texts import Passage
from swe_aem.view.index.words import expression, snippets
from tests.view.index.stores import write_store

TEXT = "self._parse_header(x) raised KeyError: 'x' in HTTPServer.get_url2 at 0xdeadbeef"


@pytest.fixture
def index(tmp_path: Path) -> StoreIndex:
    """One trajectory with a text in its observation, one with a patch, one with a failure."""
    call = ToolCall(name="bash", arguments={"command": "pytest -k slow_one"}, observation=TEXT)
    response = Response(
        start=2, end=4, logprobs=(-1.0, -1.0), version=0, finish_reason="stop", sample_s=1.0, tool_calls=(call,)
    )
    several = [
        make_trajectory("conversation", 0, responses=(response,)),
        make_trajectory("patch", 0, patch="+def parseHeader(): pass\n"),
        make_trajectory("failure", 0, error="No space left on device"),
    ]
    index = StoreIndex(write_store(tmp_path / "store", several))
    index.build()
    return index


def found(index: StoreIndex, text: str, place: str = "anywhere") -> list[str]:
    """Tasks of the trajectories that a search finds."""
    return sorted(row.task_id for row in index.page(Filter.model_validate({"text": text, "text_in": place})).rows)


@pytest.mark.parametrize(
    ("text", "tasks"),
    [
        ("_parse_header", ["conversation", "patch"]),
        ("self._parse_head", ["conversation"]),
        ("PARSE_HEAD", ["conversation", "patch"]),
        ("parseHeader", ["conversation", "patch"]),
        ("header", ["conversation", "patch"]),
        ("KeyError", ["conversation"]),
        ("keyerror", ["conversation"]),
        ("Error", ["conversation"]),
        ("\"KeyError: 'x'\"", ["conversation"]),
        ("\"KeyError: 'y'\"", []),
        ("server url2", ["conversation"]),
        ("slow_one", ["conversation"]),
        ("rror", []),
        ("no device", ["failure"]),
        ('"no device"', []),
        ("== !!", []),
        ('" OR texts MATCH "', []),
        ("header " * 5000, ["conversation", "patch"]),
    ],
)
def test_what_a_search_finds(index: StoreIndex, text: str, tasks: list[str]) -> None:
    assert found(index, text) == tasks


def test_a_search_can_be_of_one_place(index: StoreIndex) -> None:
    assert found(index, "header", "patch") == ["patch"]
    assert found(index, "header", "failure") == []
    assert found(index, "space left", "failure") == ["failure"]


def test_a_snippet_shows_where_a_text_stands(index: StoreIndex) -> None:
    (row,) = index.page(Filter(text="raised KeyError")).rows
    snippet = index.snippets(row.key, '"raised keyerror"')[0]
    assert (snippet.place, snippet.turn, snippet.match) == ("turn 1, observation", 1, "raised KeyError")
    assert snippet.before + snippet.match + snippet.after == TEXT


@given(text=st.text(), inside=st.text())
def test_no_text_is_an_error(text: str, inside: str) -> None:
    expression(text, "anywhere")
    snippets([Passage("patch", "patch", None, inside)], text, "anywhere", 3)


@pytest.mark.slow
def test_a_line_of_ten_megabytes_and_odd_characters_are_searched(tmp_path: Path) -> None:
    huge = "\0\x1b[31m\udcff<script>" + "needle " + "x" * 10_000_000 + " haystack_end"
    index = StoreIndex(write_store(tmp_path / "store", [make_trajectory("t\0\udcff", 0, patch=huge, error=huge)]))
    index.build()
    for text in ("needle", "haystack_end", "script"):
        (row,) = index.page(Filter(text=text)).rows
        assert row.task_id == "t\0\udcff"
        assert row.patch_bytes == len(huge.encode("utf-8", "surrogatepass"))
        assert len(row.error or "") <= 2000
        assert all(len(snippet.before + snippet.after) < 400 for snippet in index.snippets(row.key, text))
    assert index.load(row.key).patch == huge
