"""`swe-aem train --launch` as a user runs it, up to where training would begin; a stand-in takes vLLM's place.
Training with real servers is tests/e2e/test_launch.py."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from swe_aem.train.config import read_config
from swe_aem.train.directory import CONFIG, POLICY
from tests.train.launch.test_servers import STAND_IN, alive, wait_for

pytestmark = pytest.mark.slow

CPU = ["device=cpu", "servers.sync=file", f"launch.vllm={STAND_IN}"]


def launched(out: Path, *settings: str) -> "subprocess.Popen[str]":
    line = [sys.executable, "-m", "swe_aem", "train", "configs/quickstart.yaml", "--launch", "--out", str(out)]
    line += [f"--set={one}" for one in (*CPU, *settings)]
    return subprocess.Popen(line, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def pids_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PIDS", str(tmp_path / "pids"))
    return tmp_path / "pids"


def test_a_server_that_never_comes_up_ends_the_run_with_the_path_of_its_log(tmp_path: Path, pids_file: Path) -> None:
    pids_file.with_suffix(".mute").touch()
    run = launched(tmp_path / "out", "launch.server_start_s=1")
    _, said = run.communicate(timeout=120)
    assert run.returncode == 2
    assert "swe-aem: vLLM is not ready after 1 s" in said
    assert f"its log is {tmp_path / 'out' / 'serve'}/vllm-" in said
    cause = said.splitlines()[-1].removeprefix("swe-aem: ")
    assert (tmp_path / "out" / "run.log").read_text().endswith(f"{cause}\n")
    begun = pids_file.read_text().split() if pids_file.exists() else []  # on a busy machine it may not get so far
    assert not any(alive(int(pid)) for pid in begun)


def test_ctrl_c_while_servers_start_leaves_nothing(tmp_path: Path, pids_file: Path) -> None:
    pids_file.with_suffix(".mute").touch()
    run = launched(tmp_path / "out")
    wait_for(pids_file.exists)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=120)
    assert run.returncode == 130, said
    assert "interrupted; repeat the command to resume" in said
    assert not any(alive(int(pid)) for pid in pids_file.read_text().split())


def test_a_finished_run_starts_no_server_whatever_its_servers_were(tmp_path: Path, pids_file: Path) -> None:
    out = tmp_path / "out"
    (out / "checkpoints").mkdir(parents=True)
    (out / POLICY).mkdir()
    stored = read_config(Path("configs/quickstart.yaml"), [*CPU, "servers.urls=[http://127.0.0.1:1]"])
    (out / CONFIG).write_text(yaml.safe_dump(stored.model_dump(mode="json")))
    summary = {"model": "m", "tasks": "t", "steps": 14, "wall_s": 1.0}
    (out / "summary.json").write_text(json.dumps(summary))
    run = launched(out)
    _, said = run.communicate(timeout=120)
    assert run.returncode == 0, said
    assert "is finished; nothing to do" in said
    assert not pids_file.exists()


def test_what_training_would_refuse_is_refused_before_a_server_starts(tmp_path: Path, pids_file: Path) -> None:
    masked = ["importance_sampling.mode=mask", "importance_sampling.low=0.5", "grpo.loss_type=vespo"]
    run = launched(tmp_path / "out", *masked)
    _, said = run.communicate(timeout=120)
    assert run.returncode == 2
    assert "one masked token would silence its trajectory" in said
    assert not pids_file.exists()
