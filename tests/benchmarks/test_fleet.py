"""The benchmark of a fleet: its simulation runs here, and all of it, in small, at night."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fleet.py"


def figures(result: Path, *options: str) -> dict[str, float]:
    command = [sys.executable, str(SCRIPT), "--quick", "--json", str(result), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(result.read_text())


@pytest.mark.slow
def test_each_image_is_on_some_host(tmp_path: Path) -> None:
    found = figures(tmp_path / "found.json", "--only", "images")
    assert found["images: tasks over hosts"] == 8
    assert 1 <= found["images: images per host to tasks over hosts"] <= 8


def test_a_part_that_is_not_there_is_refused() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "--only", "speed"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "not speed" in done.stderr


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.bubblewrap
@pytest.mark.timeout(1800)
def test_all_parts_run(tmp_path: Path, require_bubblewrap: None) -> None:
    found = figures(tmp_path / "found.json")
    assert {name.partition(":")[0] for name in found} == {"processor", "images", "calls", "cores", "sleeping"}
    assert all(value > 0 for value in found.values()), found
