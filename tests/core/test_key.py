"""`TrajectoryKey`: its text, and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swe_aem.core import TrajectoryKey
from swe_aem.testing.builders import make_trajectory


def test_the_text_is_the_id_of_the_trajectory() -> None:
    trajectory = make_trajectory("django__django-1.2", 3)
    assert trajectory.key == ("django__django-1.2", 3)
    assert str(trajectory.key) == f"{trajectory.key}" == trajectory.id == "django__django-1.2.3"


@given(st.text(min_size=1), st.integers(0, 1 << 40))
def test_parse_undoes_str(task_id: str, sample: int) -> None:
    assert TrajectoryKey.parse(str(TrajectoryKey(task_id, sample))) == (task_id, sample)


@pytest.mark.parametrize("text", ["", "task", "task.", ".1", "task.one", "task.-1"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not the id of a trajectory"):
        TrajectoryKey.parse(text)
