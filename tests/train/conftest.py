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
