"""Branches that are trained on: a step has the gradient of all its tokens, and without the setting nothing changes."""

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from swe_aem.advantage.config import BaselineConfig  # noqa: E402
from swe_aem.core.settings import check  # noqa: E402
from swe_aem.errors import UserError  # noqa: E402
from swe_aem.testing.builders import make_trajectory  # noqa: E402
from swe_aem.testing.steps import ScriptedSteps, save_tiny, tiny_model, tiny_tokenizer  # noqa: E402
from swe_aem.train.config import TrainConfig  # noqa: E402
from swe_aem.train.dealing import Dealing  # noqa: E402
from swe_aem.train.feed import StepRows  # noqa: E402
from swe_aem.train.loop import train  # noqa: E402
from swe_aem.train.records import read_metrics  # noqa: E402
from swe_aem.train.refusals import reasons_at_start  # noqa: E402
from swe_aem.train.training_row import branch_rows, training_row  # noqa: E402
from tests.train.branched import BranchedSteps  # noqa: E402
from tests.train.killable import DEALT, configuration  # noqa: E402
from tests.train.one_step import Recorded  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.contract(trl=True, transformers=True)]

MOST = 2
BRANCHED = (
    "token_budget=64",
    f"branches_per_trajectory={MOST}",
    "rollout={group_size: 4, native: {max_context_tokens: 64}, renderer: {thinking: as_template}}",
)


def step_rows(minibatches: int) -> list[dict[str, Any]]:
    """The rows of two groups of four, as one process gets them."""
    steps = BranchedSteps(configuration(Path("m"), 1, "groups_per_step=2"), Path(), None)
    trajectories = [one for group in steps.step(1).groups for one in group]
    own = [training_row(one) for one in trajectories]
    found = StepRows(own, [branch_rows(one, row, most=MOST) for one, row in zip(trajectories, own, strict=True)])
    nothing: Any = {**own[0], "prompt_ids": [0], "completion_ids": [0], "logprobs": [0.0], "env_mask": [0]}
    nothing["response_of_token"] = [-1]
    rows, owners = found.filled(minibatches, nothing)
    lengths = [len(row["prompt_ids"]) + len(row["completion_ids"]) for row in rows]
    dealt = Dealing(num_minibatches=minibatches, token_budget=64).micro_steps(lengths, 1, 1)
    return [
        {**rows[place], "place": place, "trajectory": owners[place], "micro_step": number}
        for number, ((places,)) in enumerate(dealt)
        for place in places
    ]


@pytest.mark.parametrize(
    "loss_type", ["dr_grpo", *(pytest.param(loss, marks=pytest.mark.nightly) for loss in ("dapo", "cispo"))]
)
def test_the_gradient_is_that_of_each_trained_token_with_its_trajectorys_advantage(
    make_config: Any, dataset: Any, loss_type: str
) -> None:
    """By plain gradient descent on one minibatch, against a row at a time and no trainer."""
    rows = step_rows(1)
    assert sum(row["place"] >= 8 for row in rows) > 4
    model = tiny_model(sharpness=4.0).double()
    trainer = Recorded(
        model=model,
        args=make_config(
            per_device_train_batch_size=8, gradient_accumulation_steps=1, steps_per_generation=1, max_steps=1,
            optim="sgd", learning_rate=1.0, max_grad_norm=0.0, loss_type=loss_type,
            **({"epsilon_high": 5.0} if loss_type == "cispo" else {}),
        ),
        train_dataset=dataset,
        processing_class=tiny_tokenizer(),
        rollout_func=lambda prompts, trainer: {name: [row[name] for row in rows] for name in rows[0]},
        advantage=BaselineConfig(estimator="leave_one_out"),
        packed=True,
    )  # fmt: skip
    trainer.train()
    rewards = torch.tensor([row["reward"] for row in sorted(rows, key=lambda row: row["place"])[:8]]).view(2, 4)
    base = (rewards - (rewards.sum(1, keepdim=True) - rewards) / 3).flatten()
    alone = tiny_model(sharpness=4.0).double()
    total = torch.zeros((), dtype=torch.float64)
    for row in rows:
        ids = torch.tensor([[*row["prompt_ids"], *row["completion_ids"]]])
        logps = alone(input_ids=ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
        logps = logps[len(row["prompt_ids"]) - 1 :]
        trained = torch.tensor(row["env_mask"], dtype=torch.bool)
        total = total - base[row["trajectory"]] * logps[trained].sum()
    tokens = sum(sum(row["env_mask"]) for row in rows)
    (total / (8 * 64 if loss_type == "dr_grpo" else tokens)).backward()
    before = tiny_model(sharpness=4.0).double()
    moved = 0.0
    for start, end, expected in zip(before.parameters(), model.parameters(), alone.parameters(), strict=True):
        step = start.detach() - end.detach()
        moved = max(moved, float(step.abs().max()))
        assert expected.grad is not None
        assert torch.allclose(step, expected.grad, atol=1e-6)
    assert moved > 1e-3


def test_of_two_minibatches_all_rows_are_trained(make_config: Any, dataset: Any) -> None:
    rows = step_rows(2)
    assert len(rows) % 2 == 0
    trainer = Recorded(
        model=tiny_model(sharpness=4.0),
        args=make_config(
            per_device_train_batch_size=4, gradient_accumulation_steps=1, steps_per_generation=2, max_steps=2
        ),
        train_dataset=dataset,
        processing_class=tiny_tokenizer(),
        rollout_func=lambda prompts, trainer: {name: [row[name] for row in rows] for name in rows[0]},
        advantage=BaselineConfig(estimator="leave_one_out"),
        packed=True,
    )
    trainer.train()
    assert trainer.state.global_step == 2
    assert trainer.seen["completion_ids"].size(0) == len(rows)
    trained = trainer.seen["tool_mask"] * trainer.seen["completion_mask"]
    assert trained.sum(1).tolist() == [sum(row["env_mask"]) for row in rows]
    assert trainer.state.log_history[0]["reward"] == pytest.approx(
        sum(row["reward"] for row in rows if row["place"] < 8) / 8
    ), "that of trajectories"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    save_tiny(directory)
    return directory


def policy(directory: Path) -> bytes:
    return (directory / "policy" / "model.safetensors").read_bytes()


def test_without_the_setting_branches_change_no_bit_and_with_it_their_shares_are_metrics(
    model: Path, tmp_path: Path
) -> None:
    packed = ("token_budget=64", "micro_batch_size=1")
    for name, steps, further in (("plain", ScriptedSteps, packed), ("off", BranchedSteps, packed)):
        train(configuration(model, 1, *further), tmp_path / name, steps)
    assert policy(tmp_path / "plain") == policy(tmp_path / "off")
    (line,) = read_metrics(tmp_path / "off")
    assert line.branch_share is not None
    assert line.branch_share > 0.2
    assert (line.branch_row_share, line.branch_token_share) == (None, None)
    train(configuration(model, 1, "micro_batch_size=1", *BRANCHED), tmp_path / "on", BranchedSteps)
    assert policy(tmp_path / "on") != policy(tmp_path / "off")
    (line,) = read_metrics(tmp_path / "on")
    assert line.branch_share is not None
    assert line.branch_row_share is not None
    assert line.branch_token_share is not None
    assert 0.2 < line.branch_row_share < 0.6
    assert 0.1 < line.branch_token_share < line.branch_share


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 3))
def test_rows_of_branches_are_dealt_once_and_equally(seed: int, processes: int, minibatches: int) -> None:
    dice = random.Random(seed)
    own: Any = [training_row(make_trajectory("t", n)) for n in range(processes * minibatches * 2)]
    beside = [[own[0]] * dice.randint(0, 3) for _ in own]
    rows, owners = StepRows(own, beside).filled(processes * minibatches, own[0])
    assert [owners.count(at) for at in range(1, len(own))] == [1 + len(some) for some in beside[1:]]
    assert owners[: len(own)] == list(range(len(own)))
    lengths = [dice.randint(2, 50) for _ in rows]
    dealing = Dealing(num_minibatches=minibatches, token_budget=60, seed=seed)
    dealt = dealing.micro_steps(lengths, processes, 1)
    assert sorted(row for one in dealt for some in one for row in some) == list(range(len(rows)))
    assert len({sum(len(one[process]) for one in dealt) for process in range(processes)}) == 1


def refused(**changed: Any) -> list[str]:
    values: dict[str, Any] = {
        "model": "m", "steps": 1, "groups_per_step": 4, "token_budget": 64, "branches_per_trajectory": 4,
        "rollout": {"group_size": 4, "agent": "openhands"},
    }  # fmt: skip
    config = check(TrainConfig, {**values, **changed})
    return [reason for reason in reasons_at_start(config, sharded=False) if "branches_per_trajectory" in reason]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"grpo": {"loss_type": "grpo"}}, "loss_type grpo is a mean over rows in which each weighs alike"),
        ({"grpo": {"loss_type": "sapo"}}, "loss_type sapo is a mean over rows"),
        ({"advantage": "empg"}, "no response of a branch follows the last one of another stream"),
        ({"rollout": {"group_size": 4, "agent": "tests/harness/inside_agent.py"}}, "runs inside of the sandbox"),
        ({"rollout": {"group_size": 4}}, "the native agent makes branches only with"),
    ],
)
def test_what_cannot_be_is_refused_in_words(changed: dict[str, Any], said: str) -> None:
    (reason,) = refused(**changed)
    assert said in reason
    assert refused() == []
    with pytest.raises(UserError, match="only a token_budget can split: set token_budget"):
        refused(token_budget=None)


@pytest.mark.nightly
def test_two_processes_train_branches_as_one(model: Path, tmp_path: Path) -> None:
    from tests.train.test_processes import moved, run_both

    one, two = tmp_path / "one", tmp_path / "two"
    train(configuration(model, 2, *DEALT, *BRANCHED), one, BranchedSteps)
    done = run_both("dealt", 60, str(model), str(two), *BRANCHED)
    assert [status for status, _ in done] == [0, 0], done
    assert moved(one / "policy", two) < 1e-3 * moved(model, one)
