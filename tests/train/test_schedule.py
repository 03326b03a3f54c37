"""`Schedule`: the sampler is asked once per step, sees what is trained by then, and a rerun repeats its choices."""

import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from swe_aem.core import Outcome, Trajectory
from swe_aem.errors import ExtensionFailed, UserError
from swe_aem.testing.builders import make_record, make_trajectory
from swe_aem.train.schedule import SCHEDULE, Consumed, EpochTask, Schedule
from swe_aem.train.task_samplers import TaskSamplerInputs

RECORDS = [make_record(f"t{n}") for n in range(6)]
COUNT = 2
Groups = list[tuple[Trajectory, ...]]


def rolled_out(tasks: Sequence[EpochTask]) -> Groups:
    """The groups of these tasks, whose outcomes depend on task and epoch alone."""

    def outcome(one: EpochTask, sample: int) -> Outcome:
        solved = random.Random(f"{one.record.task.id} {one.epoch} {sample}").random() < 0.5
        return Outcome.RESOLVED if solved else Outcome.UNRESOLVED

    return [
        tuple(
            make_trajectory(one.record.task.id, 2 * one.epoch + n).model_copy(
                update={"outcome": outcome(one, n), "reward": float(outcome(one, n) is Outcome.RESOLVED)}
            )
            for n in range(2)
        )
        for one in tasks
    ]


class Noting:
    """A sampler that rolls real dice, so that it would not choose the same twice, and notes what it was given."""

    def __init__(self) -> None:
        self.asked: list[TaskSamplerInputs] = []

    def __call__(self, inputs: TaskSamplerInputs) -> list[str]:
        self.asked.append(inputs)
        return random.SystemRandom().choices([record.task.id for record in inputs.tasks], k=inputs.count)


def schedule(directory: Path, sampler: Any, *, load: Callable[..., Groups] = rolled_out) -> Schedule:
    """A schedule of a run whose steps consume what was chosen for them."""

    def consumed(step: int) -> Consumed:
        return list(zip(one.tasks(step), load(one.tasks(step)), strict=True))

    one = Schedule(sampler, "mine", RECORDS, directory, count=COUNT, seed=0, consumed=consumed)
    return one


def run(schedule: Schedule, first: int, last: int, behind: int = 0) -> list[list[EpochTask]]:
    """Steps as training asks for them, one after the other, each when all but so many before it are decided."""
    return [schedule.tasks(number, decided=max(0, number - 1 - behind)) for number in range(first, last + 1)]


def test_a_step_s_tasks_are_chosen_once(tmp_path: Path) -> None:
    sampler = Noting()
    one = schedule(tmp_path, sampler)
    steps = run(one, 1, 4)
    assert [one.tasks(number) for number in (1, 2, 3, 4)] == steps
    assert [inputs.step for inputs in sampler.asked] == [1, 2, 3, 4]
    assert all((inputs.count, list(inputs.tasks)) == (COUNT, RECORDS) for inputs in sampler.asked)


def test_a_task_that_comes_again_is_another_epoch(tmp_path: Path) -> None:
    one = schedule(tmp_path, lambda inputs: ["t1", "t1"] if inputs.step == 2 else ["t1", "t0"])
    epochs = [[(task.record.task.id, task.epoch) for task in step] for step in run(one, 1, 3)]
    assert epochs == [[("t1", 0), ("t0", 0)], [("t1", 1), ("t1", 2)], [("t1", 3), ("t0", 1)]]


@pytest.mark.parametrize("behind", [0, 2])
def test_a_step_sees_what_the_steps_that_are_decided_consumed(tmp_path: Path, behind: int) -> None:
    sampler = Noting()
    steps = run(schedule(tmp_path, sampler), 1, 5, behind)
    for inputs in sampler.asked:
        decided = range(1, inputs.step - behind)
        assert [group.step for group in inputs.history] == [step for step in decided for _ in range(COUNT)]
        ids = [group.task_id for group in inputs.history]
        assert ids == [task.record.task.id for step in decided for task in steps[step - 1]]


def test_what_was_seen_is_what_was_stored(tmp_path: Path) -> None:
    sampler = Noting()
    steps = run(schedule(tmp_path, sampler), 1, 2)
    groups = rolled_out(steps[0])
    assert [group.rewards for group in sampler.asked[1].history] == [
        tuple(one.reward for one in group) for group in groups
    ]


@pytest.mark.parametrize("behind", [0, 1])
def test_a_rerun_has_the_same_steps_and_the_same_history(tmp_path: Path, behind: int) -> None:
    """It reads from the store only what no process wrote down."""
    first, second, read = Noting(), Noting(), []
    steps = run(schedule(tmp_path, first), 1, 3, behind)

    def load(tasks: Sequence[EpochTask]) -> Groups:
        read.append(tasks)
        return rolled_out(tasks)

    again = schedule(tmp_path, second, load=load)
    assert run(again, 1, 3, behind) == steps
    assert (second.asked, read) == ([], [])
    run(again, 4, 4, behind)
    (inputs,) = second.asked
    assert [group.step for group in inputs.history] == [step for step in range(1, 4 - behind) for _ in range(COUNT)]
    assert inputs.history[: len(first.asked[-1].history)] == first.asked[-1].history
    assert read == [steps[3 - behind - 1]]


def test_a_line_that_was_not_finished_was_never_acted_upon(tmp_path: Path) -> None:
    steps = run(schedule(tmp_path, Noting()), 1, 3)
    file = tmp_path / SCHEDULE
    file.write_bytes(file.read_bytes()[:-30])
    sampler = Noting()
    again = schedule(tmp_path, sampler)
    assert [again.tasks(1), again.tasks(2)] == steps[:2]
    third = again.tasks(3)
    assert [inputs.step for inputs in sampler.asked] == [3]
    assert schedule(tmp_path, Noting()).tasks(3) == third
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [1, 2, 3]


def test_a_run_of_before_there_were_samplers_is_continued(tmp_path: Path) -> None:
    """It has no file: the choices are made again from the beginning, from what is stored."""
    sampler = Noting()
    schedule(tmp_path, sampler).tasks(4)
    assert [group.step for group in sampler.asked[-1].history] == [1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("t1", "it must return a list of task ids, not 't1'"),
        (None, "it must return a list of task ids, not None"),
        (["t1"], r"it chose 1 tasks, and inputs\.count is 2"),
        (["t1", "t9"], "it chose 't9', which is no task of this run"),
        (RECORDS[:2], r"it must return ids, as record\.task\.id has them"),
        (iter(["t1", "t2"]), "it must return a list of task ids"),
    ],
)
def test_an_answer_that_is_no_choice_is_told(tmp_path: Path, answer: Any, said: str) -> None:
    with pytest.raises(ExtensionFailed, match=f"task sampler mine, step 1: {said}"):
        schedule(tmp_path, lambda inputs: answer).tasks(1)
    assert not (tmp_path / SCHEDULE).exists(), "the next call asks again"


def test_an_error_of_the_sampler_is_its_own(tmp_path: Path) -> None:
    with pytest.raises(ExtensionFailed, match="step 1: it raised ZeroDivisionError: division by zero") as failed:
        schedule(tmp_path, lambda inputs: [1 / 0]).tasks(1)
    assert type(failed.value.__cause__) is ZeroDivisionError


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"step": 2, "tasks": ["t1", "t2"]}', "line 1: step 2 in the place of 1"),
        ('{"step": 1, "tasks": ["t1", "x"]}', "line 1: no task x in this run"),
        ("{}", "line 1: .*step"),
        ("no JSON", "line 1: not a JSON object"),
        ('{"format": 99, "step": 1, "tasks": []}', "line 1: format 99 was written by a newer swe-aem"),
    ],
)
def test_a_damaged_file_is_told(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / SCHEDULE).write_text(f"{line}\n")
    with pytest.raises(UserError, match=said):
        schedule(tmp_path, Noting())


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.train.test_schedule import Noting, run, schedule

class Killed(Noting):
    def __call__(self, inputs):
        if inputs.step == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(inputs)

one = schedule(Path(sys.argv[1]), Killed())
for number in range(1, 9):
    print(number, [(task.record.task.id, task.epoch) for task in run(one, number, number, behind=1)[0]], flush=True)
"""


def test_a_killed_process_and_the_next_one_roll_out_the_same(tmp_path: Path) -> None:
    """SIGKILL while a step is chosen; three processes, the last of which asks for all."""
    printed: list[list[str]] = []
    for kill_at in ("3", "6", "0"):
        command = [sys.executable, "-c", KILLED, str(tmp_path), kill_at]
        done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
        assert done.returncode == (-signal.SIGKILL if kill_at != "0" else 0), done.stderr
        printed.append(done.stdout.splitlines())
    assert [len(lines) for lines in printed] == [2, 5, 8]
    assert printed[0] == printed[2][:2]
    assert printed[1] == printed[2][:5]
