"""`swe-aem rollout` and `swe-aem export preds`: settings, messages, exit codes. The work itself is replaced."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from swe_aem.cli import app
from swe_aem.core import Outcome, Trajectory
from swe_aem.errors import UserError
from swe_aem.rollout import RolloutConfig, RolloutResult, RunAborted
from swe_aem.rollout import run as rollout_run
from swe_aem.store import Store, Totals
from swe_aem.tasks import TaskSet
from swe_aem.testing.builders import make_record, make_trajectory


def trajectory(task_id: str, sample: int = 0, outcome: Outcome = Outcome.RESOLVED, **changes: Any) -> Trajectory:
    reward = None if outcome in (Outcome.INFRASTRUCTURE, Outcome.GRADER_FAILURE) else float(outcome is Outcome.RESOLVED)
    return make_trajectory(task_id, sample, **{"outcome": outcome, "reward": reward, "patch": "", **changes})


class Runs:
    """Stands in for `RolloutRun`; remembers what it was asked and ends as told."""

    def __init__(self) -> None:
        self.config: RolloutConfig | None = None
        self.directory: Path | None = None
        self.outcomes = [Outcome.RESOLVED] * 3
        self.interrupted = False
        self.error: Exception | None = None

    def __call__(self, config: RolloutConfig, tasks: TaskSet, store: Store, *, elsewhere: object = None) -> "Runs":
        self.config, self.directory = config, store.directory
        return self

    def __enter__(self) -> "Runs":
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    async def run(self, *, signals: bool) -> RolloutResult:
        assert signals
        if self.error:
            raise self.error
        totals = Totals()
        for n, outcome in enumerate(self.outcomes):
            totals.add(trajectory(f"t{n}", outcome=outcome))
        summary = totals.summary(wanted=3, group_size=1, surplus_cancelled=0, wall_s=1.0)
        return RolloutResult(directory=Path(), summary=summary, interrupted=self.interrupted)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    stand_in = Runs()
    monkeypatch.setattr(rollout_run, "RolloutRun", stand_in)
    tasks = TaskSet("tasks", (make_record("t0"), make_record("t1"), make_record("t2")))
    monkeypatch.setattr(import_module("swe_aem.rollout"), "chosen_tasks", lambda config: tasks)
    return stand_in


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_the_command_that_others_rely_on(runs: Runs, tmp_path: Path) -> None:
    command = "rollout --tasks tasks/micro --split heldout --agent gold --sandbox bubblewrap --limit 16 --group-size 1"
    result = invoke(*command.split(), "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert runs.config == RolloutConfig(split="heldout", limit=16)
    assert runs.directory == tmp_path
    assert "3 of 3 trajectories" in result.output
    assert "3 resolved (100.0%)" in result.output


def test_options_reach_their_settings(runs: Runs) -> None:
    arguments = (
        "--agent native --policy http://h:1 --tokenizer bytes --concurrency 7 --starting 3 --grading 5 "
        "--time-limit-s 60 --max-turns 9 --max-context-tokens 999 --temperature 0.5 --seed 4 --memory 512m --cpus 1.5 "
        "--disk 2g --pids 64 --id a --id b --max-attempts 2 --set native.max_observation_bytes=900"
    )
    assert invoke("rollout", *arguments.split()).exit_code == 0
    config = runs.config
    assert config is not None
    assert (config.agent, config.policy, config.tokenizer, config.ids) == ("native", "http://h:1", "bytes", ("a", "b"))
    assert (config.scheduling.concurrency, config.scheduling.starting, config.scheduling.grading) == (7, 3, 5)
    assert (config.native.max_turns, config.native.max_context_tokens, config.native.seed) == (9, 999, 4)
    assert (config.native.temperature, config.native.max_observation_bytes, config.time_limit_s) == (0.5, 900, 60.0)
    assert (config.limits.memory_bytes, config.limits.disk_bytes) == (512 << 20, 2 << 30)
    assert (config.limits.cpus, config.limits.pids, config.scheduling.max_attempts) == (1.5, 64, 2)
    assert runs.directory == Path("runs/micro-native-bubblewrap")


def test_a_config_file_gives_settings_and_options_override_it(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("group_size: 4\nagent: noop\n")
    assert invoke("rollout", "--config", str(tmp_path / "run.yaml"), "--group-size", "2").exit_code == 0
    assert runs.config == RolloutConfig(group_size=2, agent="noop")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--agent golden", "did you mean gold"),
        ("--agent native --policy glod", "did you mean gold"),
        ("--agent native", "needs policy"),
        ("--set nonsense", "NAME=VALUE"),
        ("--set no.such=1", "no is unknown"),
    ],
)
def test_wrong_input_is_a_user_error(runs: Runs, arguments: str, said: str) -> None:
    result = invoke("rollout", *arguments.split())
    assert isinstance(result.exception, UserError)
    assert said in str(result.exception)
    assert runs.config is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--memory lots", "'--memory': lots is no size; give one such as 512m or 4g"),
        ("--group-size 0", "'--group-size': must be at least 1"),
        ("--group-size two", "'--group-size': expected a whole number"),
        ("--cpus many", "'--cpus': expected a number"),
        ("--max-failure-rate 2", "'--max-failure-rate': must be at most 1"),
        ("--lock-policy x", "'--lock-policy': 'x' is not one of 'require', 'drop', 'weigh'"),
        ("--limt 3", "--limit"),
    ],
)
def test_a_wrong_option_says_what_fits(runs: Runs, arguments: str, said: str) -> None:
    result = invoke("rollout", *arguments.split())
    assert result.exit_code == 2
    assert said in result.output
    assert "Input should" not in result.output
    assert "Value error" not in result.output
    assert runs.config is None


def test_help_has_choices_ranges_and_panels() -> None:
    said = invoke("rollout", "--help").output
    assert "bubblewrap (no daemon), docker, podman, or one of your own" in " ".join(said.split())
    assert "<require|drop|weigh>" in said
    assert "--group-size <int range>" in said
    assert "<str>" not in said.split("Agent and policy:")[1], "no choice is shown as any text"
    titles = [line for line in said.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert titles == ["Tasks:", "Agent and policy:", "Groups:", "Sandboxes:", "Scheduling:", "Options:"]


def test_every_option_of_a_setting_reaches_it() -> None:
    from swe_aem.cli.rollout import PANELS

    for option in [one for many in PANELS.values() for one in many]:
        model: object = RolloutConfig
        for part in option.setting.split("."):
            assert part in model.model_fields, option.setting  # type: ignore[attr-defined]
            model = model.model_fields[part].annotation  # type: ignore[attr-defined]


def test_dry_run_prints_the_settings_and_does_nothing(runs: Runs, tmp_path: Path) -> None:
    result = invoke("rollout", "--dry-run", "--group-size", "4", "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    assert "3 tasks, 12 trajectories" in result.output
    assert RolloutConfig.model_validate(yaml.safe_load(result.output)) == RolloutConfig(group_size=4)
    assert runs.config is None
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("failures", "arguments", "code"),
    [(0, "", 0), (1, "", 1), (1, "--max-failure-rate 0.4", 0), (2, "--max-failure-rate 0.4", 1)],
)
def test_too_many_infrastructure_failures_are_an_exit_code(
    runs: Runs, failures: int, arguments: str, code: int
) -> None:
    runs.outcomes = [Outcome.INFRASTRUCTURE] * failures + [Outcome.UNRESOLVED] * (3 - failures)
    assert invoke("rollout", *arguments.split()).exit_code == code


def test_an_interrupted_run_exits_with_130(runs: Runs) -> None:
    runs.interrupted = True
    assert invoke("rollout").exit_code == 130


def test_an_aborted_run_says_why_and_exits_with_1(runs: Runs) -> None:
    runs.error = RunAborted("12 attempts in a row failed")
    result = invoke("rollout")
    assert result.exit_code == 1
    assert "12 attempts in a row failed" in result.stderr


def test_predictions_for_the_official_harness(tmp_path: Path) -> None:
    with Store(tmp_path / "run").writer() as writer:
        writer.append(trajectory("t0", patch="diff 0"))
        writer.append(trajectory("t0", 1, patch="diff 1"))
        writer.append(trajectory("t1", outcome=Outcome.EMPTY_PATCH))
        writer.append(trajectory("t2", outcome=Outcome.INFRASTRUCTURE))
        writer.append(trajectory("t3", outcome=Outcome.GRADER_FAILURE, patch="diff 3"))
    out = tmp_path / "preds.json"
    result = invoke("export", "preds", str(tmp_path / "run"), "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "3 predictions" in result.output
    assert "1 tasks without one left out" in result.output
    found = json.loads(out.read_text())
    assert {task: one["model_patch"] for task, one in found.items()} == {"t0": "diff 0", "t1": "", "t3": "diff 3"}
    assert found["t0"] == {"model_name_or_path": "fake-model", "instance_id": "t0", "model_patch": "diff 0"}
    arguments = ["--out", str(out), "--sample", "1", "--model-name", "mine"]
    assert invoke("export", "preds", str(tmp_path / "run"), *arguments).exit_code == 0
    assert json.loads(out.read_text()) == {
        "t0": {"model_name_or_path": "mine", "instance_id": "t0", "model_patch": "diff 1"}
    }


def test_exporting_what_is_no_store_is_a_user_error(tmp_path: Path) -> None:
    assert isinstance(invoke("export", "preds", str(tmp_path)).exception, UserError)
