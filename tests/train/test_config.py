"""Training configurations: what is read, what is refused, and how rows are dealt."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swe_aem.core.settings import check
from swe_aem.errors import UserError
from swe_aem.train.config import TrainConfig, differences, read_config
from swe_aem.train.preset import batch_sizes, grpo_arguments
from swe_aem.train.trl_config import FIXED, GRPO_PLUS_PLUS, OWNED

CONFIGS = Path(__file__).parents[2] / "configs"


def values(**changed: Any) -> dict[str, Any]:
    rollout = {"group_size": 4, **changed.pop("rollout", {})}
    return {"model": "m", "steps": 2, "groups_per_step": 4, "rollout": rollout, **changed}


def test_the_shipped_configurations_are_valid() -> None:
    for path in CONFIGS.glob("*.yaml"):
        assert read_config(path).rollout.agent == "native"


def test_paths_beside_the_file_are_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = read_config(CONFIGS / "quickstart.yaml")
    assert Path(config.model).is_absolute()
    assert (Path(str(config.rollout.native.prompts)) / "task.jinja").is_file()


def test_the_policy_and_the_seed_are_the_rollouts(tmp_path: Path) -> None:
    config = check(TrainConfig, values(seed=5))
    assert (config.rollout.policy, config.rollout.native.seed) == ("m", 5)


def test_assignments_reach_every_section(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("model: m\nsteps: 2\ngroups_per_step: 4\nrollout: {group_size: 4}\n")
    config = read_config(
        file, ["advantage.lam=0", "grpo.learning_rate=1e-3", "rollout.native.max_turns=7", "heldout=null"]
    )
    assert config.advantage.lam == 0
    assert config.grpo.learning_rate == 0.001, "YAML takes a number without a point for text"
    assert config.rollout.native.max_turns == 7
    assert config.heldout is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"grpo": {"num_generations": 8}}, "grpo.num_generations follows from other settings: set rollout.group_size"),
        ({"grpo": {"temperature": 0.5}}, r"set rollout\.native\.temperature"),
        (
            {"grpo": {"top_k": 20}},
            r"top_k cannot be set: the policy samples from its whole distribution, at rollout\.native",
        ),
        ({"grpo": {"save_total_limit": 10}}, "cannot be set: the last two checkpoints are kept"),
        ({"rollout": {"agent": "gold", "policy": None}}, "only what a model samples"),
        ({"rollout": {"policy": "other"}}, "leave it out"),
        ({"rollout": {"group_size": 1}}, "group_size must be 2 or more"),
        ({"rollout": {"native": {"top_p": 0.9}}}, "top_p 1"),
        ({"rollout": {"native": {"temperature": 0}}}, "temperature above 0"),
        ({"oversampled_groups": 2}, "below groups_per_step"),
        ({"servers": {"urls": ["http://h:1"], "in_flight": "interrupt"}}, "with max_staleness 0 nothing is in flight"),
        ({"servers": {"urls": ["http://h:1"], "in_flight": "keep"}}, "servers.in_flight"),
        ({"servers": {"urls": ["http://h:1"], "sync": "lora", "in_flight": "drain"}, "lora": {}}, "leave it out"),
        ({"max_staleness": 1}, r"set importance_sampling too, e\.g\. \{mode: truncate, high: 2\}"),
        ({"max_staleness": 1, "importance_sampling": {"mode": "mask"}}, r"importance_sampling: mode mask needs bounds"),
        ({"limits_reward": "half"}, 'limits_reward is "half": give one of graded, zero'),
        ({"micro_batch_size": 3}, "cannot be split"),
        ({"steps": 0}, "steps"),
        ({"stepz": 1}, "stepz"),
    ],
)
def test_settings_that_cannot_be_honoured_are_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        check(TrainConfig, values(**changed))


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file; configs/quickstart"):
        read_config(tmp_path / "none.yaml")
    file = tmp_path / "list.yaml"
    file.write_text("- 1\n")
    with pytest.raises(UserError, match="expected a mapping"):
        read_config(file)
    with pytest.raises(UserError, match="expected NAME=VALUE"):
        read_config(CONFIGS / "quickstart.yaml", ["steps"])
    with pytest.raises(UserError, match=r"--set steps=\[1: not YAML \(line 1, column 3: expected ',' or '\]'"):
        read_config(CONFIGS / "quickstart.yaml", ["steps=[1"])


def test_a_run_may_resume_with_more_steps_and_nothing_else() -> None:
    config = TrainConfig.model_validate(values())
    assert not differences(config, config.model_copy(update={"steps": 9}))
    more = check(TrainConfig, values(rollout={"scheduling": {"concurrency": 9}}))
    assert not differences(config, more)
    assert "seed was 0 and is now 1" in differences(config, check(TrainConfig, values(seed=1)))


def test_what_is_laid_over_a_users_fields_is_refused_from_a_user() -> None:
    config = check(TrainConfig, values())
    laid = grpo_arguments(config, Path("out"), 1).keys() - GRPO_PLUS_PLUS.keys()
    assert laid <= OWNED.keys() | FIXED.keys()


@given(
    groups=st.integers(1, 8), size=st.integers(2, 8), processes=st.integers(1, 4), micro=st.integers(1, 8),
    updates=st.integers(1, 4),
)  # fmt: skip
def test_rows_are_dealt_whole_or_refused(groups: int, size: int, processes: int, micro: int, updates: int) -> None:
    try:
        config = check(
            TrainConfig,
            values(
                groups_per_step=groups, rollout={"group_size": size}, micro_batch_size=micro, num_minibatches=updates
            ),
        )
        dealt = batch_sizes(config, processes)
    except UserError:
        assert (groups * size) % (processes * micro * updates)
        return
    rows = dealt["per_device_train_batch_size"] * dealt["steps_per_generation"] * processes
    assert rows == groups * size
    assert dealt["gradient_accumulation_steps"] * updates == dealt["steps_per_generation"]
