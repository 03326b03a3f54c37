"""The viewer's benchmark: its stores are valid, and its figures are there. None is checked: the machine may be busy."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from swe_aem.audit import audited
from swe_aem.view.index import StoreIndex

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "viewer.py"


@pytest.mark.slow
def test_a_store_is_made_and_its_pages_are_timed(tmp_path: Path) -> None:
    environment = {**os.environ, "SWE_AEM_CACHE": str(tmp_path / "cache")}

    def run(*arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, env=environment, timeout=250
        )
        assert done.returncode == 0, done.stdout + done.stderr

    big = tmp_path / "big"
    run("make", str(big), "--trajectories", "300", "--tokens", "200")
    assert len(list(audited(big))) == 304  # whole groups
    index = StoreIndex(big / "rollouts")
    index.build()
    assert index.damaged() == ()
    assert {row.step for row in index.page(size=500).rows} == {1, 2}
    run("pages", str(big), "--json", str(tmp_path / "pages.json"))
    times = {one["name"]: one for one in json.loads((tmp_path / "pages.json").read_text())["times"]}
    for name in ("runs", "list", "list, searched, few have it", "groups", "task by step"):
        assert times[name]["status"] == 200
        assert times[name]["median_ms"] > 0
    run("longest", str(tmp_path / "long"), "--turns", "600", "--json", str(tmp_path / "long.json"))
    times = json.loads((tmp_path / "long.json").read_text())["times"]
    assert [one["status"] for one in times] == [200] * 5
