"""The pages of an evaluation and of settings."""

from pathlib import Path
from typing import Any

import pytest

from swe_aem.core import Outcome
from swe_aem.errors import UserError
from swe_aem.evaluate import evaluate_directory
from swe_aem.store import Store, graded_prediction, write_graded
from swe_aem.view.found import Run
from swe_aem.view.index import StoreIndex
from swe_aem.view.pages import PAGES, evaluation
from swe_aem.view.server import ServerLinks
from swe_aem.view.site import Address, Asked, Site


def page(directory: Path, name: str, run: str, **query: str) -> str:
    site = Site([directory], PAGES)
    return site.html(Asked(Address(name, {"run": run}, query), ServerLinks(site.pages)))


def test_an_evaluation_has_rates_and_tasks_with_links(whole_run: Path) -> None:
    html = page(whole_run.parent, "evaluation", "first+rollouts")
    assert "pass@1" in html
    assert "50.0 %" in html
    assert "5 of 10 samples with a verdict resolved" in html
    assert 'href="/first%2Brollouts/trajectories?task=t5' in html


def test_the_index_says_what_the_whole_store_says(whole_run: Path) -> None:
    store = whole_run / "rollouts"
    index = StoreIndex(store)
    index.build()
    read, scores = evaluate_directory(store, tell=lambda _: None)
    again, indexed = evaluate_directory(store, tell=lambda _: None, scores=index.scores())
    assert indexed == scores
    assert again == read


def test_a_large_store_is_shown_as_far_as_it_is_indexed(whole_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "SMALL_BYTES", 1)
    store = whole_run / "rollouts"
    with pytest.raises(UserError, match="none is indexed yet"):
        evaluation.evaluated(UnindexedSite([whole_run.parent], PAGES), UnindexedSite([store], PAGES).runs()[0], print)
    StoreIndex(store).build()
    assert "5 of 10 samples with a verdict resolved" in page(whole_run.parent, "evaluation", "first+rollouts")


class UnindexedSite(Site):
    """One without a process that indexes."""

    def index(self, run: Run) -> StoreIndex:
        return StoreIndex(run.directory)


def test_settings_stand_beside_those_of_another_run(whole_run: Path) -> None:
    other = whole_run.parent / "second"
    other.mkdir()
    (other / "metrics.jsonl").write_text('{"step": 1}\n')
    (other / "config.yaml").write_text("steps: 80\nmodel: <tiny>\ngrpo: {beta: 0}\n")
    html = page(whole_run.parent, "config", "first", **{"with": "second"})
    changed, _, whole = html.partition("All settings")
    assert '<th scope="row">steps</th><td>40</td><td>80</td>' in changed
    assert '<th scope="row">grpo.beta</th><td>–</td><td>0</td>' in changed
    assert ">model<" not in changed
    assert '<th scope="row">model</th><td>&lt;tiny&gt;</td>' in whole


def test_settings_say_what_differs_from_the_defaults_and_import_nothing(whole_run: Path) -> None:
    (whole_run / "config.yaml").write_text(
        "model: m\nsteps: 3\ngroups_per_step: 2\nsave_every: 7\ndevice: auto\n"
        "advantage: {estimator: 'nowhere.to_be:Found'}\nrollout: {group_size: 4, policy: m, twins: true}\n"
    )
    html = page(whole_run.parent, "config", "first")
    changed, _, whole = html.partition("All settings")
    assert '<th scope="row">save_every</th><td>7</td><td>5</td>' in changed
    assert '<th scope="row">steps</th><td>3</td><td>–</td>' in changed
    assert '<th scope="row">rollout.group_size</th><td>4</td><td>1</td>' in changed
    assert "nowhere.to_be:Found" in changed
    assert ">device<" not in changed
    assert ">rollout.twins<" not in changed
    assert '<th scope="row">rollout.twins</th><td>true</td>' in whole


def test_settings_of_another_version_are_shown_without_defaults(whole_run: Path) -> None:
    html = page(whole_run.parent, "config", "first")
    assert "The defaults are not known" in html
    assert '<th scope="row">steps</th><td>40</td>' in html


def test_verdicts_lead_to_their_log_and_to_other_verdicts(tmp_path: Path, kit: Any) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_graded(tmp_path / name, [graded_prediction(kit.trajectory("t", 0, Outcome.RESOLVED), 1.0)])
    (tmp_path / "one" / "run.log").write_text("a line\n")
    site = Site([tmp_path], PAGES)
    links = ServerLinks(site.pages)
    html = site.html(Asked(Address("run", {"run": "one"}), links))
    for href in ("/one/failures", "/one/log", "/compare-runs?a=two&amp;b=one"):
        assert f'href="{href}"' in html
    failures = site.html(Asked(Address("failures", {"run": "one"}), links))
    assert "No attempt has failed so far" in failures
    assert "/one/trajectories" not in failures


def test_two_runs_task_by_task(whole_run: Path, kit: Any) -> None:
    with Store(whole_run.parent / "later").writer() as writer:
        writer.append(kit.trajectory("t1", 0, Outcome.RESOLVED))
        writer.append(kit.trajectory("t2", 0, Outcome.UNRESOLVED))
    site = Site([whole_run.parent], PAGES)
    address = Address("compare-runs", {}, {"a": "first+rollouts", "b": "later"})
    html = site.html(Asked(address, ServerLinks(site.pages)))
    assert "better on 1 tasks: t1" in html
    assert "worse on 1 tasks: t2" in html
    assert 'href="/later/trajectories?task=t2' in html


def test_a_task_that_changed_leads_to_two_trajectories_that_differ(whole_run: Path, kit: Any) -> None:
    later = whole_run.parent / "later"
    with Store(later).writer() as writer:
        writer.append(kit.trajectory("t1", 0, Outcome.RESOLVED))
    for store in (whole_run / "rollouts", later):
        StoreIndex(store).build()
    site = Site([whole_run.parent], PAGES)
    links = ServerLinks(site.pages)
    html = site.html(Asked(Address("compare-runs", {}, {"a": "first+rollouts", "b": "later"}), links))
    query = {"a": "first+rollouts/t1/0", "b": "later/t1/0"}
    href = links.to(Address("compare", {}, query), Address("runs"))
    assert f'href="{href.replace("&", "&amp;")}">side by side' in html
    assert "t1.0" in site.html(Asked(Address("compare", {}, query), links))
