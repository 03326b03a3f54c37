"""Two gloo processes: however long the first one works alone, the other waits; a failure or a hang reaches both."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.train.outcome import metrics

dist = pytest.importorskip("torch.distributed", reason="needs the train extra")
pytest.importorskip("accelerate", reason="needs the train extra")

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.timeout(600)]
LIMIT_S = 10.0
TRAIN_LIMIT_S = 15
Played = list[dict[str, tuple[Any, float]]]
"""For each process: what a scene gave, and how long it took."""


def run_both(script: str, limit_s: float, *arguments: str) -> list[tuple[int, str]]:
    """Status and output of the script as each of two processes. Here is the store, as in an agent of torchrun."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    root = Path(__file__).parents[2]
    both = [
        subprocess.Popen(
            [sys.executable, "-m", f"tests.train.{script}", str(rank), str(store.port), str(limit_s), *arguments],
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
        )
        for rank in range(2)
    ]
    try:
        return [(one.wait(), told) for one, (told, _) in [(one, one.communicate(timeout=540)) for one in both]]
    finally:
        for one in both:
            one.kill()


def play(*scenes: str) -> Played:
    outputs = [output for _, output in run_both("pair", LIMIT_S, *scenes)]
    lines = [[json.loads(line) for line in output.splitlines() if line.startswith("[")] for output in outputs]
    return [{scene: (result, took_s) for scene, result, took_s in mine} for mine in lines]


@pytest.fixture(scope="module")
def played() -> Played:
    """All scenes, as two pairs play them at once, for most of them wait. Nothing comes after `killed`."""
    shares = (
        ("long work", "failing", "failing between", "interrupted", "missing in a collective"),
        ("failing other", "killed"),
    )
    with ThreadPoolExecutor() as threads:
        one, other = threads.map(lambda scenes: play(*scenes), shares)
    return [mine | more for mine, more in zip(one, other, strict=True)]


def test_work_longer_than_the_limit_of_collectives_is_waited_for(played: Played) -> None:
    for mine in played:
        result, took_s = mine["long work"]
        assert result == "rows"
        assert took_s > LIMIT_S


@pytest.mark.parametrize("scene", ["failing", "failing between"])
def test_a_failure_of_the_first_process_ends_the_other_with_its_reason(played: Played, scene: str) -> None:
    first, other = (mine[scene][0] for mine in played)
    assert first == "UserError: the servers are gone"
    assert other == f"ProcessFailed: {scene}: the first process failed: the servers are gone"


def test_a_failure_of_the_other_ends_the_first_process_with_its_reason(played: Played) -> None:
    first, other = (mine["failing other"][0] for mine in played)
    assert first == "ProcessFailed: process 1 of 2: failed: the servers are gone"
    assert other == "UserError: the servers are gone"


def test_an_interrupted_first_process_interrupts_the_other(played: Played) -> None:
    assert [mine["interrupted"][0] for mine in played] == ["KeyboardInterrupt: "] * 2


def test_a_process_that_is_missing_in_a_collective_is_found_within_the_limit(played: Played) -> None:
    first, other = (mine["missing in a collective"] for mine in played)
    assert "Timed out waiting" in first[0]
    assert LIMIT_S < first[1] < 60
    assert other[0].startswith("ProcessFailed: missing in a collective: the first process failed: ")
    assert "Timed out waiting" in other[0]


def test_a_first_process_that_is_gone_is_missed(played: Played) -> None:
    first, other = played
    assert "killed" not in first
    assert other["killed"][0].startswith("ProcessFailed: killed: the first process gave no sign of life for ")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("trl", reason="needs the train extra")
    from swe_aem.testing.steps import save_tiny

    directory = tmp_path_factory.mktemp("model")
    save_tiny(directory)
    return directory


@pytest.mark.nightly
def test_training_waits_for_evaluations_and_rollouts_longer_than_the_limit(model: Path, tmp_path: Path) -> None:
    assert run_both("slow_first", TRAIN_LIMIT_S, str(model), str(tmp_path), "slow") == [(0, "")] * 2
    assert [line["step"] for line in metrics(tmp_path / "slow")] == [1, 2]
    assert (tmp_path / "slow" / "policy" / "model.safetensors").exists()


def test_rows_dealt_to_two_processes_train_as_they_do_in_one(model: Path, tmp_path: Path) -> None:
    """The same figures and weights, from micro-steps whose rows are nearly of one length."""
    from swe_aem.testing.steps import ScriptedSteps
    from swe_aem.train.loop import train
    from tests.train.killable import DEALT, configuration

    one, two = tmp_path / "one", tmp_path / "two"
    train(configuration(model, 2, *DEALT), one, ScriptedSteps)
    done = run_both("dealt", 60, str(model), str(two))
    assert [status for status, _ in done] == [0, 0], done
    first, other = (json.loads(told.splitlines()[-1]) for _, told in done)
    for start in (0, 8):
        pairs = [max(both) for both in zip(first[start : start + 8], other[start : start + 8], strict=True)]
        assert pairs == sorted(pairs, reverse=True)
    assert sum(first) + sum(other) > 0.9 * 2 * sum(map(max, zip(first, other, strict=True)))
    for alone, dealt in zip(metrics(one), metrics(two), strict=True):
        assert 0.9 < dealt.pop("dealing/busy_share") <= 1
        names = [name for name in alone if name.startswith("aem/")]
        names += ["reward", "reward_std", "frac_reward_zero_std", "positive_share"]
        assert {name: dealt[name] for name in names} == pytest.approx({name: alone[name] for name in names}, rel=1e-3)
    assert moved(model, one) > 1e-3
    assert moved(one / "policy", two) < 1e-3 * moved(model, one)


def moved(model: Path, run: Path) -> float:
    """How far the farthest weight of a run's policy is from that of a model."""
    from safetensors.torch import load_file

    before, after = (load_file(path / "model.safetensors") for path in (model, run / "policy"))
    return max(float((before[name] - after[name]).abs().max()) for name in after)


@pytest.fixture(scope="module")
def trained(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, str]]]:
    """Directory of all scenes, and what each of two processes told of those that failed: one pair for all, because it
    imports for long."""
    out = tmp_path_factory.mktemp("scenes")
    both = run_both("slow_first", 60, str(model), str(out), "differ", "fail", "lose")
    assert [status for status, _ in both] == [0, 0], both
    return out, [dict(line.split(": ", 1) for line in told.splitlines()) for _, told in both]


def test_a_step_that_fails_ends_both_processes(trained: tuple[Path, list[dict[str, str]]]) -> None:
    first, other = trained[1]
    assert first["fail"] == "UserError: the servers are gone"
    assert other["fail"] == "ProcessFailed: step 2: the first process failed: the servers are gone"


def test_rollouts_that_are_lost_are_asked_again_by_all_processes(trained: tuple[Path, list[dict[str, str]]]) -> None:
    out, told = trained
    assert ["lose" in one for one in told] == [False, False]
    assert [line["step"] for line in metrics(out / "lose")] == [1, 2]


def test_processes_with_other_code_are_refused(trained: tuple[Path, list[dict[str, str]]]) -> None:
    for one in trained[1]:
        said = "process 1 has other code than the first one: advantage was the code of sha256:0 and is now the code of"
        assert said in one["differ"]
