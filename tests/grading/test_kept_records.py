"""Records of controls: what their names tell apart."""

from swe_aem.grading.kept_records import digest_of
from swe_aem.testing.builders import make_record


def test_a_record_is_of_one_task_at_one_commit() -> None:
    """Two tasks may share image, gold patch and tests, and have other trees."""
    one = make_record("a")
    moved = one.model_copy(update={"task": one.task.model_copy(update={"base_commit": "another"})})
    named = [digest_of("image", record) for record in (one, moved, make_record("b"))]
    assert len(set(named)) == 3
    assert digest_of("image", make_record("a")) == named[0]
