"""The page of a run's log."""

import re
from pathlib import Path

import pytest

from swe_aem.view.pages import PAGES
from swe_aem.view.pages.text import SIZE
from swe_aem.view.server import ServerLinks
from swe_aem.view.site import Address, Asked, NotThere, Site


def page(directory: Path, name: str, run: str, **query: str) -> str:
    site = Site([directory], PAGES)
    return site.html(Asked(Address(name, {"run": run}, query), ServerLinks(site.pages)))


def test_the_end_is_shown_and_older_parts_by_links(whole_run: Path) -> None:
    lines = [f"line {n:06}\n" for n in range(30_000)]
    (whole_run / "run.log").write_text("".join(lines))
    html = page(whole_run.parent, "runlog", "first")
    assert "line 029999" in html
    assert len(html) < SIZE + 10_000
    assert len(re.findall(r"line \d{6}\n", html)) == html.count("line 0")  # begins with a whole line
    numbers = set(re.findall(r"line (\d{6})", html))
    while earlier := re.search(r'href="/first/log\?file=run.log&amp;from=(\d+)" data-key="\["', html):
        html = page(whole_run.parent, "runlog", "first", **{"file": "run.log", "from": earlier[1]})
        numbers |= set(re.findall(r"line (\d{6})", html))
    assert len(numbers) > 29_900  # a piece may end within a line
    assert "000000" in numbers


def test_hostile_text_is_text(whole_run: Path) -> None:
    (whole_run / "run.log").write_bytes(b"<script>alert(1)</script>\x1b]0;x\x07\xff\x00" + b"<b>" * 200_000)
    html = page(whole_run.parent, "runlog", "first", **{"from": "0"})
    assert "<script>alert" not in html
    assert "<b>" not in html
    assert "\x1b" not in html
    assert len(html) < 20 * SIZE


def test_logs_of_ranks_have_links_and_other_files_are_not_shown(whole_run: Path) -> None:
    (whole_run / "run.log").write_text("first process\n")
    (whole_run / "run.rank1.log").write_text("second process\n")
    html = page(whole_run.parent, "runlog", "first")
    assert 'href="/first/log?file=run.rank1.log"' in html
    assert "second process" in page(whole_run.parent, "runlog", "first", file="run.rank1.log")
    for name in ("summary.json", "../first/run.log", "/etc/passwd"):
        with pytest.raises(NotThere, match="has no"):
            page(whole_run.parent, "runlog", "first", file=name)


def test_a_run_links_to_its_log_where_there_is_one(whole_run: Path) -> None:
    assert "/log" not in page(whole_run.parent, "run", "first")
    for run, directory in (("first", whole_run), ("first+rollouts", whole_run / "rollouts")):
        (directory / "run.log").write_text("a line\n")
        assert re.search(r'href="/first(%2Brollouts)?/log"', page(whole_run.parent, "run", run))
