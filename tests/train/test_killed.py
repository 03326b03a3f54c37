"""A training run that is killed and repeated is the run that was never killed, bit for bit."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from typer.testing import CliRunner  # noqa: E402

from swe_aem.cli import app  # noqa: E402
from swe_aem.errors import UserError  # noqa: E402
from swe_aem.testing.steps import ScriptedSteps, save_tiny  # noqa: E402
from swe_aem.train.checkpoints import MARK, latest, remove_torn  # noqa: E402
from swe_aem.train.loop import train  # noqa: E402
from swe_aem.train.steps import Step  # noqa: E402
from tests.train.killable import configuration  # noqa: E402
from tests.train.outcome import metrics, weights  # noqa: E402
from tests.train.saved_twice import files, saved_twice  # noqa: E402

ASYNCHRONOUS = "asynchronous_checkpoints=true"
pytestmark = [
    pytest.mark.torch,
    pytest.mark.slow,
    pytest.mark.contract(trl=True, transformers=True),
    pytest.mark.timeout(3600),  # a process that only imports torch and TRL takes minutes on a busy machine
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    save_tiny(directory)
    return directory


@pytest.fixture(scope="module")
def undisturbed(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    train(configuration(model, 5), out, ScriptedSteps)
    return out


def killed(model: Path, out: Path, kill_at: str, *settings: str) -> int:
    """Status of a process that trains and kills itself."""
    script = str(Path(__file__).with_name("killable.py"))
    command = [sys.executable, script, str(model), str(out), "5", kill_at, *settings]
    return subprocess.run(command, capture_output=True, check=False).returncode


@pytest.mark.parametrize(
    ("kill_at", "settings"),
    [
        ("3", ()),
        pytest.param("save", (), marks=pytest.mark.nightly),
        pytest.param("begun", (ASYNCHRONOUS,), marks=pytest.mark.nightly),
        ("weights", (ASYNCHRONOUS,)),
        pytest.param("written", (ASYNCHRONOUS,), marks=pytest.mark.nightly),
        pytest.param("whole", (ASYNCHRONOUS,), marks=pytest.mark.nightly),
    ],
)
def test_a_killed_run_resumes_bit_for_bit(
    model: Path,
    undisturbed: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kill_at: str,
    settings: tuple[str, ...],
) -> None:
    """Wherever it was killed, and however its checkpoints are written."""
    assert killed(model, tmp_path, kill_at, *settings) == -signal.SIGKILL
    torn = list((tmp_path / "checkpoints/unfinished").glob("*"))
    train(configuration(model, 5, *settings), tmp_path, ScriptedSteps)
    told = capsys.readouterr().err
    assert ("resuming from the checkpoint of step 2" in told) == (kill_at in ("3", "whole"))
    assert ("which a killed process did not finish" in told) == bool(torn) == (kill_at not in ("3", "whole"))
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


def test_a_checkpoint_becomes_the_policy(undisturbed: Path, tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["export", "checkpoint", str(undisturbed), "--to", str(tmp_path / "model")])
    assert told.exit_code == 0, told.output
    assert told.output.endswith("model: the policy after 5 steps\n")
    policy = undisturbed / "policy"
    assert {one.name for one in policy.iterdir()} == {one.name for one in (tmp_path / "model").iterdir()}
    assert all((tmp_path / "model" / one.name).read_bytes() == one.read_bytes() for one in policy.iterdir())


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


@pytest.mark.parametrize("settings", [(), pytest.param(("lora={r: 4}",), id="adapter")])
def test_weights_that_change_meanwhile_are_in_no_checkpoint(
    model: Path, undisturbed: Path, tmp_path: Path, settings: tuple[str, ...]
) -> None:
    """All files of a checkpoint that is written while training continues are those of one that training waits for."""
    with saved_twice(tmp_path / "waited"):
        train(configuration(model, 5, ASYNCHRONOUS, *settings), tmp_path / "run", ScriptedSteps)
    found, expected = files(tmp_path / "run/checkpoints"), files(tmp_path / "waited")
    assert found == expected
    assert {name.partition("/")[0] for name in found} == {"checkpoint-8", "checkpoint-10"}, "two are kept"
    stored = "adapter_model.safetensors" if settings else "model.safetensors"
    assert found[f"checkpoint-8/{stored}"] != found[f"checkpoint-10/{stored}"], "nothing was trained"
    if not settings:
        assert metrics(tmp_path / "run") == metrics(undisturbed)
        assert weights(tmp_path / "run") == weights(undisturbed)


def test_only_whole_checkpoints_count(tmp_path: Path) -> None:
    for number, whole in ((2, True), (10, True), (12, False)):
        directory = tmp_path / f"checkpoint-{number}"
        directory.mkdir()
        if whole:
            (directory / MARK).touch()
    (tmp_path / "unfinished/checkpoint-14").mkdir(parents=True)
    assert latest(tmp_path) == tmp_path / "checkpoint-10"
    assert remove_torn(tmp_path) == [tmp_path / "checkpoint-12", tmp_path / "unfinished/checkpoint-14"]
    assert latest(tmp_path / "none") is None
