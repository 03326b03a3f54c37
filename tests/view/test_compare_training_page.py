"""Two training runs beside each other."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from swe_aem.view.pages import PAGES
from swe_aem.view.server import ServerLinks
from swe_aem.view.site import Address, Asked, Site


def page(directory: Path, name: str, query: dict[str, str], **values: str) -> str:
    site = Site([directory], PAGES)
    return site.html(Asked(Address(name, values, query), ServerLinks(site.pages)))


@pytest.fixture
def two_runs(whole_run: Path, kit: Any) -> Path:
    """The directory of a whole run, `first`, and of a shorter one with other settings, `second`."""
    other = whole_run.parent / "second"
    shutil.copytree(whole_run, other)
    (other / "metrics.jsonl").write_text(kit.jsonl(kit.metrics(20, seed=1)))
    (other / "summary.json").unlink()
    (other / "config.yaml").write_text("steps: 20\nmodel: <tiny>\nnote: <b>\n")
    return whole_run.parent


def test_curves_rates_seconds_and_settings_of_both(two_runs: Path) -> None:
    html = page(two_runs, "compare-runs", {"a": "first", "b": "second"})
    assert "[4.3%, 16.5%]" in html
    assert '<th scope="row">steps</th><td>40</td><td>20</td>' in html
    assert '<th scope="row">note</th><td>–</td><td>&lt;b&gt;</td>' in html
    assert ">model<" not in html
    assert '<th scope="row">Seconds per step</th>' in html
    assert "<body data-live>" in html  # the second has not ended
    assert "/compare-runs?a=first%2Brollouts&amp;b=second%2Brollouts" in html
    data = [json.loads(text) for text in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', html)]
    found = {one["name"]: one for one in data}
    assert {"resolved_rate", "alpha", "seconds", "outcomes"} <= found.keys()
    assert "stack" not in {series.get("style") for series in found["seconds"]["series"]}
    stale, branches = (
        [(one["label"], one["colour"], one.get("dash", False)) for one in found[name]["series"]]
        for name in ("staleness", "branches")
    )
    assert stale == [("first: staleness", "blue", False), ("second: staleness", "orange", True)]
    assert branches == [
        ("first: of what was sampled", "purple", False),
        ("first: of what was trained on", "blue", False),
        ("second: of what was sampled", "purple", True),
        ("second: of what was trained on", "blue", True),
    ]
    assert len(found["branches"]["series"][-1]["x"]) == 20


@pytest.mark.parametrize(("values", "name"), [({"run": "first"}, "run"), ({}, "runs")])
def test_links_lead_there_without_scripts(two_runs: Path, values: dict[str, str], name: str) -> None:
    html = page(two_runs, name, {}, **values)
    if name == "run":
        assert 'href="/compare-runs?a=second&amp;b=first"' in html
        assert "rollouts&amp;b=first" not in html  # a store is no training run
    else:
        assert '<form class="search" method="get" action="/compare-runs">' in html
        assert html.count("<option") == 8


def test_a_store_is_compared_with_stores(two_runs: Path) -> None:
    html = page(two_runs, "run", {}, run="first+rollouts")
    assert 'href="/compare-runs?a=second%2Brollouts&amp;b=first%2Brollouts"' in html
    assert "a=second&amp;" not in html
