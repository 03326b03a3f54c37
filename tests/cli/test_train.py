"""`swe-aem train`: settings that the command line makes, and what it says of code that fails. Training itself is
tests/e2e/test_train.py."""

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from swe_aem.cli import app, main
from swe_aem.cli import train as verb
from swe_aem.errors import ExtensionFailed
from swe_aem.reward import REWARDS, Rewards
from swe_aem.testing.builders import make_trajectory

CONFIG = str(Path(__file__).parents[2] / "configs" / "quickstart.yaml")


def limits_of(*words: str) -> dict[str, object]:
    """The limits of sandboxes that a dry run prints."""
    done = CliRunner().invoke(app, ["train", CONFIG, "--dry-run", *words])
    assert done.exit_code == 0, done.output
    return yaml.safe_load(done.stdout)["rollout"]["limits"]


def test_no_limits_lifts_all_limits_of_sandboxes_and_set_still_wins() -> None:
    assert set(limits_of("--no-limits").values()) == {None}
    assert limits_of("--no-limits", "--set", "rollout.limits.pids=7")["pids"] == 7
    assert None not in limits_of().values()


def own_code() -> None:
    raise KeyError("of the user's")


def test_code_of_a_user_s_own_that_raises_shows_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def start(*_: Any, **__: Any) -> None:
        try:
            own_code()
        except KeyError as error:
            raise ExtensionFailed("task sampler mine raised KeyError") from error

    monkeypatch.setattr(verb, "start_training", start)
    monkeypatch.setattr(sys, "argv", ["swe-aem", "train", CONFIG, "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as left:
        main()
    said = capsys.readouterr().err
    assert left.value.code == 1
    assert "in own_code\n" in said
    assert said.endswith("swe-aem: task sampler mine raised KeyError\n")


def test_a_reward_that_raises_ends_training_with_its_own_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where it raises what elsewhere is told in one line, as for a file that is not there."""

    def reads_a_file(trajectory: Any, verdict: Any) -> float:
        return float(Path("/no/such/file").read_text())

    rewards = Rewards(REWARDS.add(reads_a_file))
    monkeypatch.setattr(verb, "start_training", lambda *given, **named: rewards(make_trajectory("t", 0)))
    monkeypatch.setattr(sys, "argv", ["swe-aem", "train", CONFIG, "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert 'return float(Path("/no/such/file").read_text())' in said
    assert "FileNotFoundError: [Errno 2] No such file or directory: '/no/such/file'\nswe-aem: reward " in said
    assert "rewards.py" not in said, "no frame of this package"


def shown(*words: str) -> str:
    return CliRunner().invoke(app, ["train", *words]).stdout


def test_show_prints_settings_and_nothing_else() -> None:
    config = str(Path(CONFIG).with_name("deepswe-32b-aem.yaml"))
    names = ("model", "hardware.gpus_per_host", "hardware.sharding", "lora")
    words = [word for name in names for word in ("--show", name)]
    assert shown(config, *words).splitlines() == ["models/Qwen3-32B", "8", "fsdp2", "null"]


def test_show_names_a_setting_that_does_not_exist() -> None:
    done = CliRunner().invoke(app, ["train", CONFIG, "--show", "modle"])
    assert str(done.exception) == "--show modle: the configuration has no such setting"


def test_a_dry_run_shows_what_launch_would_run() -> None:
    lines = shown(str(Path(CONFIG).with_name("lora-1gpu.yaml")), "--dry-run").splitlines()
    servers, ranks = [line for line in lines if line.startswith("# --launch: ")]
    assert servers.startswith("# --launch: CUDA_VISIBLE_DEVICES=0 swe-aem serve models/Qwen3-8B --port ")
    assert ranks.startswith("# --launch: CUDA_VISIBLE_DEVICES=0 python -m swe_aem train ")
    several = shown(
        str(Path(CONFIG).with_name("deepswe-32b-aem.yaml")), "--dry-run", "--set", "rollout.tasks=tasks/nano"
    )
    assert "# --launch: not on one host: this run needs 64 GPUs" in several
