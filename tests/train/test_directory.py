"""Whose a run's directory is, as the command finds out before it loads what takes seconds."""

import subprocess
import sys
from pathlib import Path

import pytest

from swe_aem.errors import UserError
from swe_aem.train import directory
from swe_aem.train.config import read_config
from swe_aem.train.directory import CONFIG, EXTENSIONS, POLICY, claim_run_directory, existing_run
from swe_aem.train.records import RunSummary, write_run_summary

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
NO_TORCH = "import sys; sys.modules['torch'] = sys.modules['transformers'] = None; import swe_aem.cli as c; c.main()"


def store_one(store: Path) -> None:
    """A store with a trajectory, of which nobody reads more than that it is there."""
    (store / "trajectories").mkdir(parents=True)
    (store / "trajectories" / "000000.jsonl").write_text("{}\n")


def train(out: Path, *settings: str) -> "subprocess.CompletedProcess[str]":
    given = [f"--set={setting}" for setting in settings]
    line = [sys.executable, "-c", NO_TORCH, "train", str(QUICKSTART), "--out", str(out), *given]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_another_run_is_refused_before_any_library_is_loaded(tmp_path: Path) -> None:
    claim_run_directory(read_config(QUICKSTART), tmp_path)
    store_one(tmp_path / "rollouts")
    refused = train(tmp_path, "seed=7")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "seed was 0 and is now 7. Choose another --out" in refused.stderr
    assert "uv sync --extra train" in train(tmp_path).stderr, "the same run is resumed, as far as it gets without torch"


def test_a_rerun_with_other_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def used(identity: str) -> None:
        monkeypatch.setattr(directory, "training_extensions", lambda config: {"advantage": identity})

    used("sha256:a")
    claim_run_directory(read_config(QUICKSTART), tmp_path)
    store_one(tmp_path / "rollouts")
    assert claim_run_directory(read_config(QUICKSTART), tmp_path) is None
    used("sha256:b")
    said = "advantage was the code of sha256:a and is now the code of sha256:b"
    with pytest.raises(UserError, match=f"holds another run: {said}. Choose another --out"):
        claim_run_directory(read_config(QUICKSTART), tmp_path)
    (tmp_path / EXTENSIONS).unlink()
    assert claim_run_directory(read_config(QUICKSTART), tmp_path) is None, "an older version recorded nothing"


def test_what_a_stored_run_names_need_not_be_installed(tmp_path: Path) -> None:
    claim_run_directory(read_config(QUICKSTART), tmp_path)
    store_one(tmp_path / "rollouts")
    stored = tmp_path / CONFIG
    stored.write_text(stored.read_text().replace("type: epochs", "type: gone"))
    with pytest.raises(UserError, match=r'task_sampler\.type was "gone" and is now "epochs"'):
        existing_run(read_config(QUICKSTART), tmp_path)


def test_a_run_whose_settings_have_older_names_is_resumed(tmp_path: Path) -> None:
    claim_run_directory(read_config(QUICKSTART), tmp_path)
    store_one(tmp_path / "rollouts")
    stored = tmp_path / CONFIG
    stored.write_text(stored.read_text().replace("max_staleness: 0", "ahead: 0"))
    assert existing_run(read_config(QUICKSTART), tmp_path) == read_config(QUICKSTART)
    correction = "mode: truncate\n  low: null\n  high: 2.0"
    text = stored.read_text().replace("mode: none\n  low: null\n  high: null", correction)
    stored.write_text(text.replace("ahead: 0", "ahead: 1"))
    with pytest.raises(UserError, match="holds a run with `ahead`"):
        existing_run(read_config(QUICKSTART), tmp_path)


def test_a_run_that_failed_on_its_settings_holds_nothing(tmp_path: Path) -> None:
    claim_run_directory(read_config(QUICKSTART), tmp_path)
    assert existing_run(read_config(QUICKSTART, ["seed=7"]), tmp_path) is None


def test_a_first_evaluation_outlives_settings_that_the_trainer_refused(tmp_path: Path) -> None:
    claim_run_directory(read_config(QUICKSTART), tmp_path)
    for name in ("rollouts/trajectories", "checkpoints"):
        (tmp_path / name).mkdir(parents=True)
    assert existing_run(read_config(QUICKSTART, ["dtype=bfloat16"]), tmp_path) is None, "nothing is stored"
    store_one(tmp_path / "heldout" / "step-0-sampled")
    other = read_config(QUICKSTART, ["grpo.learning_rate=1e-3"])
    assert existing_run(other, tmp_path) == read_config(QUICKSTART)
    with pytest.raises(UserError, match=r"dtype was .*Choose another --out, or remove it: it has nothing but"):
        existing_run(read_config(QUICKSTART, ["dtype=bfloat16"]), tmp_path)


@pytest.mark.parametrize(
    "trained",
    [
        "rollouts/trajectories/000000.jsonl",
        "rollouts/unrewarded/trajectories/000000.jsonl",
        "checkpoints/checkpoint-2/x",
        "heldout.jsonl",
        "summary.json",
        "policy/model.safetensors",
    ],
)
def test_what_the_trainer_began_is_resumed_with_its_settings(trained: str, tmp_path: Path) -> None:
    claim_run_directory(read_config(QUICKSTART), tmp_path)
    (tmp_path / trained).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / trained).write_text("{}\n")
    with pytest.raises(UserError, match=r"grpo.learning_rate was .* and is now .*Choose another --out$"):
        existing_run(read_config(QUICKSTART, ["grpo.learning_rate=1e-3"]), tmp_path)


def test_a_stray_file_among_the_evaluations_is_nobodys_run(tmp_path: Path) -> None:
    claim_run_directory(read_config(QUICKSTART), tmp_path)
    store_one(tmp_path / "heldout" / "step-0-sampled")
    (tmp_path / "heldout" / "notes.txt").write_text("mine")
    assert existing_run(read_config(QUICKSTART), tmp_path) == read_config(QUICKSTART)


def test_a_finished_run_that_is_given_more_steps_is_finished_no_longer(tmp_path: Path) -> None:
    short, long = read_config(QUICKSTART, ["steps=2"]), read_config(QUICKSTART, ["steps=3"])
    claim_run_directory(short, tmp_path)
    store_one(tmp_path / "rollouts")
    (tmp_path / POLICY).mkdir()
    summary = RunSummary(model="m", tasks="t", steps=2, wall_s=1.0)
    write_run_summary(tmp_path, summary)
    assert claim_run_directory(short, tmp_path) == summary
    assert claim_run_directory(long, tmp_path) is None
    assert claim_run_directory(long, tmp_path) is None, "killed before its end, and repeated"
