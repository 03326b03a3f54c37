"""Settings of every model: what is loaded, how errors read, and what counts as changed."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from swe_aem.core.explain import settings_of
from swe_aem.core.settings import changed, check, load
from swe_aem.errors import UserError
from swe_aem.rollout.config import RolloutConfig
from swe_aem.serve.config import ServersConfig
from swe_aem.train.config import HardwareConfig, LoraConfig, TrainConfig
from swe_aem.train.sft import SFTConfig
from swe_aem.train.tiny_model import TinyModelConfig

TRAIN: dict[str, Any] = {"model": "m", "steps": 2, "groups_per_step": 4, "rollout": {"group_size": 4}}
SECTIONS: dict[str, Any] = {
    "servers": {"urls": ["http://127.0.0.1:8000"]},
    "lora": {},
    "hardware": {
        "gpu": "H100", "gpu_memory_gb": 80, "gpus_per_host": 1, "trainer_gpus": 1, "servers": 1, "gpus_per_server": 1,
    },
}  # fmt: skip
WRONG = (-1, 0, 1.5, "many", "", True, None, [], [None], [[1]], {}, {"no_such": 1}, float("nan"), 1e400, b"\xff")
"""Values of every kind; each setting refuses some of them."""
WORDS_OF_PYDANTIC = re.compile(
    r"Input should|Extra inputs|validation error|Field required|Value error|type=|pydantic|errors\.|unable to parse"
    r"|valid (integer|number|string|boolean|dictionary|tuple|list)|Assertion failed|function-|literal\[|constrained"
)


def refused(model: type[BaseModel], values: dict[str, Any], name: str, value: Any) -> str | None:
    """What is said of one wrong setting; None if it is taken."""
    try:
        load(model, values, {name: value})
    except UserError as error:
        return str(error)
    return None


def walk() -> Iterator[tuple[type[BaseModel], dict[str, Any], str]]:
    for name, _ in settings_of(RolloutConfig):
        yield RolloutConfig, {}, name
    for name, _ in settings_of(TrainConfig):
        section = name.split(".")[0]
        yield TrainConfig, {**TRAIN, **({section: SECTIONS[section]} if section in SECTIONS else {})}, name


@pytest.mark.parametrize(("model", "values", "name"), [pytest.param(*one, id=one[2]) for one in walk()])
def test_no_wrong_value_of_any_setting_is_answered_in_words_of_pydantic(
    model: type[BaseModel], values: dict[str, Any], name: str
) -> None:
    said = [text for value in WRONG if (text := refused(model, values, name, value)) is not None]
    assert said, "no value is wrong"
    for text in said:
        assert not WORDS_OF_PYDANTIC.search(text), text
        assert "\n" not in text
        assert "another value" not in text, "what is allowed is known"
    assert any(name in text for text in said)
    assert f"{name}x" in str(refused(model, values, f"{name}x", 1)), "unknown settings are named"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("steps", 0, "steps is 0: give a whole number (at least 1)"),
        ("steps", "many", 'steps is "many": give a whole number (at least 1)'),
        ("rollout.native.top_p", 1.5, "rollout.native.top_p is 1.5: give a number (above 0, at most 1)"),
        ("rollout.limit", 0, "rollout.limit is 0: give a whole number (at least 1)"),
        ("rollout.sandbox", "vm", "rollout.sandbox: no sandbox 'vm'; choose one of bubblewrap, docker, "),
        ("rollout.sandbox", {"type": "docker", "x": 1}, "rollout.sandbox.x is unknown; there are runtime"),
        ("advantage.shuffle", "perhaps", 'advantage.shuffle is "perhaps": give true or false'),
        ("report_to", ["tensorboard", "x"], 'report_to[1] is "x": give one of tensorboard, trackio, wandb'),
        ("rollout.ids", 3, "rollout.ids is 3: give a list, each item a string"),
        ("rollout.native", 3, "rollout.native is 3: give a section with settings (max_turns, "),
        ("lora", {"target_modules": 3}, "lora.target_modules is 3: give a string or a list, each item a string"),
        ("servers", {"urls": []}, "servers.urls is []: give a list of 1 or more, each item a string"),
        ("hardware", {}, "hardware.gpu is missing: give a string"),
        ("stepz", 1, "stepz is unknown (did you mean steps?)"),
        ("max_turns", 1, "max_turns is unknown (did you mean rollout.native.max_turns?)"),
        ("rollout.native.max_turn", 1, "rollout.native.max_turn is unknown (did you mean rollout.native.max_turns?)"),
        ("heldout.zzzzzz", 1, "heldout.zzzzzz is unknown; there are tasks, family, split, limit, samples, "),
        ("rollout.early_completion", True, "rollout: early_completion needs oversample"),
    ],
)
def test_an_error_names_the_setting_what_was_given_and_what_is_allowed(name: str, value: Any, said: str) -> None:
    assert said in str(refused(TrainConfig, TRAIN, name, value))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("candidates_per_step", 8, "candidates_per_step is now called oversampled_groups"),
        ("importance_cap", 2, "importance_cap is now called importance_sampling: set it, e.g. to {mode: truncate, "
         "high: 2}"),
        ("ahead", 1, "ahead is now called max_staleness"),
        ("updates_per_step", 2, "updates_per_step is now called num_minibatches"),
        ("train_limits", True, "train_limits is now called compact_filtering and means the opposite: set "
         "compact_filtering to false"),
        ("train_limits", False, "set compact_filtering to true"),
    ],
)  # fmt: skip
def test_an_old_name_is_refused_with_the_new_one(tmp_path: Path, name: str, value: Any, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        load(TrainConfig, {**TRAIN, name: value})
    with pytest.raises(UserError, match=re.escape(said)):
        load(TrainConfig, TRAIN, assignments=[f"{name}={str(value).lower()}"])


def test_every_new_name_of_an_old_one_is_a_setting() -> None:
    for old, new in TrainConfig.RENAMED.items():
        assert new.name in TrainConfig.model_fields
        assert old not in TrainConfig.model_fields


def test_what_is_not_a_mapping_is_refused_where_it_was_read() -> None:
    with pytest.raises(UserError, match=r"^here: expected a mapping of names to values, not 3$"):
        check(LoraConfig, 3, where="here")


def test_assignments_leave_what_was_given_as_it_was() -> None:
    values = {**TRAIN, "rollout": {"group_size": 4}}
    assert load(TrainConfig, values, assignments=["rollout.group_size=8", "groups_per_step=1"]).rollout.group_size == 8
    assert values["rollout"] == {"group_size": 4}


def test_an_assignment_into_what_has_no_settings_is_refused() -> None:
    with pytest.raises(UserError, match=r'rollout\.tasks\.name: rollout\.tasks is "t" and has no settings of its own'):
        load(TrainConfig, TRAIN, {"rollout.tasks": "t"}, ["rollout.tasks.name=x"])


def test_changes_are_said_by_dotted_name_except_what_is_free_or_may_grow() -> None:
    old = {"a": {"b": 1, "c": [1]}, "free": {"x": 1}, "n": 4, "m": 4, "k": None}
    new = {"a": {"b": 2, "c": [1]}, "free": {"x": 2}, "n": None, "m": 3, "freed": "x", "k": 1}
    assert changed(old, new, free=["free"], may_grow=["n", "m", "k"]) == [
        "a.b was 1 and is now 2",
        'freed was null and is now "x"',
        "k was null and is now 1 (may only grow)",
        "m was 4 and is now 3 (may only grow)",
    ]
    assert changed(old, old) == []
    named, mapped = {"reward": "fraction"}, {"reward": {"tests": {"type": "fraction", "weight": 2}}}
    (said,) = changed(named, mapped)
    assert said == 'reward was "fraction" and is now {"tests": {"type": "fraction", "weight": 2}}'


@pytest.mark.parametrize("model", [RolloutConfig, TrainConfig, SFTConfig, TinyModelConfig])
def test_every_setting_has_a_docstring_that_can_be_read_alone(model: type[BaseModel]) -> None:
    for name, field in settings_of(model):
        assert field.description, name
        assert not re.match(r"(Of|As|See|Also|Its?|For)\b", field.description), f"{name}: {field.description}"
        assert field.description.endswith("."), name


def test_sections_that_may_be_missing_are_walked_too() -> None:
    names = {name for name, _ in settings_of(TrainConfig)}
    for section, model in (("servers", ServersConfig), ("lora", LoraConfig), ("hardware", HardwareConfig)):
        assert {f"{section}.{name}" for name in model.model_fields} <= names


def test_names_in_a_file_that_begin_with_a_dot_are_seen_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(
        "agent: {type: ./mine.py:Agent}\npolicy: gold\ntasks: ../set\nfamily: own.py:read\nids: [./a, b]\n"
    )
    config = load(RolloutConfig, tmp_path / "run.yaml", {"split": "./as/given"})
    assert config.agent == {"type": f"{tmp_path}/mine.py:Agent"}
    assert (config.tasks, config.family, config.split) == (f"{tmp_path}/../set", "own.py:read", "./as/given")
    assert config.ids == (f"{tmp_path}/a", "b")
