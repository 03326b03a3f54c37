"""The tasks that a configuration names."""

import shutil
from pathlib import Path

import pytest

from swe_aem.errors import UserError
from swe_aem.rollout import RolloutConfig, chosen_tasks

HARBOR = Path(__file__).parents[1] / "data" / "families" / "harbor" / "add-numbers"


@pytest.fixture
def harbor_set(tmp_path: Path) -> str:
    """Three task folders, of which two have no solution."""
    for name in ("whole", "bare-1", "bare-2"):
        shutil.copytree(HARBOR, tmp_path / name)
    for name in ("bare-1", "bare-2"):
        (tmp_path / name / "solution" / "solve.sh").unlink()
    return str(tmp_path)


def test_gold_of_tasks_that_have_none_is_refused_by_name(harbor_set: str) -> None:
    with pytest.raises(UserError, match=r"2 of 3 tasks have no gold patch .*: bare-1, bare-2\. Choose others"):
        chosen_tasks(RolloutConfig(tasks=harbor_set, agent="gold"))
    assert len(chosen_tasks(RolloutConfig(tasks=harbor_set, ids=("whole",), agent="gold"))) == 1
    assert len(chosen_tasks(RolloutConfig(tasks=harbor_set, agent="noop"))) == 3
