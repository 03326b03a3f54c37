"""The page: what it says, that it stands alone, and that nothing which a policy wrote becomes HTML."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swe_aem.core import Outcome
from swe_aem.errors import UserError
from swe_aem.store import Store
from swe_aem.view.conversation import SHOWN_CHARACTERS, conversation
from swe_aem.view.html import readable
from swe_aem.view.report import write_report
from swe_aem.view.training_run import read_training_run
from swe_aem.view.training_words import duration, fact_rows, sentence

TAGS = {
    "html",
    "head",
    "meta",
    "title",
    "link",
    "style",
    "script",
    "body",
    "header",
    "nav",
    "ol",
    "li",
    "a",
    "main",
    "h1",
}
TAGS |= {"h2", "p", "div", "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "pre", "footer", "kbd"}
"""All that a page without charts is made of."""


class Page(HTMLParser):
    """The texts of all <pre>, and every tag that occurs."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.inside = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "pre":
            self.inside = True
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "pre"

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.texts[-1] += data


def test_a_whole_run_on_one_page(whole_run: Path, tmp_path: Path) -> None:
    made = write_report(whole_run, tmp_path / "out" / "here")
    html = made.page.read_text()
    assert made.page == tmp_path / "out" / "here" / "report.html"
    # Alone: whatever could be fetched is in the page.
    own = html[: html.index("<script>")]
    assert re.findall(r'(?:src|href)="([^"#]*)"', own) == ["data:,"]
    assert "<style>" in own
    assert html.count("<script>") == 4  # plotly, and three of ours
    for said in (
        "10.4%  [4.3%, 16.5%]",
        "+52.1 points",
        "new kinds, greedy, 48 tasks",
        "25 min 0 s, 40 steps",
        "2,560 (resolved ",
        "model: &lt;tiny&gt;",
        "t5, sample 1: resolved, 1 turns, 2 tokens, weight version 5",
        "&lt;script&gt;",
        "ls &lt;dir&gt;",
    ):
        assert said in own


def minimal(directory: Path, **files: Any) -> Path:
    """A run without a plot: quick."""
    directory.mkdir(exist_ok=True)
    (directory / "metrics.jsonl").write_text('{"step": 1, "wall_s": 5}\n')
    if files:
        summary = {"model": "m", "tasks": "t", "steps": 1, "wall_s": 5.0} | files
        (directory / "summary.json").write_text(json.dumps(summary))
    return directory


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(
    text=st.text(st.characters(exclude_categories=()), max_size=40) | st.sampled_from(["</pre><b>", "&lt;", "\n\n x"])
)
def test_whatever_a_policy_wrote_is_shown_and_is_no_html(tmp_path: Path, kit: Any, text: str) -> None:
    directory = minimal(tmp_path / "run")
    (directory / "config.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    shutil.rmtree(directory / "rollouts", ignore_errors=True)
    one = kit.trajectory("t", 0, Outcome.RESOLVED, text)
    with Store(directory / "rollouts").writer() as writer:
        writer.append(one)
    page = Page(write_report(directory).page.read_text())
    *shown, config = (part[1:] for part in page.texts)  # a line break after <pre> is none
    assert config == readable((directory / "config.yaml").read_text(errors="replace"))
    assert shown == [readable(said) for _, said in conversation(one)]
    assert page.tags <= TAGS


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            (0.1, 0.05, 0.2),
            (0.5, 0.4, 0.6),
            "the sampled rate rose from 10.0% to 50.0% (the 95 % intervals do not overlap).",
        ),
        (
            (0.5, 0.4, 0.6),
            (0.1, 0.05, 0.2),
            "the sampled rate fell from 50.0% to 10.0% (the 95 % intervals do not overlap).",
        ),
        ((0.1, 0.0, 0.3), (0.2, 0.1, 0.4), "(the 95 % intervals overlap, so they alone do not exclude chance)."),
        ((0.1, 0.0, 0.3), (0.4, 0.3, 0.5), "(the 95 % intervals overlap"),  # they touch
        ((0.1, None, None), (0.4, 0.3, 0.5), "(without intervals, so chance is not excluded)."),
        ((0.1, 0.0, 0.3), (0.1, 0.0, 0.3), "the sampled rate stayed at 10.0%."),
    ],
)
def test_the_sentence_follows_from_the_numbers(tmp_path: Path, before: Any, after: Any, said: str) -> None:
    ends = [dict(zip(("pass_at_1", "low", "high"), end, strict=True)) for end in (before, after)]
    run = read_training_run(minimal(tmp_path, heldout_before=ends[0], heldout_after=ends[1]))
    assert said in sentence(run)


def test_greedy_rates_have_a_clause_of_their_own(tmp_path: Path) -> None:
    ends = {"heldout_before": {"greedy": 0.2}, "heldout_after": {"greedy": 0.3, "greedy_low": 0.2, "greedy_high": 0.4}}
    assert sentence(read_training_run(minimal(tmp_path, **ends))).startswith(
        "On held-out tasks, the greedy rate rose from 20.0%"
    )


def test_a_run_that_has_not_ended_says_so(tmp_path: Path) -> None:
    directory = minimal(tmp_path)
    assert "no evaluation on held-out tasks before training" in sentence(read_training_run(directory))
    (directory / "heldout.jsonl").write_text('{"step": 0, "pass_at_1": 0.1}\n')
    assert "no evaluation on held-out tasks after training" in sentence(read_training_run(directory))
    (directory / "heldout.jsonl").write_text('{"step": 0, "pass_at_1": 0.1}\n{"step": 1, "pass_at_1": 0.2}\n{"st')
    run = read_training_run(directory)
    assert sentence(run).startswith("On held-out tasks, 1 steps into a run that has not ended, the sampled rate rose")
    facts = dict(fact_rows(run))
    assert facts["How long?"] == "5 s, 1 steps so far; the run has not ended"
    assert facts["How many trajectories?"] == facts["Infrastructure failures?"] == "not recorded"


def test_long_messages_are_cut_in_the_middle(kit: Any) -> None:
    one = kit.trajectory("t", 0, Outcome.RESOLVED, "a" * 9000 + "b")
    (text,) = [text for who, text in conversation(one) if who == "assistant"]
    assert len(text) < SHOWN_CHARACTERS + 60
    assert text.startswith("aaa")
    assert "characters left out" in text
    assert text.endswith("b\n→ bash ls <dir>")


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ('{"command": "a\\nb"}', "→ bash a\nb"),
        ('{"path": "x", "line": 3}', "→ bash \n    path: x\n    line: 3"),
        ('{"broken', '→ bash {"broken'),
        ("[1]", "→ bash [1]"),
        ("{}", "→ bash "),
    ],
)
def test_arguments_of_calls(kit: Any, arguments: str, shown: str) -> None:
    call = {"function": {"name": "bash", "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    one = kit.trajectory("t", 0, Outcome.RESOLVED).model_copy(update={"messages": (message,), "patch": ""})
    assert list(conversation(one)) == [("assistant", shown)]


def test_durations() -> None:
    assert [duration(s) for s in (0.4, 59.6, 3599, 7300)] == ["0 s", "1 min 0 s", "59 min 59 s", "2 h 1 min"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="name another place"):
        write_report(minimal(tmp_path / "run"), tmp_path / "file")
