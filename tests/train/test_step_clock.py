"""The clock of a step: whatever begins and ends when, each second is of one phase."""

from contextlib import suppress
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from swe_aem.train.step_clock import Phase, StepClock

EVENTS = st.lists(
    st.tuples(st.integers(0, 1000), st.sampled_from([*get_args(Phase), "end", "step"])), min_size=1, max_size=40
)
"""(seconds until the event, the phase that begins, or what else happens)"""


@given(EVENTS)
def test_each_second_is_of_the_innermost_phase_and_of_no_other(events: list[tuple[int, str]]) -> None:
    now = 0
    clock = StepClock(lambda: now)
    stack: list[str] = []
    expected: dict[str, int] = {}
    for seconds, event in [*events, (0, "step")]:
        now += seconds
        expected[stack[-1] if stack else "other"] = expected.get(stack[-1] if stack else "other", 0) + seconds
        if event == "step":
            found = clock.end_step()
            assert {name: value for name, value in found.items() if value} == {
                name: value for name, value in expected.items() if value
            }
            assert sum(found.values()) == sum(expected.values())
            expected = {}
        elif event != "end":
            clock.begin(event)  # type: ignore[arg-type]
            stack.append(event)
        elif stack:
            clock.end()
            stack.pop()


def test_a_phase_that_fails_has_ended() -> None:
    now = 0.0
    clock = StepClock(lambda: now)
    with suppress(KeyboardInterrupt), clock.phase("weights"):
        now = 2.0
        raise KeyboardInterrupt
    now = 5.0
    assert clock.end_step() == {"weights": 2.0, "other": 3.0}
