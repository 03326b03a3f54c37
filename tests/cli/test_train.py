"""`swe-aem train`: settings that the command line makes. Training itself is tests/e2e/test_train.py."""

from pathlib import Path

import yaml
from typer.testing import CliRunner

from swe_aem.cli import app

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
