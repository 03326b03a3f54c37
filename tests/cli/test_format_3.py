"""What commit 9d8487e wrote (tests/data/format-3) says the same to each command that reads it, and is not resumed."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from swe_aem.cli import app
from swe_aem.errors import UserError
from swe_aem.policy import tokenizer_fingerprint
from swe_aem.rollout import name_tokenizer, require_tokenizer
from swe_aem.rollout.manifest import read_manifest
from swe_aem.store import FORMAT, Store
from swe_aem.train.config import read_config
from swe_aem.train.directory import claim_run_directory
from swe_aem.view.training_run import read_training_run

SAMPLE = Path(__file__).parents[1] / "data" / "format-3"
RUN, GOLD = SAMPLE / "run", SAMPLE / "gold"
POLICY = str(SAMPLE / "policy")
OLDER = rf"older swe-aem \(format 3, now {FORMAT}\): it can be read, not resumed. Choose"
NEW_NAMES = {
    "gated": "unmodulated", "gated_share": "unmodulated_share", "silent_groups": "zero_variance_groups",
    "pressure_up": "foretold_down", "pressure_down": "foretold_up",
}  # fmt: skip
"""What the commands now call what they said in `expected`."""


def expected(name: str) -> Any:
    """What the old code printed, by the names of today."""

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {NEW_NAMES.get(key, key): renamed(inner) for key, inner in value.items()}
        return [renamed(inner) for inner in value] if isinstance(value, list) else value

    return renamed(json.loads((SAMPLE / "expected" / f"{name}.json").read_text()))


def assert_says(found: Any, wanted: Any, where: str = "") -> None:
    """All that is wanted is found, numbers to rounding; more may be said."""
    if isinstance(wanted, dict):
        for name, value in wanted.items():
            assert name in found, f"{where}.{name}"
            assert_says(found[name], value, f"{where}.{name}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), where
        for number, value in enumerate(wanted):
            assert_says(found[number], value, f"{where}[{number}]")
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, rel=1e-4, abs=1e-6), where
    else:
        assert found == wanted, where


def invoke(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.stdout


def named(directory: Path) -> Path:
    """A copy of the run's store that names its tokenizer."""
    store = shutil.copytree(RUN / "rollouts", directory / "named")
    assert invoke("name-tokenizer", store, "--tokenizer", POLICY).startswith(f"{store}: tokenizer ")
    return store


def test_whose_the_token_ids_are_has_to_be_said_once(tmp_path: Path) -> None:
    store = shutil.copytree(RUN / "rollouts", tmp_path / "store")
    with pytest.raises(UserError, match=rf"by `swe-aem name-tokenizer {store} --tokenizer configs/quickstart/policy`"):
        require_tokenizer(store, POLICY)
    with pytest.raises(UserError, match=r"has the token id \d+, and bytes has 265 ids: name the tokenizer that the st"):
        name_tokenizer(store, None)
    before = json.loads((store / "config.json").read_text())
    name_tokenizer(store, POLICY)
    name_tokenizer(store, POLICY)
    require_tokenizer(store, POLICY)
    assert json.loads((store / "config.json").read_text()) == {**before, "tokenizer": tokenizer_fingerprint(POLICY)}
    with pytest.raises(UserError, match="and that of bytes is"):
        name_tokenizer(store, None)


@pytest.mark.parametrize(
    ("name", "stores"),
    [
        ("eval", [RUN / "rollouts"]),
        ("eval-two", [RUN / "heldout" / "step-0-sampled", RUN / "heldout" / "step-2-greedy"]),
        ("eval-gold", [GOLD]),
    ],
)
def test_eval(name: str, stores: list[Path]) -> None:
    assert_says(json.loads(invoke("eval", *stores, "--json")), expected(name))


def test_replay_advantages() -> None:
    pytest.importorskip("torch", reason="needs the transformers extra")
    found = json.loads(invoke("replay-advantages", RUN / "rollouts", "--json"))
    wanted = expected("replay-advantages")
    wanted[1]["name"] = "aem"  # settings are called by their estimator
    assert_says(found, wanted)


@pytest.mark.torch
def test_diagnose(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the transformers extra")
    pytest.importorskip("matplotlib", reason="needs the train extra")
    options = ["--states", "4", "--samples", "4", "--version", "0", "--out", tmp_path]
    invoke("diagnose", named(tmp_path), "--model", POLICY, *options)
    wanted = expected("diagnose")
    wanted["state_relations"] = [turned(one) for one in wanted["state_relations"]]
    assert_says(json.loads((tmp_path / "diagnose.json").read_text()), wanted)


def turned(relation: dict[str, Any]) -> dict[str, Any]:
    """A relation to S-H as one to H-S, which α-1 stands for."""
    low, high = relation["agree_interval"]
    return relation | {
        "name": relation["name"].replace("S-H", "H-S"),
        "r": -relation["r"],
        "r_low": -relation["r_high"],
        "r_high": -relation["r_low"],
        "agree": relation["signs"] - relation["agree"],
        "agree_interval": [1 - high, 1 - low],
    }


@pytest.mark.torch
def test_sft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trl", reason="needs the train extra")
    from swe_aem.train import sft

    given: list[Any] = []
    monkeypatch.setattr(
        sft,
        "fine_tune",
        lambda model, rows, out, settings: given.extend(rows) or {"train_loss": 0.0, "train_runtime": 0.0},
    )
    said = invoke("sft", "--from", named(tmp_path), "--model", POLICY, "--out", tmp_path)
    assert "3 of 5 resolved trajectories (2 repeated, 0 beyond --per-task, 0 too long)" in said
    assert sum(len(row["input_ids"]) for row in given) == 689
    assert sum(label >= 0 for row in given for label in row["labels"]) == 161


def test_a_row_keeps_its_branches() -> None:
    *_, rewritten = Store(GOLD).trajectories()
    assert rewritten.messages == ({"role": "user", "content": "Fix \udcff it"},)
    assert [branch.token_ids for branch in rewritten.branches] == [tuple(range(20, 28)), (1, 2, 3)]
    assert [len(branch.responses) for branch in rewritten.branches] == [1, 0]
    assert not any(branch.by_agent for branch in rewritten.branches), "nobody knows who asked for them"
    assert [one.responses[0].logprobs for one in (rewritten, rewritten.branches[0])] == [(-0.125, -0.25, -0.375)] * 2


def test_agent_and_policy_are_told_apart() -> None:
    manifest = read_manifest(GOLD)
    assert manifest is not None
    assert (manifest.config.agent, manifest.config.policy, manifest.store_format) == ("native", "gold", 3)


def test_report(tmp_path: Path) -> None:
    said = invoke("report", RUN, "--out", tmp_path)
    assert "the sampled rate stayed at 0.0%; the greedy rate rose from 0.0% to 50.0%" in said
    assert (tmp_path / "report.html").read_text().count("<figure") == 17


def test_metrics_of_an_old_run_are_drawn() -> None:
    run = read_training_run(RUN)
    assert run.series("unmodulated_share")[1] == [0.46153846153846156, 0.5384615384615384]
    assert run.series("rollout_wait_s")[1] == [6.582899247999876, 15.719432804000007]
    assert run.series("resolved_rate")[1] == [0.3333333333333333, 0.08333333333333333]
    assert run.series("zero_variance_groups")[1] == [0, 1]
    assert run.series("importance_high_share")[1] == [0.0, 0.0]
    assert run.series("importance_max")[1] == [1.0000019073486328, 1.0000029802322388]
    assert [one.step for one in run.heldout] == [0, 1, 2]
    assert run.wall_s == 153.06994211000006


def test_an_old_training_run_is_not_resumed(tmp_path: Path) -> None:
    shutil.copytree(RUN, tmp_path / "run")
    config = read_config(Path("configs/quickstart.yaml"))
    with pytest.raises(UserError, match=OLDER):
        claim_run_directory(config, tmp_path / "run")
    assert (tmp_path / "run" / "summary.json").exists()


def test_an_old_training_run_that_was_killed_in_its_first_evaluation_is_not_resumed(tmp_path: Path) -> None:
    shutil.copytree(RUN, tmp_path / "run", ignore=shutil.ignore_patterns("rollouts", "summary.json"))
    with pytest.raises(UserError, match=OLDER):
        claim_run_directory(read_config(Path("configs/quickstart.yaml")), tmp_path / "run")


def test_nothing_is_appended_to_an_older_store(tmp_path: Path) -> None:
    shutil.copytree(GOLD, tmp_path / "gold")
    before = {path: path.read_bytes() for path in (tmp_path / "gold").rglob("*.*") if path.is_file()}
    with pytest.raises(UserError, match=OLDER):  # noqa: SIM117
        with Store(tmp_path / "gold").writer():
            pass
    assert {path: path.read_bytes() for path in before} == before
