"""What the public API refuses, in the words of the configuration; nothing is run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import swe_aem as sa
from swe_aem.api.settings import rollout_settings
from swe_aem.tasks import TaskSet
from swe_aem.testing.builders import make_record


@pytest.fixture(scope="module")
def tasks() -> TaskSet:
    return sa.load_tasks("tasks/micro", limit=3)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda tasks: sa.rollout(tasks, agnt="gold"), r"agnt is unknown \(did you mean agent\?\)"),
        (lambda tasks: sa.rollout(tasks, agent="golden"), "did you mean gold"),
        (lambda tasks: sa.rollout(tasks, agent="native"), "agent native needs policy"),
        (lambda tasks: sa.rollout(tasks, group_size=0), "group_size"),
        (lambda tasks: sa.rollout(tasks, native={"max_turn": 3}), r"native.max_turn is unknown"),
        (lambda tasks: sa.rollout(tasks, sandbox="dokcer"), "sandbox"),
        (lambda tasks: sa.rollout(tasks, limit=1), "limit is an argument of load_tasks"),
        (lambda tasks: sa.rollout([]), "no tasks are left"),
        (lambda tasks: sa.rollout([tasks[0], tasks[0]]), "is there 2 times"),
        (lambda tasks: sa.rollout([make_record("mine")]), "mine was not loaded from a task set"),
        (lambda tasks: sa.rollout([tasks[0], sa.load_tasks("tasks/nano", limit=1)[0]]), "of several sets"),
        (lambda tasks: sa.grade(make_record("mine"), ""), "mine was not loaded from a task set"),
        (lambda tasks: sa.Bubblewrap(user="1000"), "Bubblewrap: user is unknown"),
        (lambda tasks: sa.Docker(memory_bytes="much"), "Docker: memory_bytes is"),
        (lambda tasks: sa.load_tasks("micor"), "did you mean micro"),
        (lambda tasks: sa.evaluate("no/such/store"), "is not a store"),
        (lambda tasks: sa.train("configs/quickstart.yaml", advantage={"lamb": 1}), "advantage.lamb is unknown"),
    ],
)
def test_wrong_input_is_refused_with_the_fix(
    tasks: TaskSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[[TaskSet], Any], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(sa.errors.UserError, match=said):
        call(tasks)
    assert not list(tmp_path.iterdir()), "something was written"


def test_a_part_of_a_set_keeps_what_its_tasks_need(tasks: TaskSet) -> None:
    some = [record for record in tasks if record != tasks[1]]
    config, chosen = rollout_settings(reversed(some), "bubblewrap", {"agent": "noop"})
    assert list(chosen) == some[::-1]
    assert config.ids == tuple(sorted(record.task.id for record in some)), "the same in any order"
    assert (config.tasks, config.limit) == ("tasks/micro", None)
    assert chosen.workspace(some[0].task.id) == tasks.workspace(some[0].task.id)
    assert list(tasks[1:]) == list(tasks)[1:]


def test_sandboxes_are_settings_of_a_rollout(tasks: TaskSet) -> None:
    sandbox = sa.Docker(user="1000", capabilities=("CHOWN",), memory_bytes=1 << 30)
    config, _ = rollout_settings(tasks, sandbox, {})
    assert (config.sandbox.type, config.user, config.capabilities) == ("docker", "1000", ("CHOWN",))
    assert (config.limits.memory_bytes, config.limits.pids) == (1 << 30, 512)
    assert (config.agent, config.policy, config.limit) == ("native", "gold", 3), "as the command line has it"
