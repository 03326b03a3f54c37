"""How the quickstart's policy is made: no exercise shows what is held out, and a rerun goes on where one ended."""

import asyncio
import importlib
import itertools
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from swe_aem.tasks import load_tasks
from swe_aem.tasks.library import FunctionLibrary
from swe_aem.tasks.load import bundled
from swe_aem.tasks.synthesis.compose import NEW_FUNCTION, NEW_KINDS, part
from swe_aem.tasks.synthesis.inventions import shape
from swe_aem.tasks.synthesis.mutate import RULES, find_mutations
from tests.conftest import absent

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart"
HELD_BACK = [(kind, rule) for kind, rule in RULES if kind in NEW_KINDS]


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The quickstart's scripts can be imported."""
    monkeypatch.syspath_prepend(str(QUICKSTART))
    yield
    for name in ("exercises", "make_policy"):
        sys.modules.pop(name, None)


@pytest.fixture
def exercises(scripts: None) -> ModuleType:
    return importlib.import_module("exercises")


def library() -> FunctionLibrary:
    directory = bundled("nano")
    assert directory is not None
    return FunctionLibrary(directory / "functions")


def test_no_exercise_has_the_name_or_the_body_of_a_new_function(exercises: ModuleType) -> None:
    functions = library().functions.values()
    new = {function.name for function in functions if part(function.name, "", 0) == NEW_FUNCTION}
    bodies = {library().functions[name].text.partition("\n")[2] for name in new}
    assert len(new) >= 10
    made = exercises.Exercises(library())
    assert not new & {function.name for function in made.shown}
    for conversation in itertools.islice(made.conversations("a test", hasty=0.3), 300):
        text = "".join(piece for piece, _ in conversation)
        assert not new & set(re.findall(r"\w+", text)), text
        assert not any(body in text for body in bodies), text


def test_no_exercise_has_a_bug_of_a_task_or_of_a_kind_that_is_held_back(exercises: ModuleType) -> None:
    made = exercises.Exercises(library())
    shapes = {shape(function.text) for function in library().functions.values()}
    for exercise in itertools.islice(made._invented(random.Random(0)), 100):
        text, path = exercise.function.text, f"{exercise.function.name}.py"
        assert shape(text) not in shapes
        assert exercise.broken not in {bug.text for bug in find_mutations(path, text, HELD_BACK)}, exercise
    of_tasks: dict[str, set[str]] = {}
    for exercise in itertools.chain.from_iterable(made._bundled.values()):
        name, text = exercise.function.name, exercise.function.text
        if name not in of_tasks:
            of_tasks[name] = {bug.text for bug in find_mutations(f"{name}.py", text)}
        assert part(name, "", 0) != NEW_FUNCTION
        assert exercise.broken not in of_tasks[name], exercise


@pytest.mark.slow
@pytest.mark.bubblewrap
def test_an_exercise_reads_like_a_rollout(exercises: ModuleType, tmp_path: Path, require_bubblewrap: None) -> None:
    """In real sandboxes, token by token, for tasks of every kind of bug."""
    from swe_aem.policy import load_tokenizer
    from swe_aem.rollout import RolloutConfig, RolloutRun, chosen_tasks
    from swe_aem.store import Store

    told = {"native": {"prompts": str(QUICKSTART / "prompts"), "describe_tools": False}}
    chosen = {"tasks": "nano", "split": "heldout", "limit": 12, "agent": "demo"}
    config = RolloutConfig.model_validate({**chosen, **told, "renderer": {"enable_thinking": False}})
    with RolloutRun(config, chosen_tasks(config), Store(tmp_path / "out")) as rollout:
        asyncio.run(rollout.run())
    tokenizer, nano = load_tokenizer(None), load_tasks("nano")
    stored = list(Store(tmp_path / "out").trajectories())
    assert len(stored) == 12
    for trajectory in stored:
        task = nano.get(trajectory.task_id).task
        layout = task.repo.partition("/")[2]
        path = f"{layout.partition('-')[0]}.py"
        tree = nano.workspace(task.id)
        assert tree is not None
        expected = exercises.conversation(
            task.problem_statement, path, (tree / path).read_text(), library().clean(layout)[path]
        )
        assert tokenizer.decode(trajectory.token_ids) == "".join(text for text, _ in expected)


@pytest.mark.slow
@pytest.mark.torch
def test_a_run_that_was_interrupted_makes_the_same_policy(
    scripts: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    make_policy = importlib.import_module("make_policy")
    if not hasattr(torch.optim, "Muon"):
        absent("torch 2.9, which has Muon, is not installed")
    monkeypatch.setattr(make_policy, "PER_BLOCK", 2)
    monkeypatch.setattr(make_policy, "BATCH", 2)
    monkeypatch.setattr(make_policy, "_COPIES", 2)
    monkeypatch.setattr(make_policy, "_FOR_TOKENIZER", 60)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    said: list[str] = []

    def run(name: str, end_after: int | None = None) -> bytes:
        def say(text: str) -> None:
            said.append(text)
            if len(said) == end_after:
                raise KeyboardInterrupt

        said.clear()
        monkeypatch.setattr(make_policy, "_say", say)
        work, out = tmp_path / f"{name}-work", tmp_path / name
        sizes = ["--copying", "2", "--exercises", "4", "--habit", "2"]
        monkeypatch.setattr(sys, "argv", ["make_policy.py", "--work", str(work), "--out", str(out), *sizes])
        make_policy.main()
        return (out / "model.safetensors").read_bytes()

    whole = run("whole")
    assert [text.partition(":")[0] for text in said] == ["copying", "exercises", "exercises", "habit"]
    with pytest.raises(KeyboardInterrupt):
        run("killed", end_after=2)
    assert run("killed") == whole
    assert [text.partition(":")[0] for text in said] == ["exercises", "habit"]

    monkeypatch.setattr(sys, "argv", [*sys.argv, "--seed", "1"])
    with pytest.raises(SystemExit, match="give the same options, or another --work"):
        make_policy.main()
