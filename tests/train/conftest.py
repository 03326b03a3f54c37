"""The recipe's configuration for the tiny policy of `swe_aem.testing.steps`."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., Any]:
    """Makes the recipe's `GRPOConfig`, with changes."""
    pytest.importorskip("trl", reason="needs the train extra")
    from tests.train.tiny_config import tiny_config

    return partial(tiny_config, tmp_path / "out")


@pytest.fixture
def dataset() -> Any:
    """Prompts of different lengths."""
    datasets = pytest.importorskip("datasets")
    from swe_aem.testing.steps import tiny_prompts

    return datasets.Dataset.from_list(tiny_prompts(8))


@pytest.fixture
def trained(make_config: Any, dataset: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Makes a trainer that has trained a step of eight rows, with `seen`, what the step's rows became."""
    from trl.trainer import grpo_trainer

    from tests.train.one_step import one_step

    monkeypatch.setattr(grpo_trainer, "shuffle_sequence_dict", lambda rows: rows)
    return partial(one_step, make_config, dataset)
