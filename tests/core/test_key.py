"""`TrajectoryKey` and its text."""

from swe_aem.testing.builders import make_trajectory


def test_the_text_is_the_id_of_the_trajectory() -> None:
    trajectory = make_trajectory("django__django-1.2", 3)
    assert trajectory.key == ("django__django-1.2", 3)
    assert str(trajectory.key) == f"{trajectory.key}" == trajectory.id == "django__django-1.2.3"
