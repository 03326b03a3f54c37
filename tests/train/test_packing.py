"""Rows packed to a token budget: the same log-probabilities, entropies, loss and gradient as one row at a time."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from transformers.models.qwen3.modeling_qwen3 import Qwen3Model  # noqa: E402

from swe_aem.advantage.config import AEMConfig  # noqa: E402
from swe_aem.core.settings import check  # noqa: E402
from swe_aem.errors import UserError  # noqa: E402
from swe_aem.train.config import TrainConfig  # noqa: E402
from swe_aem.train.dealing import Dealing  # noqa: E402
from swe_aem.train.packing import micro_steps, pack, unpack  # noqa: E402
from swe_aem.train.preset import batch_sizes  # noqa: E402
from swe_aem.train.refusals import reasons_at_start, refuse_model, refuse_silent_changes  # noqa: E402
from tests.train.one_step import MICRO_STEPS, policy, trained_weights  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.contract(trl=True, transformers=True)]


def nightly(*losses: str) -> list[Any]:
    return [pytest.param(loss, marks=pytest.mark.nightly) for loss in losses]


@pytest.mark.parametrize("loss_type", ["dr_grpo", "dapo", "luspo", *nightly("grpo", "cispo", "sapo", "vespo")])
def test_packed_rows_train_as_rows_one_after_the_other(trained: Any, loss_type: str) -> None:
    """Within rounding: the model is float64, TRL's head float32."""
    same(*(trained(packed=each, minibatches=2, loss_type=loss_type) for each in (False, True)))


@pytest.mark.parametrize("entropy", ["exact", "sampler"])
def test_an_adapter_is_trained_the_same_too(trained: Any, entropy: Any) -> None:
    """And where nothing is scored before, as it is with the entropies of the sampler."""
    settings: Any = {"minibatches": 2, "adapter": True, "advantage": AEMConfig(entropy=entropy)}
    same(*(trained(packed=each, **settings) for each in (False, True)), adapter=True)


def test_entropies_of_the_sampler_make_the_same_update_of_all_weights(trained: Any) -> None:
    settings: Any = {"minibatches": 1, "advantage": AEMConfig(entropy="sampler")}
    same(*(trained(packed=each, **settings) for each in (False, True)))


def same(alone: Any, packed: Any, *, adapter: bool = False) -> None:
    """Did both steps train the same, and at all?"""
    for name in ("old_per_token_logps", "advantages"):
        assert torch.allclose(alone.seen[name], packed.seen[name], atol=1e-5), name
    before, one, other = (trained_weights(model) for model in (policy(adapter=adapter), alone.model, packed.model))
    moved = max(float((start - end).abs().max()) for start, end in zip(before, one, strict=True))
    assert moved > 1e-4
    for first, second in zip(one, other, strict=True):
        assert torch.allclose(first, second, rtol=0, atol=1e-4 * moved)
    first, second = (trainer.state.log_history[0] for trainer in (alone, packed))
    assert second["aem/response_entropy"] == pytest.approx(first["aem/response_entropy"], rel=1e-5)
    assert second["loss"] == pytest.approx(first["loss"], rel=1e-4, abs=1e-6)


def test_without_modulation_and_with_one_update_it_is_the_same_too(trained: Any) -> None:
    plain = AEMConfig(baseline="group_mean", lam=0.0)
    alone, packed = (trained(packed=each, minibatches=1, advantage=plain) for each in (False, True))
    for one, other in zip(alone.model.parameters(), packed.model.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-6)


def test_a_micro_step_is_one_pass_without_padding(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    forward = Qwen3Model.forward

    def seen(self: Any, *args: Any, **kwargs: Any) -> Any:
        shapes.append(tuple(kwargs["input_ids"].shape))
        assert kwargs.get("attention_mask") is None
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(Qwen3Model, "forward", seen)
    output = trained(packed=True, minibatches=2).seen
    lengths = (output["prompt_mask"].sum(1) + output["completion_mask"].sum(1)).tolist()
    expected = [(1, sum(lengths[rows])) for rows in micro_steps(MICRO_STEPS)]
    assert shapes == [*expected, *expected]


def test_pack_and_unpack() -> None:
    ids = torch.tensor([[0, 5, 6, 7], [8, 9, 3, 0]])
    mask = torch.tensor([[0, 1, 1, 1], [1, 1, 1, 0]])
    stream = pack(ids, mask, 2)
    assert stream.input_ids.tolist() == [[5, 6, 7, 8, 9, 3]]
    assert stream.position_ids.tolist() == [[0, 1, 2, 0, 1, 2]]
    assert stream.labels.tolist() == [[-100, 6, 7, -100, -100, 3]]
    values = torch.arange(1.0, 6.0).unsqueeze(0)
    assert unpack(values, mask).tolist() == [[0, 0, 1, 2], [3, 4, 5, 0]]
    assert micro_steps([4, 4, 5, 7]) == [slice(0, 2), slice(2, 3), slice(3, 4)]


def test_a_budget_takes_as_many_rows_as_fit_and_equally_many_for_each_process() -> None:
    lengths = [900, 400, 700, 300, 200, 100, 200, 100]
    found = Dealing(token_budget=1000).micro_steps(lengths, 2, 1)
    assert [[len(rows) for rows in one] for one in found] == [[1, 1], [3, 3]]
    assert all(sum(lengths[row] for row in rows) <= 1000 for one in found for rows in one)
    assert sorted(row for one in found for rows in one for row in rows) == list(range(8))
    alone = Dealing(token_budget=500).micro_steps([2000, 100, 100, 100], 1, 1)
    assert alone == [((0,),), ((1, 2, 3),)]


def configured(**changed: Any) -> TrainConfig:
    values = {"model": "m", "steps": 1, "groups_per_step": 4, "rollout": {"group_size": 4}, "token_budget": 64}
    return check(TrainConfig, {**values, **changed})


def test_a_batch_is_a_minibatch() -> None:
    assert batch_sizes(configured(num_minibatches=2), 4) == {
        "per_device_train_batch_size": 2,
        "steps_per_generation": 2,
        "gradient_accumulation_steps": 1,
        "num_generations": 4,
    }


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"loss_type": "bnpo"}, "loss_type bnpo is a mean over the tokens of a micro-batch"),
        ({"entropy_coef": 0.01}, "entropy_coef looks at the tokens of a micro-batch"),
        ({"top_entropy_quantile": 0.2}, "top_entropy_quantile looks at"),
        ({"router_aux_loss_coef": 0.01}, "router_aux_loss_coef looks at"),
    ],
)
def test_what_packing_would_change_is_refused(changed: dict[str, Any], said: str) -> None:
    assert any(said in reason for reason in reasons_at_start(configured(grpo=changed), sharded=False))
    assert not any("token_budget" in reason for reason in reasons_at_start(configured(), sharded=False))


def test_other_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="leave micro_batch_size out"):
        configured(micro_batch_size=2)
    with pytest.raises(UserError, match="linear_attention, in which packed rows would see each other"):
        refuse_model(configured(), {"layer_types": ["linear_attention", "full_attention"]})
    for values in ({"mamba_d_state": 16}, {"model_type": "rwkv"}, {"text_config": {"conv_kernel": 4}}):
        with pytest.raises(UserError, match="layers of the kind recurrent"):
            refuse_model(configured(), values)
    refuse_model(configured(), {"model_type": "qwen3", "layer_types": ["full_attention"]})
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    assert any("DeepSpeed takes an optimiser step" in one for one in reasons_at_start(configured(), sharded=True))


def test_packed_rows_do_not_go_with_routing_replay(make_config: Any) -> None:
    with pytest.raises(UserError, match=r"packed rows \(token_budget\) have no columns"):
        refuse_silent_changes(make_config(), AEMConfig(), packed=True, routing_replay=True)


@pytest.mark.nightly
def test_two_processes_pack_and_train_as_one_without(tmp_path: Path) -> None:
    from swe_aem.testing.steps import ScriptedSteps, save_tiny
    from swe_aem.train.loop import train
    from tests.train.killable import DEALT, configuration
    from tests.train.test_processes import moved, run_both

    model, one, two = tmp_path / "model", tmp_path / "one", tmp_path / "two"
    save_tiny(model)
    train(configuration(model, 2, *DEALT), one, ScriptedSteps)
    done = run_both("dealt", 60, str(model), str(two), "token_budget=64")
    assert [status for status, _ in done] == [0, 0], done
    assert moved(one / "policy", two) < 1e-3 * moved(model, one)
