"""The clock of an agent's time limit, on a clock that the test moves."""

from contextlib import ExitStack

from hypothesis import given
from hypothesis import strategies as st

from swe_aem.rollout.agent_clock import AgentClock

seconds = st.integers(0, 1000)


class Wall:
    now_s = 5.0

    def __call__(self) -> float:
        return self.now_s


@given(st.lists(st.tuples(st.sampled_from(["program", "response", "command"]), seconds, seconds), max_size=20))
def test_it_counts_the_program_and_its_commands_less_what_they_were_starved(steps: list[tuple[str, int, int]]) -> None:
    wall = Wall()
    clock = AgentClock(100.0, wall)
    used_s = 0.0
    for what, ran_s, starved_s in steps:
        if what == "command":
            with clock.command(60.0) as starved:
                wall.now_s += ran_s + starved_s
                assert clock() == used_s, "it stands, for the command has a limit that knows better"
                starved(starved_s)
        else:
            with clock.response() if what == "response" else ExitStack():
                wall.now_s += ran_s
        used_s += 0.0 if what == "response" else ran_s
        assert clock() == used_s
        assert clock.deadline.expired() == (used_s >= 100.0)


def test_of_several_responses_it_stands_until_the_last() -> None:
    wall = Wall()
    clock = AgentClock(100.0, wall)
    with ExitStack() as second:
        with clock.response():
            wall.now_s += 10.0
            second.enter_context(clock.response())
        wall.now_s += 10.0
    assert clock() == 0.0
    wall.now_s += 10.0
    assert clock() == 10.0


def test_commands_at_once_count_once() -> None:
    wall = Wall()
    clock = AgentClock(100.0, wall)
    with clock.command(60.0) as first:
        wall.now_s += 10.0
        with clock.command(60.0) as second:
            wall.now_s += 10.0
            first(5.0)
            second(4.0)
        wall.now_s += 10.0
    assert clock() == 25.0


def test_an_agent_inside_of_the_sandbox_is_counted_while_it_runs() -> None:
    wall = Wall()
    clock = AgentClock(100.0, wall)
    with clock.command(1e9):
        wall.now_s += 10.0
        with clock.response():
            wall.now_s += 1000.0
        wall.now_s += 20.0
        assert clock() == 30.0
        wall.now_s += 70.0
        assert clock.deadline.expired()


def test_what_a_command_used_is_counted_if_it_fails() -> None:
    wall = Wall()
    clock = AgentClock(100.0, wall)
    try:
        with clock.command(60.0):
            wall.now_s += 10.0
            raise OSError
    except OSError:
        pass
    assert clock() == 10.0
