"""Exports: pages that open without a server, and nothing that is not theirs is written over."""

import re
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from typer.testing import CliRunner

from swe_aem.cli import app
from swe_aem.core import Outcome
from swe_aem.errors import UserError
from swe_aem.store import Store
from swe_aem.testing.builders import make_trajectory
from swe_aem.view.export import MARK, export_folder, export_page
from swe_aem.view.pages import PAGES
from swe_aem.view.pages.tokens import COLOURS
from swe_aem.view.pages.trajectory import AUDITED
from swe_aem.view.site import Site


def targets(page: Path) -> list[Path]:
    """The files that the links of a page lead to."""
    own = page.read_text()
    hrefs = [unescape(href) for href in re.findall(r'(?:href|src)="([^"]*)"', own)]
    return [
        (page.parent / unquote(href.partition("#")[0])).resolve()
        for href in hrefs
        if not href.startswith(("#", "data:"))
    ]


def pages_of_one(folder: Path) -> Path:
    """Where the pages of some trajectory are."""
    return next(folder.rglob("tokens.html")).parent


def export(source: Path, folder: Path, trajectories: int = 100) -> dict[str, int]:
    site = Site([source], PAGES)
    try:
        return export_folder(site, folder, trajectories=trajectories).left_out
    finally:
        site.close()


def test_every_link_of_a_folder_leads_to_a_file_in_it(whole_run: Path, tmp_path: Path, kit: Any) -> None:
    with Store(whole_run / "rollouts").writer() as writer:
        for task in ("../..", "a/b c", "%2e", "x" * 400, "ü\x01"):
            writer.append(kit.trajectory(task, 0, Outcome.RESOLVED))
    folder = tmp_path / "out"
    assert export(whole_run.parent, folder) == {}
    pages = sorted(folder.rglob("*.html"))
    assert folder / "index.html" in pages
    reached = {target for page in pages for target in targets(page)}
    assert {target for target in reached if not target.is_file() or folder not in target.parents} == set()
    assert {page.resolve() for page in pages} <= reached
    tokens = [page.read_text() for page in folder.rglob("tokens*.html") if page.parent == pages_of_one(folder)]
    assert len(tokens) == len(COLOURS)  # each colour of the only piece once, however many responses lead to it
    for page in pages:
        text = page.read_text()
        assert "Content-Security-Policy" in text
        assert "<form" not in text
        assert "about:" not in text
    lists = (folder / "pages" / "first+rollouts" / "trajectories.html").read_text()
    assert '<span class="unlinked">Dotted text</span> needs the running viewer: swe-aem view DIR.' in lists
    assert "To choose what is shown needs the running viewer: swe-aem view DIR." in lists
    assert not (folder / "pages" / "first" / "trajectories.html").exists()  # its rollouts have one address
    assert not (folder / "pages" / "first" / "matrix.html").exists()


def test_an_audit_of_a_large_trajectory_needs_the_viewer(tmp_path: Path) -> None:
    with Store(tmp_path / "run").writer() as writer:
        writer.append(make_trajectory("t", 0, patch="x" * AUDITED))
    export(tmp_path / "run", tmp_path / "out")
    (page,) = (tmp_path / "out").rglob("trajectory/t/0.html")
    shown = '<span class="unlinked" title="needs the running viewer: swe-aem view DIR">audit it</span>'
    assert shown in page.read_text()


def test_trajectories_beyond_the_limit_are_left_out_by_number(whole_run: Path, tmp_path: Path) -> None:
    left_out = export(whole_run.parent, tmp_path / "out", trajectories=0)
    said = (tmp_path / "out" / MARK).read_text()
    assert all(f"{count} trajectories of {run} have no page here" in said for run, count in left_out.items())
    assert not list((tmp_path / "out").rglob("trajectory"))
    shown = (tmp_path / "out" / "pages" / "first+rollouts" / "trajectories.html").read_text()
    assert "Trajectories without a link have no page in this export" in shown


def test_an_export_that_was_killed_is_finished_by_the_same_call(whole_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / MARK).write_text("An export of swe-aem that is not finished: call the same again.\n")
    (folder / "index.html").write_text("half")
    export(whole_run.parent, folder)
    assert "half" not in (folder / "index.html").read_text()
    assert "not finished" not in (folder / MARK).read_text()


@pytest.mark.parametrize("name", ["", "file.txt"])
def test_a_folder_with_something_else_is_left_alone(whole_run: Path, tmp_path: Path, name: str) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / "file.txt").write_text("mine")
    with pytest.raises(UserError, match="name a folder that is new or empty"):
        export(whole_run.parent, there / name if name else there)
    assert [path.name for path in there.iterdir()] == ["file.txt"]
    assert (there / "file.txt").read_text() == "mine"


def test_one_page_holds_all_that_it_needs(whole_run: Path, tmp_path: Path) -> None:
    out = CliRunner().invoke(app, ["view", str(whole_run), "--export", str(tmp_path / "one.html")])
    assert out.exit_code == 0, out.output
    page = tmp_path / "one.html"
    text = page.read_text()
    policy = unescape(re.findall(r'Content-Security-Policy" content="([^"]*)"', text)[0])
    assert policy.count("'sha256-") == text.count("<script>") == 4
    assert "inline:" not in text[: text.index("<script>")]
    again = CliRunner().invoke(app, ["view", str(whole_run), "--export", str(page)])
    assert again.exit_code == 0, again.output


def test_one_page_is_of_one_run_and_replaces_no_other_file(whole_run: Path, tmp_path: Path) -> None:
    (whole_run.parent / "second").mkdir()
    (whole_run.parent / "second" / "metrics.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(UserError, match=r"one page shows one run, and here are 2 runs \(first, second\)"):
        export_page(Site([whole_run.parent], PAGES), tmp_path / "one.html")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no run: name one"):
        export_page(Site([tmp_path / "empty"], PAGES), tmp_path / "one.html")
    (tmp_path / "mine.html").write_text("mine")
    with pytest.raises(UserError, match="is no export of swe-aem"):
        export_page(Site([whole_run], PAGES), tmp_path / "mine.html")
    assert (tmp_path / "mine.html").read_text() == "mine"
