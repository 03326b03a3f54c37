"""The page of a training run."""

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from swe_aem.store import Store, locked
from swe_aem.view.pages import PAGES
from swe_aem.view.server import ServerLinks
from swe_aem.view.site import Address, Asked, Site


def page(directory: Path, name: str) -> str:
    site = Site([directory], PAGES)
    return site.html(Asked(Address("run", {"run": name}), ServerLinks(site.pages)))


def test_it_says_whether_the_run_learned_and_whether_aem_is_at_work(whole_run: Path) -> None:
    html = page(whole_run.parent, "first")
    for said in (
        "the sampled rate rose from 10.4% to 62.5%",
        "AEM is at work: α differs from 1 for ",
        "10.4%  [4.3%, 16.5%]",
        "+52.1 points",
        "new kinds, greedy, 48 tasks",
        "25 min 0 s, 40 steps",
        "2,560 (resolved ",
        "zero-variance groups",
        'href="/first%2Brollouts"',
    ):
        assert said in html
    assert "data-live" not in html  # it has ended


def test_it_says_whether_a_run_that_has_not_ended_is_running(whole_run: Path) -> None:
    assert "Is it running?" not in page(whole_run.parent, "first")
    (whole_run / "summary.json").unlink()
    assert "no process trains it here: it was stopped or killed." in page(whole_run.parent, "first")
    with locked(whole_run):
        assert "yes, a process is training it" in page(whole_run.parent, "first")


def test_a_run_whose_servers_start_is_running(whole_run: Path) -> None:
    (whole_run / "summary.json").unlink()
    (whole_run / "serve").mkdir()
    with locked(whole_run / "serve"):
        assert "yes, swe-aem train --launch is starting its servers" in page(whole_run.parent, "first")
    assert "no process trains it here" in page(whole_run.parent, "first")


def test_a_run_that_ended_and_gets_more_steps_is_running_and_its_page_follows_it(whole_run: Path) -> None:
    with locked(whole_run):
        html = page(whole_run.parent, "first")
    assert "yes, a process is training it" in html
    assert "<body data-live>" in html


def test_it_says_which_groups_the_trajectories_are_of(tmp_path: Path) -> None:
    line = {"step": 1, "outcomes": {"resolved": 10, "unresolved": 6}, "groups": 3, "rejected_groups": 1, "retries": 2}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line | {"broken_tasks": ["t"]}) + "\n")
    said = (
        "4 of 4 trajectories each: 3 trained on, 1 rejected (zero variance, and there were others: dynamic sampling), "
    )
    said += "1 of these of broken tasks, nothing of which counts; 2 attempts failed and were repeated, which are no "
    assert said + "trajectories" in page(tmp_path, tmp_path.name)


def test_charts_are_data_that_a_script_draws_and_numbers_without_one(whole_run: Path) -> None:
    html = page(whole_run.parent, "first")
    data = [json.loads(text) for text in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', html)]
    assert len(data) == 18
    assert {one["name"] for one in data} >= {"resolved_rate", "alpha", "seconds"}
    assert html.count("<summary>Numbers</summary>") == len(data)
    assert all('src="/static/' in tag for tag in re.findall(r"<script (?!type)[^>]*>", html))


def test_a_run_without_a_finished_step_has_a_page(tmp_path: Path, kit: Any) -> None:
    run = tmp_path / "young"
    with Store(run / "rollouts").writer() as writer:
        writer.append(kit.trajectory("t", 0, "resolved"))
    html = page(tmp_path, "young")
    assert "No step has finished yet" in html
    assert "Whether it learned is not known" in html
    assert "<body data-live>" in html
    assert "<figure" not in html


@pytest.mark.parametrize("name", ["</script><b>bold</b>", "<!--", "]]>", "\u2028'\"&amp;"])
def test_names_in_metrics_are_no_html(tmp_path: Path, name: str) -> None:
    line = {"step": 1, "estimator": "mine", f"mine/{name}": 1.0, "outcomes": {name: 1}}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    html = page(tmp_path, tmp_path.name)
    assert "<b>" not in html
    assert "<!--" not in html
    assert html.count("<script") == html.count("</script>")
    found = [json.loads(text) for text in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', html)]
    assert {one["name"] for one in found} == {"outcomes", f"estimator/{name}"}
    assert name in unescape(html)
