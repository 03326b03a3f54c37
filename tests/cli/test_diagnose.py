"""`swe-aem diagnose`: what it prints and writes."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("torch", reason="needs the transformers extra")
pytest.importorskip("matplotlib", reason="needs the train extra")

from swe_aem.cli.diagnose import app
from swe_aem.core import Outcome, Response, Trajectory
from swe_aem.errors import UserError
from swe_aem.policy import tokenizer_fingerprint
from swe_aem.rollout import RolloutConfig, claim
from swe_aem.store import Store
from swe_aem.testing.steps import save_tiny, tiny_tokenizer

pytestmark = pytest.mark.torch


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A group of one success and two failures, a response each."""
    with Store(tmp_path / "store").writer() as writer:
        for sample in range(3):
            response = Response(
                start=2, end=4 + sample, logprobs=(-1.0,) * (2 + sample), version=3, finish_reason="stop", sample_s=0.1
            )
            writer.append(
                Trajectory(
                    task_id="a",
                    sample=sample,
                    agent="native",
                    model="m",
                    token_ids=tuple(range(4 + sample)),
                    responses=(response,),
                    outcome=Outcome.UNRESOLVED if sample else Outcome.RESOLVED,
                    reward=0.0 if sample else 1.0,
                )
            )
    config = RolloutConfig(agent="demo", group_size=3)
    tiny_tokenizer().save_pretrained(tmp_path / "tokenizer")
    fingerprint = tokenizer_fingerprint(str(tmp_path / "tokenizer"))
    claim(tmp_path / "store", config, [], stored_tasks=[], tokenizer=fingerprint)
    return tmp_path / "store"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny policy."""
    save_tiny(tmp_path / "model", sharpness=6.0)
    return tmp_path / "model"


def test_text_and_files(store: Path, model: Path, tmp_path: Path) -> None:
    save_tiny(tmp_path / "after", sharpness=3.0)
    arguments = [str(store), "--model", str(model), "--after", str(tmp_path / "after"), "--samples", "4"]
    out = tmp_path / "out"
    done = CliRunner().invoke(app, [*arguments, "--set", "min_range=0", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "3 trained trajectories in 1 groups; 3 responses" in done.output
    assert "another policy sampled it" in done.output
    assert "zero-variance groups, without advantage: 0 of 1 (0%)" in done.output
    (paper,) = [line.split() for line in done.output.splitlines() if line.startswith("paper, 32B")]
    assert paper[2:7] == ["64", "+0.63", "-", "55", "of"]
    written = json.loads((out / "diagnose.json").read_text())
    assert written["positive"] == [{"version": 3, "trajectories": 3, "positive": 1}]
    assert written["paper"] == {"of": "α-1 and H-S", "r": 0.63, "agree": 55, "signs": 64}
    assert [one["name"] for one in written["state_relations"]] == ["H-S of the response", "H-S per token"]
    assert "its definition of relative surprisal could not be read" in done.output
    rows = [json.loads(line) for line in (out / "responses.jsonl").read_text().splitlines()]
    falling = sum(row["base"] * (row["alpha"] - 1) > 0 for row in rows)
    assert f"A(α-1) is above 0 in {falling} responses, which foretells falling entropy" in done.output
    low, high = written["change_relations"][0]["agree_interval"]
    assert 0 <= low < high <= 1
    assert len((out / "responses.jsonl").read_text().splitlines()) == 3
    assert len((out / "states.jsonl").read_text().splitlines()) == written["states"] == 1
    for name in ("change.png", "surprisal.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")


def test_without_after_and_without_states(store: Path, model: Path) -> None:
    done = CliRunner().invoke(app, [str(store), "--model", str(model), "--set", "min_range=9"])
    assert done.exit_code == 0, done.output
    assert "3 of 3 responses are unmodulated" in done.output
    assert "no state was sampled from" in done.output
    assert "name the policy after training" in done.output


def test_a_missing_model(store: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [str(store), "--model", str(tmp_path / "nowhere")])
    assert isinstance(done.exception, UserError)
    assert "no model there" in str(done.exception)
