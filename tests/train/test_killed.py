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

from swe_aem.errors import UserError  # noqa: E402
from swe_aem.testing.steps import ScriptedSteps, save_tiny  # noqa: E402
from swe_aem.train.checkpoints import MARK, latest, remove_torn  # noqa: E402
from swe_aem.train.loop import train  # noqa: E402
from swe_aem.train.steps import Step  # noqa: E402
from tests.train.killable import configuration  # noqa: E402
from tests.train.outcome import metrics, weights  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.contract(trl=True, transformers=True)]
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
def test_a_killed_run_resumes_bit_for_bit(run: Run, undisturbed: Path, tmp_path: Path, kill_at: str) -> None:
    killed = run(tmp_path, 5, kill_at)
    assert killed.returncode == -signal.SIGKILL
    again = run(tmp_path, 5, "0")
    assert again.returncode == 0, again.stderr[-3000:]
    assert ("resuming from the checkpoint of step 2" in again.stderr) == (kill_at == "3")
    assert [line["step"] for line in metrics(tmp_path)] == [1, 2, 3, 4, 5]
    assert metrics(tmp_path) == metrics(undisturbed)
    assert weights(tmp_path) == weights(undisturbed)


class NoSteps(ScriptedSteps):
    """Steps of a run that must not begin."""

    def step(self, number: int) -> Step:
        raise AssertionError(f"step {number} is asked for")


def test_a_finished_run_is_not_trained_again(
    model: Path, undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor evaluated, nor are its seconds counted anew."""
    files = sorted(path for path in undisturbed.rglob("*") if path.is_file() and path.name != ".lock")
    before = [path.read_bytes() for path in files]
    train(configuration(model, 5), undisturbed, NoSteps)
    assert "is finished; nothing to do" in capsys.readouterr().err
    assert [path.read_bytes() for path in files] == before


def test_other_settings_are_refused_by_name(model: Path, undisturbed: Path) -> None:
    with pytest.raises(UserError, match=r"holds another run: .*seed was 0 and is now 7\. Choose another --out"):
        train(configuration(model, 5, "seed=7"), undisturbed, NoSteps)


def test_fewer_steps_than_were_trained_are_refused(model: Path, undisturbed: Path) -> None:
    with pytest.raises(UserError, match="has trained 5 steps"):
        train(configuration(model, 3), undisturbed, NoSteps)
    assert json.loads((undisturbed / "summary.json").read_text())["steps"] == 5, "nothing was lost"


def test_wrong_trainer_settings_are_said_before_anything_begins(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="TRL refuses these settings: cosin is not a valid SchedulerType"):
        train(configuration(model, 5, "grpo={lr_scheduler_type: cosin}"), tmp_path, NoSteps)
    assert {path.name for path in tmp_path.iterdir()} - {".lock"} == {"config.yaml", "extensions.json"}


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
