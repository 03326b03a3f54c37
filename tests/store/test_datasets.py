"""`datasets.load_dataset(DIR)` reads a store as it lies, whatever its first rows look like."""

from pathlib import Path
from typing import Any

import pytest

from swe_aem.core import Outcome, Trajectory
from swe_aem.store import Store
from swe_aem.store.trajectory_row import from_row
from swe_aem.testing.builders import make_trajectory


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Loads a directory with a cache of its own, without a network."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    return lambda path: datasets.load_dataset(str(path), split="train", cache_dir=str(tmp_path / "cache"))


def write(directory: Path, made: list[Trajectory], **options: Any) -> None:
    with Store(directory).writer(**options) as writer:
        for one in made:
            writer.append(one)


def bare(sample: int) -> Trajectory:
    """An infrastructure failure: nothing but nulls and empty lists."""
    return Trajectory(
        task_id="t", sample=sample, agent="a", model="", outcome=Outcome.INFRASTRUCTURE, error="StartError: no engine"
    )


def awkward() -> dict[str, list[Trajectory]]:
    odd = "\udc80 \U0010d800 \u2028 \x00"
    call = make_trajectory("x", 0).responses[0].tool_calls[0]
    strange = call.model_copy(update={"arguments": {"deep": {"a": [1, None]}, odd: odd}, "observation": odd})
    response = make_trajectory("x", 0).responses[0].model_copy(update={"tool_calls": (strange,)})
    return {
        "only failures": [bare(0), bare(1)],
        "failures first": [bare(0), make_trajectory("u", 0)],
        "failures last": [make_trajectory("u", 0), bare(0)],
        "odd strings": [make_trajectory("u", 0, patch=odd, error=odd, responses=(response,), messages=({odd: odd},))],
        "no responses first": [make_trajectory("u", 0, responses=()), make_trajectory("u", 1)],
        "whole rewards": [make_trajectory("u", 0, reward=0.0), make_trajectory("u", 1, reward=0.5)],
    }


CASES = ["only failures", "failures first", "failures last", "odd strings", "no responses first", "whole rewards"]


@pytest.mark.parametrize("segment_bytes", [1, 1 << 20], ids=["a segment each", "one segment"])
@pytest.mark.parametrize("case", CASES)
def test_rows_come_back_with_one_schema(tmp_path: Path, load: Any, case: str, segment_bytes: int) -> None:
    made = awkward()[case]
    write(tmp_path / "store", made, segment_bytes=segment_bytes)
    rows = load(tmp_path / "store")
    assert [from_row(row) for row in rows] == made
    write(tmp_path / "plain", [make_trajectory("u", 0)])
    assert rows.features == load(tmp_path / "plain").features


def test_a_store_that_grew_is_not_read_from_the_cache(tmp_path: Path, load: Any) -> None:
    for sample in range(3):
        write(tmp_path / "store", [make_trajectory("t", sample)])
        assert load(tmp_path / "store")["sample"] == list(range(sample + 1))


def test_token_columns_run_in_parallel(tmp_path: Path, load: Any) -> None:
    write(tmp_path / "store", [make_trajectory("t", 0)])
    (row,) = load(tmp_path / "store")
    assert row["token_ids"] == [1, 2, 3, 4, 5]
    assert row["sampled_mask"] == [False, False, True, True, False]
    assert row["logprobs"] == [0.0, 0.0, -0.25, -1.5, 0.0]
