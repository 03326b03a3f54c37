"""What a training run does before anything of it is loaded, and beside that."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="needs the train extra")

from swe_aem.errors import UserError
from swe_aem.sandbox.roots import state_dir
from swe_aem.store import Store
from swe_aem.train import loop, start
from swe_aem.train.config import TrainConfig, read_config
from swe_aem.train.heldout import evaluations
from swe_aem.train.lost import RolloutsLost
from swe_aem.train.start import start_training

QUICKSTART = Path("configs/quickstart.yaml")
SMALL = ("heldout.limit=8", "heldout.samples=2", "rollout.scheduling={concurrency: 2, starting: 1, grading: 1}")
ALL = 8 * 2 + 8
_LIMIT_S = 240.0


def test_nothing_is_reported_to_the_makers_of_libraries() -> None:
    """Their thread reads the environment while accelerate changes it: one run in a dozen ended with a segmentation
    fault."""
    code = (
        "import threading; from swe_aem.train.start import quiet; quiet()\n"
        "from huggingface_hub.utils import send_telemetry; send_telemetry('trl')\n"
        "assert threading.enumerate() == [threading.main_thread()]\n"
    )
    online = {
        name: value for name, value in os.environ.items() if name not in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    }
    subprocess.run([sys.executable, "-c", code], env=online, check=True)


Train = Callable[..., None]


def training(does: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the loop, for what comes before it: `does` gets what the loop is given."""
    monkeypatch.setattr(loop, "train", does)


def stored(out: Path) -> dict[str, str]:
    """Each trajectory of the first evaluation, by store and id."""
    found: dict[str, str] = {}
    for store in (out / "heldout").glob("step-0-*"):
        for one in Store(store).trajectories():
            assert f"{store.name} {one.id}" not in found
            found[f"{store.name} {one.id}"] = one.model_dump_json()
    return found


def until_stored(out: Path, count: int) -> None:
    end_s = time.monotonic() + _LIMIT_S
    while len(stored(out)) < count:
        assert time.monotonic() < end_s, (out / "run.log").read_text()
        time.sleep(0.02)


def sandboxes_of_run(out: Path) -> list[str]:
    runs = [json.loads(path.read_text())["run"] for path in (out / "heldout").glob("*/config.json")]
    entries = [path.read_text() for path in state_dir().glob("*/entry.json")]
    return [entry for entry in entries if any(run in entry for run in runs)]


@pytest.mark.slow
@pytest.mark.bubblewrap
@pytest.mark.torch
def test_the_first_evaluation_begins_beside_the_loop_and_outlives_what_ends_it(
    tmp_path: Path, require_bubblewrap: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody asks for it. It is kept where the trainer is refused its settings, and a rerun with others resumes it; so
    does another process where its own is killed."""

    def refuse(config: TrainConfig, directory: Path, open_source: Any, *, claim: Callable[[], Any]) -> None:
        assert claim() is None
        until_stored(tmp_path, 1)
        raise UserError("TRL refuses these settings")

    training(refuse, monkeypatch)
    with pytest.raises(UserError, match="TRL refuses"):
        start_training(read_config(QUICKSTART, [*SMALL, "grpo.lr_scheduler_type=cosin"]), tmp_path)
    refused = stored(tmp_path)
    assert refused
    assert not sandboxes_of_run(tmp_path)
    with pytest.raises(UserError, match=r"holds another run: .*seed was 0 and is now 7"):
        start_training(read_config(QUICKSTART, [*SMALL, "seed=7"]), tmp_path)

    def lose(config: TrainConfig, directory: Path, open_source: Any, *, claim: Callable[[], Any]) -> None:
        asked = evaluations(config, 0, greedy=True)
        with open_source(config, directory, None) as rollouts:
            until_stored(tmp_path, min(len(refused) + 1, ALL))
            pids.append(rollouts.pid)
            os.kill(rollouts.pid, signal.SIGKILL)
            with pytest.raises(RolloutsLost):
                rollouts.evaluate(asked["step-0-sampled"], 0, "step-0-sampled")
            known.update(stored(tmp_path))
            assert not rollouts.evaluation_wants_weights(asked, 0), "they are those that training starts from"
            for name, one in asked.items():
                assert rollouts.evaluate(one, 0, name) == directory / "heldout" / name
            pids.append(rollouts.pid)

    pids: list[int] = []
    known: dict[str, str] = {}
    training(lose, monkeypatch)
    start_training(read_config(QUICKSTART, SMALL), tmp_path)
    assert pids[0] != pids[1]
    found = stored(tmp_path)
    assert len(found) == ALL
    assert refused.items() <= known.items() <= found.items()


@pytest.mark.slow
@pytest.mark.bubblewrap
@pytest.mark.torch
def test_a_run_that_ends_at_once_has_its_rollouts_begin_nothing(
    tmp_path: Path, require_bubblewrap: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their process is told to close before it has made what there is to be closed."""

    def end(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    training(end, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        start_training(read_config(QUICKSTART, SMALL), tmp_path)
    assert not stored(tmp_path)
    assert " phase agent" not in (tmp_path / "run.log").read_text()


def test_a_launcher_of_several_processes_has_them_meet_before_anything_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    training(lambda *arguments, **named: given.append((arguments, named)), monkeypatch)
    monkeypatch.setenv("WORLD_SIZE", "2")
    config = read_config(QUICKSTART)
    assert start_training(config, tmp_path) is None
    assert given == [((config, tmp_path), {})]
    assert not (tmp_path / "config.yaml").exists()
    assert start._processes() == 2
