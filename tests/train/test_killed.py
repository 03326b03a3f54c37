"""A training run that is killed and repeated is the run that was never killed, bit for bit."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from swe_aem.testing.steps import save_tiny  # noqa: E402
from swe_aem.train.checkpoints import MARK, latest, remove_torn  # noqa: E402
from tests.train.outcome import metrics, weights  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    save_tiny(directory)
    return directory


@pytest.fixture(scope="module")
def run(model: Path) -> Run:
    def run(out: Path, steps: int, kill_at: str, *settings: str) -> Any:
        script = Path(__file__).with_name("killable.py")
        command = [sys.executable, str(script), str(model), str(out), str(steps), kill_at, *settings]
        return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)

    return run


@pytest.fixture(scope="module")
def undisturbed(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    done = run(out, 5, "0")
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.mark.parametrize("kill_at", ["3", "save"])
def test_a_killed_run_goes_on_bit_for_bit(run: Run, undisturbed: Path, tmp_path: Path, kill_at: str) -> None:
    killed = run(tmp_path, 5, kill_at)
    assert killed.returncode == -signal.SIGKILL
    again = run(tmp_path, 5, "0")
    assert again.returncode == 0, again.stderr[-3000:]
    assert ("resuming from the checkpoint of step 2" in again.stderr) == (kill_at == "3")
    assert [line["step"] for line in metrics(tmp_path)] == [1, 2, 3, 4, 5]
    assert metrics(tmp_path) == metrics(undisturbed)
    assert weights(tmp_path) == weights(undisturbed)


def test_a_finished_run_is_not_trained_again(run: Run, undisturbed: Path) -> None:
    """Nor evaluated, nor are its seconds counted anew."""
    files = sorted(path for path in undisturbed.rglob("*") if path.is_file() and path.name != ".lock")
    before = [path.read_bytes() for path in files]
    done = run(undisturbed, 5, "1")  # it never asks for step 1
    assert done.returncode == 0
    assert "is finished; nothing to do" in done.stderr
    assert [path.read_bytes() for path in files] == before


def test_other_settings_are_refused_by_name(run: Run, undisturbed: Path) -> None:
    done = run(undisturbed, 5, "0", "seed=7")
    assert done.returncode != 0
    assert "holds another run: " in done.stderr
    assert "seed was 0 and is now 7. Choose another --out" in done.stderr


def test_fewer_steps_than_were_trained_are_refused(run: Run, undisturbed: Path) -> None:
    done = run(undisturbed, 3, "0")
    assert done.returncode != 0
    assert "has trained 5 steps" in done.stderr
    assert json.loads((undisturbed / "summary.json").read_text())["steps"] == 5, "nothing was lost"


def test_wrong_trainer_settings_are_said_before_anything_begins(run: Run, tmp_path: Path) -> None:
    done = run(tmp_path, 5, "1", "grpo={scale_rewards: group}")  # it would die at step 1
    assert done.returncode == 1
    assert "scale_rewards=none" in done.stderr
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == ["config.yaml"]


def test_the_summary_says_what_was_trained(undisturbed: Path) -> None:
    summary = json.loads((undisturbed / "summary.json").read_text())
    assert summary["steps"] == 5
    assert summary["heldout_before"] is summary["heldout_after"] is None


def test_only_whole_checkpoints_count(tmp_path: Path) -> None:
    for number, whole in ((2, True), (10, True), (12, False)):
        directory = tmp_path / f"checkpoint-{number}"
        directory.mkdir()
        if whole:
            (directory / MARK).touch()
    assert latest(tmp_path) == tmp_path / "checkpoint-10"
    assert remove_torn(tmp_path) == [tmp_path / "checkpoint-12"]
    assert latest(tmp_path / "none") is None
