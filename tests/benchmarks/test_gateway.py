"""The benchmarks of the gateway and of harnesses run through; no figure is checked, for the machine may be busy."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.walk import walk

REPOSITORY = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow]


def run(*words: str) -> None:
    done = subprocess.run([sys.executable, *words], cwd=REPOSITORY, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr


def test_gateway(tmp_path: Path) -> None:
    options = ["--sessions", "2", "--turns", "2", "--sample-s", "0.05", "--rounds", "1"]
    run("benchmarks/gateway.py", *options, "--json", str(tmp_path / "found.json"))
    found = json.loads((tmp_path / "found.json").read_text())
    assert set(found["2"]) == {"direct", "chat/completions", "messages", "responses"}
    assert all(figures["turns_per_s"] > 0 for figures in found["2"].values())


@pytest.mark.bubblewrap
def test_conversations(require_bubblewrap: None, tmp_path: Path) -> None:
    harness = tmp_path / "my_agent.py"
    harness.write_text(walk().harness)
    run("-m", "swe_aem", "harness", "install", str(harness))
    options = ["--agent", str(harness), "--at-once", "3", "--turns", "4", "--sample-s", "0.3"]
    run("benchmarks/conversations.py", *options, "--json", str(tmp_path / "found.json"))
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["conversations"], found["finished"], found["exact"]) == (3, 3, 3)
