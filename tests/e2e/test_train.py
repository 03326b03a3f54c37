"""`swe-aem train` as a user runs it: the shipped policy, real sandboxes and tests; finished, interrupted, repeated."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from swe_aem.core.owner import start_ticks  # noqa: E402
from swe_aem.store import Store  # noqa: E402
from swe_aem.train.config import read_config  # noqa: E402
from swe_aem.train.consumed import read_consumed  # noqa: E402
from swe_aem.train.directory import existing_run  # noqa: E402
from swe_aem.train.records import read_heldout, read_metrics  # noqa: E402
from swe_aem.view.trace import trace  # noqa: E402
from tests.view.trace_rules import check, slices  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.bubblewrap, pytest.mark.torch]

SMALL = (
    "oversampled_groups=3", "groups_per_step=2", "num_minibatches=1", "micro_batch_size=4", "save_every=1",
    "rollout.group_size=4", "heldout.limit=6",
)  # fmt: skip


def command(out: Path, *settings: str) -> list[str]:
    chosen = [f"--set={setting}" for setting in (*SMALL, *settings)]
    return [sys.executable, "-m", "swe_aem", "train", "configs/quickstart.yaml", "--out", str(out), *chosen]


def train(out: Path, *settings: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command(out, *settings), capture_output=True, text=True, timeout=280, check=False)


def stored(out: Path) -> dict[str, Any]:
    return {one.id: one for one in Store(out / "rollouts").trajectories()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    done = train(out, "steps=2")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "held out after 2 steps" in done.stderr
    assert f"open {out / 'report.html'}" in done.stdout
    return out


def test_a_run_leaves_what_it_promises(finished: Path, require_bubblewrap: None) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    for name in ("heldout_before", "heldout_after"):
        assert summary[name]["tasks"] == 6
        assert 0 <= summary[name]["low"] <= summary[name]["pass_at_1"] <= summary[name]["high"] <= 1
        assert summary[name]["greedy"] is not None
        assert summary[name]["faults"] == 0
    assert summary["steps"] == 2
    assert summary["wall_s"] > 0
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert [line["groups"] + line["rejected_groups"] for line in lines] == [3, 3]
    assert all(line["infrastructure_failures"] == 0 for line in lines)
    missing = {name for one in read_metrics(finished) for name, value in one if value is None}
    without_settings = {
        "importance_low_share", "importance_high_share", "compile_graphs", "compile_graph_breaks", "compile_s",
        "branch_row_share", "branch_token_share", "fleet",
    }  # fmt: skip
    assert missing == without_settings
    assert all(line["importance/k3_kl"] < 1e-6 for line in lines), "the sampler is a copy of the old policy"
    assert [one.step for one in read_heldout(finished)] == [0, 2]
    assert (finished / "policy" / "model.safetensors").exists()
    assert (finished / "report.html").stat().st_size > 10_000


def assert_seconds_add_up(out: Path) -> None:
    """Each second of a step is of one phase, and the steps are the time from the start of training to their lines."""
    wall_s = 0.0
    for line in read_metrics(out):
        assert line.step_s is not None
        assert line.wall_s is not None
        assert line.optimising_s, "a step trains"
        wall_s += line.step_s
        assert sum(line.seconds_of_phases().values()) == pytest.approx(line.step_s)
        assert line.wall_s == pytest.approx(wall_s)


def test_its_trace_has_the_trainer_and_every_attempt(finished: Path) -> None:
    found = trace(finished)
    check(found)
    for line in read_metrics(finished):
        step = next(one for one in slices(found, "trainer") if one["name"] == f"step {line.step}")
        assert step["dur"] / 1e6 == pytest.approx(line.step_s, abs=1e-3)
        for phase in ("rollout_wait", "optimising", "scoring"):
            parts = (
                one for one in slices(found, "trainer") if one["name"] == phase and one["args"]["step"] == line.step
            )
            told_s = sum(one["dur"] for one in parts) / 1e6
            assert told_s == pytest.approx(getattr(line, f"{phase}_s"), abs=0.1), "but for what is very short"
    attempts = {(one["args"]["task"], one["args"]["sample"]) for one in slices(found, "rollouts")}
    assert attempts == {(one.task_id, one.sample) for one in stored(finished).values()}
    assert slices(found, "evaluation step-0-sampled")


def test_no_second_of_a_step_is_counted_twice(finished: Path) -> None:
    assert_seconds_add_up(finished)
    first, second = read_metrics(finished)
    for line in (first, second):
        assert line.rollout_wait_s, "on-policy: a step waits for its rollouts"
        assert line.rollout_wait_s == pytest.approx(line.rollout_s, rel=0.2)
    assert (first.checkpoint_s, bool(second.checkpoint_s)) == (0, True), "that of the step before"


def test_stored_tokens_and_logprobs_are_those_of_the_policy_that_sampled(finished: Path) -> None:
    from swe_aem.train.models import load_model

    model = load_model("configs/quickstart/policy")
    first = [one for one in stored(finished).values() if one.responses[0].version == 0]
    assert len(first) == 12
    for one in first:
        with torch.no_grad():
            logprobs = model(torch.tensor([one.token_ids])).logits[0].double().log_softmax(-1)
        for response in one.responses:
            ids = torch.tensor(one.token_ids[response.start : response.end])
            exact = logprobs[response.start - 1 : response.end - 1].gather(1, ids.unsqueeze(1)).squeeze(1)
            assert exact.tolist() == pytest.approx(response.logprobs, abs=1e-4)


def test_every_response_bears_the_version_that_sampled_it(finished: Path) -> None:
    versions = [response.version for one in stored(finished).values() for response in one.responses]
    assert set(versions) == {0, 1}
    assert len(stored(finished)) == 24


def test_training_changed_the_policy(finished: Path) -> None:
    from swe_aem.train.models import load_model

    before, after = load_model("configs/quickstart/policy"), load_model(finished / "policy")
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)


def test_a_finished_run_can_be_given_more_steps(finished: Path) -> None:
    known = stored(finished)
    done = train(finished, "steps=3")
    assert done.returncode == 0, done.stderr[-3000:]
    now = stored(finished)
    assert len(now) == 36
    assert {id: now[id] for id in known} == known
    assert json.loads((finished / "summary.json").read_text())["steps"] == 3
    assert len(list(Store(finished / "heldout" / "step-3-sampled").trajectories())) == 6, "it is evaluated anew"


def test_two_processes_train_on_one_rollout(tmp_path: Path, require_bubblewrap: None) -> None:
    """The first rolls out and deals; both train, so a row less or twice would not come out even."""
    _, _, module, *arguments = command(tmp_path, "steps=2", "heldout=null", "micro_batch_size=2")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", module]
    done = subprocess.run([*launch, *arguments], capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(stored(tmp_path)) == 24
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["groups"], line["rejected_groups"]) for line in lines] == [(1, 2, 1), (2, 2, 1)]
    assert {response.version for one in stored(tmp_path).values() for response in one.responses} == {0, 1}


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(("lora.r=4", "grpo.entropy_coef=0.001"), id="adapter, entropy bonus"),
        pytest.param(("grpo.use_adaptive_entropy=true",), id="adaptive entropy", marks=pytest.mark.nightly),
        pytest.param(("grpo.top_entropy_quantile=0.2",), id="tokens of high entropy", marks=pytest.mark.nightly),
    ],
)
def test_one_step_ahead_with_what_aem_is_compared_with(tmp_path: Path, require_bubblewrap: None, extra: Any) -> None:
    correction = ("importance_sampling.mode=truncate", "importance_sampling.high=2")
    settings = ("steps=2", "heldout=null", "max_staleness=1", *correction, "grpo.learning_rate=0.001", *extra)
    done = train(tmp_path, *settings)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["staleness"] == 0
    assert 0 < lines[1]["staleness"] <= 1, "turns that begin after the update are of the new version"
    assert lines[0]["importance/mean"] == pytest.approx(1, abs=1e-3)
    assert all(line["loss"] == line["loss"] for line in lines), "no loss is NaN"
    assert_seconds_add_up(tmp_path)


QUEUED = (
    "steps=3", "heldout=null", "max_staleness=1", "importance_sampling.mode=truncate", "importance_sampling.high=2",
    "grpo.learning_rate=0.001", "save_every=9", "rollout.scheduling.concurrency=4",
)  # fmt: skip


@pytest.mark.parametrize("lines", [2, pytest.param(3, marks=pytest.mark.nightly)])
def test_after_a_kill_the_same_groups_are_trained_on_in_the_same_order(
    tmp_path: Path, require_bubblewrap: None, lines: int
) -> None:
    """SIGKILL once so many steps have taken their groups, and no checkpoint is there: all are trained again."""
    process = subprocess.Popen(command(tmp_path, *QUEUED), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    journal = tmp_path / "consumed.jsonl"
    while time.monotonic() < deadline and not (journal.exists() and journal.read_bytes().count(b"\n") >= lines):
        time.sleep(0.02)
    process.kill()
    process.wait()
    decided, losses = read_consumed(tmp_path), {line.step: line.loss for line in read_metrics(tmp_path)}
    assert len(decided) >= lines
    done = train(tmp_path, *QUEUED)
    assert done.returncode == 0, done.stderr[-3000:]
    now = read_consumed(tmp_path)
    assert now[: len(decided)] == decided
    groups = [(one.task_id, one.epoch) for step in now for one in step.groups]
    assert len(groups) == len(set(groups)), "no group is trained on twice"
    assert [sum(one.use == "trained" for one in step.groups) for step in now] == [2, 2, 2]
    again = read_metrics(tmp_path)
    assert [line.step for line in again] == [1, 2, 3]
    assert {line.step: line.loss for line in again if line.step in losses} == losses
    assert max(line.max_age or 0 for line in again) <= 1


def test_ctrl_c_ends_it_cleanly_and_the_rerun_finishes(tmp_path: Path, require_bubblewrap: None) -> None:
    settings = ("steps=2", "heldout=null", "rollout.group_size=8", "rollout.scheduling.concurrency=4")
    process = subprocess.Popen(command(tmp_path, *settings), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (_trajectories(tmp_path) >= 4):
        time.sleep(0.1)
    rollouts = _rollouts_of(process.pid)
    assert _sandboxes_of(rollouts)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)  # as where a launcher passes on what the terminal has sent already
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "repeat the command to resume" in said
    assert not _sandboxes_of(rollouts)
    assert start_ticks(rollouts) is None
    known = stored(tmp_path)
    assert 4 <= len(known) < 48
    done = train(tmp_path, *settings)
    assert done.returncode == 0, done.stderr[-3000:]
    now = stored(tmp_path)
    assert len(now) == 48
    assert {id: now[id] for id in known} == known


def test_a_failed_start_holds_nothing(tmp_path: Path) -> None:
    done = train(tmp_path, "model=/no/such/model")
    assert done.returncode == 2
    *_, loading, error = done.stderr.splitlines()
    assert loading.startswith("loading")
    assert "/no/such/model: no such directory" in error
    assert existing_run(read_config(Path("configs/quickstart.yaml")), tmp_path) is None


@pytest.mark.nightly
def test_rollouts_that_are_killed_cost_no_row_and_no_number(
    finished: Path, tmp_path: Path, require_bubblewrap: None
) -> None:
    """Against a run whose rollouts were a thread of the trainer."""
    settings = ("steps=2", "heldout=null")
    process = subprocess.Popen(command(tmp_path / "killed", *settings), stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not _trajectories(tmp_path / "killed") >= 14:
        time.sleep(0.05)
    rollouts = _rollouts_of(process.pid)
    os.kill(rollouts, signal.SIGKILL)
    _, said = process.communicate(timeout=280)
    assert process.returncode == 0, said
    assert "was ended by SIGKILL" in said
    in_thread = _in_a_thread(tmp_path / "thread", *settings)
    tokens = [{id: one.token_ids for id, one in stored(out).items()} for out in (tmp_path / "killed", in_thread)]
    assert len(tokens[0]) == 24
    assert tokens[0] == tokens[1]
    policies = [out / "policy" / "model.safetensors" for out in (tmp_path / "killed", in_thread)]
    assert policies[0].read_bytes() == policies[1].read_bytes()


def _in_a_thread(out: Path, *settings: str) -> Path:
    from swe_aem.train.config import read_config
    from swe_aem.train.loop import train
    from swe_aem.train.rollout_worker import RolloutWorker

    train(read_config(Path("configs/quickstart.yaml"), [*SMALL, *settings]), out, RolloutWorker)
    return out


def _rollouts_of(pid: int) -> int:
    """The process in which a trainer's rollouts are."""
    children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    (rollouts,) = [one for one in children if "rollout_side" in Path(f"/proc/{one}/cmdline").read_text()]
    return rollouts


def _trajectories(out: Path) -> int:
    parts = (out / "rollouts" / "trajectories").glob("*.jsonl")
    return sum(part.read_bytes().count(b"\n") for part in parts)


def _sandboxes_of(pid: int) -> list[str]:
    """Sandboxes whose entry names that process as owner."""
    from swe_aem.sandbox.roots import state_dir

    entries = (path.read_text() for path in state_dir().glob("*/entry.json"))
    return [entry for entry in entries if json.loads(entry)["lease"]["owner"]["pid"] == pid]
