"""Routes of a sampler in the trainer's passes, against transformers with the same routes."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from datasets import Dataset  # noqa: E402

from swe_aem.advantage.config import AEMConfig  # noqa: E402
from swe_aem.core import Completion, Response, RoutedExperts  # noqa: E402
from swe_aem.errors import UserError  # noqa: E402
from swe_aem.store.trajectory_row import from_row, to_row  # noqa: E402
from swe_aem.testing.builders import make_trajectory  # noqa: E402
from swe_aem.testing.steps import ScriptedFeed, tiny_prompts, tiny_tokenizer  # noqa: E402
from swe_aem.train.grpo import AgentGRPOTrainer  # noqa: E402
from swe_aem.train.routing_replay import FREE, RoutingReplay  # noqa: E402
from swe_aem.train.training_row import ResponseRoutes, training_row  # noqa: E402
from tests.train.mixtures import mixture  # noqa: E402
from tests.train.tiny_config import tiny_config  # noqa: E402

pytestmark = pytest.mark.torch


def routes(model: Any, ids: Any) -> Any:
    """(tokens, layers, experts per token): where the tokens of one row go in a plain pass."""
    found: list[Any] = []
    hooks = [one.register_forward_hook(lambda *given: found.append(given[2][2]))
             for name, one in model.named_modules() if name.endswith(".mlp.gate")]  # fmt: skip
    with torch.no_grad():
        model(ids[None])
    for hook in hooks:
        hook.remove()
    return torch.stack(found, dim=1)


def logps(model: Any, ids: Any) -> Any:
    """Log-probability of each token of one row but the first."""
    return model(ids[None]).logits[0, :-1].log_softmax(-1).gather(1, ids[1:, None]).squeeze(1)


ROW = torch.randint(2, 64, (24,), generator=torch.Generator().manual_seed(3))
PROMPT = 9


@pytest.mark.parametrize("architecture", ["qwen3_moe", "qwen3_next", "qwen3_5_moe_text"])
def test_its_own_routes_change_nothing_and_others_do(architecture: str) -> None:
    model = mixture(architecture, sharpness=20.0)
    plain = logps(model, ROW)
    own = routes(model, ROW)
    replay = RoutingReplay(model)
    replay.use(own[None, PROMPT - 1 : -1], PROMPT)
    assert torch.equal(logps(model, ROW), plain)
    replay.use(((own + 1) % 6)[None, PROMPT - 1 : -1], PROMPT)
    other = logps(model, ROW)
    assert not torch.allclose(other[PROMPT - 1 :], plain[PROMPT - 1 :], atol=1e-3)
    torch.testing.assert_close(other[: PROMPT - 1], plain[: PROMPT - 1])
    replay.use(torch.full_like(own, FREE)[None, PROMPT - 1 : -1], PROMPT)
    assert torch.equal(logps(model, ROW), plain)
    replay.use(None)
    assert torch.equal(logps(model, ROW), plain)


def test_the_routes_of_another_router_are_followed_and_the_own_router_learns() -> None:
    """The sampler is the model with another router: its choice, weighed by the trainer's router, in transformers' own
    products of experts."""
    model = mixture(sharpness=20.0)
    sampler = copy.deepcopy(model)
    torch.manual_seed(5)
    with torch.no_grad():
        for name, one in sampler.named_parameters():
            if name.endswith("mlp.gate.weight"):
                one.copy_(torch.randn_like(one))
    wanted = routes(sampler, ROW)
    assert not torch.equal(wanted, routes(model, ROW))
    replay = RoutingReplay(model)
    replay.use(wanted[None, :-1], 1)
    taken: list[Any] = []
    for name, one in model.named_modules():
        if name.endswith(".mlp.gate"):
            one.register_forward_hook(lambda *given: taken.append(given[2]))
    logps(model, ROW).sum().backward()
    for layer, (logits, weights, chosen) in enumerate(taken):
        assert torch.equal(chosen[:-1], wanted[:-1, layer])
        torch.testing.assert_close(weights, logits.softmax(-1).gather(1, chosen))
    gates = [one for name, one in model.named_parameters() if name.endswith("mlp.gate.weight")]
    assert all(float(one.grad.abs().sum()) > 0 for one in gates)


class Routed(ScriptedFeed):
    """Rows with the routes that a sampler's tokens took."""

    def __init__(self, sampler: Any) -> None:
        super().__init__(4)
        self.sampler = sampler

    def _row(self, prompt: str, member: int) -> dict[str, Any]:
        row = super()._row(prompt, member)
        ids = torch.tensor([*row["prompt_ids"], *row["completion_ids"]])
        begin = len(row["prompt_ids"]) - 1
        return {**row, "routes": routes(self.sampler, ids)[begin:-1].to(torch.uint8).numpy(), "logprobs": [
            float(one) for one in logps(self.sampler, ids)[begin:].detach()
        ]}  # fmt: skip


def trained(out: Path, model: Any, sampler: Any, *, replay: bool, **changes: Any) -> dict[str, Any]:
    """Metrics of a step on what the sampler sampled."""
    trainer = AgentGRPOTrainer(
        model=model,
        args=tiny_config(out, max_steps=1, router_aux_loss_coef=0.0, **changes),
        train_dataset=Dataset.from_list(tiny_prompts(8)),
        processing_class=tiny_tokenizer(),
        rollout_func=Routed(sampler),
        advantage=AEMConfig(),
        routing_replay=replay,
    )
    trainer.train()
    found: Any = trainer.state.log_history
    return found[0]


@pytest.mark.slow
def test_with_replay_the_trainer_agrees_with_a_sampler_that_routes_otherwise(tmp_path: Path) -> None:
    """The sampler chooses other experts at a few of the tokens that it samples, as rounding makes it. The trainer's
    ratio to it is 1 with replay, also where layers are checkpointed."""
    model = mixture(sharpness=20.0)
    sampler = copy.deepcopy(model)
    for name, one in sampler.named_modules():
        if name.endswith(".mlp.gate"):
            one.register_forward_hook(second_best_now_and_then)
    found = {replay: trained(tmp_path / str(replay), copy.deepcopy(model), sampler, replay=replay,
                             gradient_checkpointing=replay) for replay in (False, True)}  # fmt: skip
    assert float(found[False]["importance/abs_log_ratio"]) > 1e-3
    assert float(found[True]["importance/abs_log_ratio"]) < 1e-5


def experts(routes: Any, id_bytes: int = 1) -> RoutedExperts:
    """Routes, (tokens, layers, experts per token), as a store has them."""
    found = torch.tensor(routes).numpy().astype(f"<u{id_bytes}")
    return RoutedExperts.model_validate(
        {"layers": found.shape[1], "experts_per_token": found.shape[2], "id_bytes": id_bytes, "ids": found.tobytes()}
    )


@pytest.mark.parametrize("id_bytes", [1, 2])
def test_routes_of_responses_lie_where_the_responses_do(id_bytes: int) -> None:
    """Two responses with the answer of a tool between them, and a row in which nothing was sampled."""
    first, second = [[[0, 5], [1, 2]]] * 2, [[[3, 4], [5, 0]]]
    row = [ResponseRoutes(0, experts(first, id_bytes)), ResponseRoutes(4, experts(second, id_bytes))]
    found = RoutingReplay(mixture()).routes_of([row, []], 6)
    nothing = [[[FREE] * 2] * 2]
    assert found.tolist() == [first + 2 * nothing + second + nothing, 6 * nothing]


SPANS = [(PROMPT, PROMPT + 5), (PROMPT + 8, PROMPT + 12)]
"""Places in `ROW` of two responses with the answer of a tool between them, and another behind them."""


def test_a_stored_trajectory_is_trained_with_the_experts_that_sampled_it() -> None:
    """From a sampler that chooses other experts wherever it samples, through a completion, the store and a training
    row: the trainer's log-probabilities of sampled tokens are the sampler's."""
    model = mixture(sharpness=20.0)
    sampler = copy.deepcopy(model)
    sampled_from = torch.zeros(len(ROW), dtype=torch.bool)
    for start, end in SPANS:
        sampled_from[start - 1 : end - 1] = True

    def third_best(router: Any, args: Any, output: Any) -> Any:
        logits, _, chosen = output
        chosen = torch.where(sampled_from[:, None], logits.topk(3).indices[:, [0, 2]], chosen)
        return logits, logits.softmax(-1).gather(1, chosen), chosen

    for name, one in sampler.named_modules():
        if name.endswith(".mlp.gate"):
            one.register_forward_hook(third_best)
    went, said = routes(sampler, ROW), logps(sampler, ROW).detach()
    responses = []
    for start, end in SPANS:
        completion = Completion(
            token_ids=tuple(ROW[start:end].tolist()), logprobs=tuple(said[start - 1 : end - 1].tolist()),
            finish_reason="stop", routed_experts=experts(went[start - 1 : end - 1].tolist()),
        )  # fmt: skip
        responses.append(Response.of(completion, start=start, sample_s=0.0, tool_calls=()))
    rolled_out = make_trajectory("t", 0, token_ids=tuple(ROW.tolist()), responses=tuple(responses))
    row = training_row(from_row(json.loads(json.dumps(to_row(rolled_out)))), routing_replay=True)
    replay = RoutingReplay(model)
    replay.use(replay.routes_of([row.get("routes")], len(row["completion_ids"])), len(row["prompt_ids"]))
    found, wanted = logps(model, ROW)[PROMPT - 1 :], torch.tensor(row["logprobs"])
    trained = torch.tensor(row["env_mask"]).bool()
    assert int(trained.sum()) == 9
    torch.testing.assert_close(found[trained], wanted[trained], atol=1e-5, rtol=0)
    replay.use(None)
    assert not torch.allclose(logps(model, ROW)[PROMPT - 1 :][trained], wanted[trained], atol=1e-2)


def second_best_now_and_then(router: Any, args: Any, output: Any) -> Any:
    """Behind the longest prompt, at each third token, the expert after the last chosen one in place of it."""
    logits, _, chosen = output
    ranked = logits.topk(3).indices
    places = torch.arange(len(chosen))
    third = (places > 9) & (places % 3 == 0)
    chosen = torch.where(third[:, None], ranked[:, [0, 2]], chosen)
    return logits, logits.softmax(-1).gather(1, chosen), chosen


def test_what_has_no_routes_or_other_routers_is_refused() -> None:
    replay = RoutingReplay(mixture())
    with pytest.raises(UserError, match="a row has none"):
        replay.routes_of([None], 4)
    with pytest.raises(UserError, match=r"\(3, 2\) and experts go up to number 5, and the trained model has \(2, 2\)"):
        replay.routes_of([[ResponseRoutes(0, experts([[[0, 5]] * 3]))]], 4)
    with pytest.raises(UserError, match=r"up to number 6, .* and 6 experts; serve the model that is trained"):
        replay.routes_of([torch.tensor([[[0, 6]] * 2])], 4)
    with pytest.raises(UserError, match="up to number 65535"):
        replay.routes_of([[ResponseRoutes(0, experts([[[0, 65535]] * 2], 2))]], 4)
    with pytest.raises(UserError, match="of the kind qwen3: leave it out"):
        RoutingReplay(mixture("qwen3"))
    with pytest.raises(UserError, match="of the kind gpt_oss"):
        RoutingReplay(mixture("gpt_oss"))
