"""Settings of passes: loss and gradients are those without them, and less is kept or computed."""

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from trl.kernels import chunked_logprob  # noqa: E402
from trl.trainer import utils  # noqa: E402

from swe_aem.core.settings import check  # noqa: E402
from swe_aem.errors import UserError  # noqa: E402
from swe_aem.testing.steps import VOCABULARY, tiny_model  # noqa: E402
from swe_aem.train.config import TrainConfig  # noqa: E402
from swe_aem.train.head_tiles import tiles_of  # noqa: E402
from swe_aem.train.passes import PassSettings  # noqa: E402
from tests.train.one_step import trained_weights  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.contract(trl=True, transformers=True)]

SELECTIVE = PassSettings(selective_checkpointing=True)
OFFLOADED = PassSettings(activation_offloading=True)
CHECKPOINTED = {"grpo": {"gradient_checkpointing": True}}
REENTRANT = {"grpo": {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}}}
TOKENS = 100
BOTH = PassSettings(selective_checkpointing=True, activation_offloading=True)


class Counted(TorchDispatchMode):
    """Counts passes forward through a kernel of attention."""

    def __init__(self) -> None:
        super().__init__()
        self.attended = 0

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.attended += "scaled_dot_product" in str(op) and "backward" not in str(op)
        return op(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "passes",
    [pytest.param(PassSettings(), marks=pytest.mark.nightly), SELECTIVE, OFFLOADED, BOTH],
    ids=["plain", "selective", "offloaded", "both"],
)
@pytest.mark.parametrize(
    ("packed", "adapter"), [(False, False), (True, True), pytest.param(True, False, marks=pytest.mark.nightly)]
)
def test_checkpointing_changes_no_bit(
    trained: Callable[..., Any], passes: PassSettings, packed: bool, adapter: bool
) -> None:
    """And selective checkpointing computes no attention again; others do, for each layer of each pass that trains."""
    settings: Any = {"packed": packed, "adapter": adapter, "minibatches": 2}
    with Counted() as without:
        kept = trained(**settings)
    with Counted() as counted:
        found = trained(**settings, passes=passes, gradient_checkpointing=True)
    for one, other in zip(trained_weights(kept.model), trained_weights(found.model), strict=True):
        assert torch.equal(one, other)
    assert [line.get("loss") for line in kept.state.log_history] == [
        line.get("loss") for line in found.state.log_history
    ]
    again = counted.attended - without.attended
    assert again == (0 if passes.selective_checkpointing else 2 * (4 if packed else 8))


@pytest.mark.parametrize("selective", [False, True])
@pytest.mark.parametrize("offloaded", [False, True])
def test_the_inputs_of_layers_wait_in_the_hosts_memory(
    selective: bool, offloaded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits in the host's memory is the input of each layer, and nothing else."""
    copied: list[int] = []
    hooks = torch.autograd.graph.save_on_cpu.__init__

    def watched(self: Any, *args: Any, **kwargs: Any) -> None:
        hooks(self, *args, **kwargs)
        pack = self.pack_hook

        def counted(tensor: Any) -> Any:
            copied.append(tensor.nbytes)
            return pack(tensor)

        self.pack_hook = counted

    monkeypatch.setattr(torch.autograd.graph.save_on_cpu, "__init__", watched)
    model = tiny_model().train()
    PassSettings(selective_checkpointing=selective, activation_offloading=offloaded).prepare(model)
    model.activation_checkpointing_enable()
    model(input_ids=torch.randint(2, 64, (1, TOKENS))).logits.sum().backward()
    inputs = 4 * TOKENS * model.config.num_hidden_layers * model.config.hidden_size
    assert sum(copied) == (inputs if offloaded else 0)


def test_the_trainers_head_has_tiles_of_the_words_that_there_are(
    trained: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not of 32,768, in the passes that score and in those that train."""
    widths: list[int] = []
    head: Any = chunked_logprob.ChunkedLogProbFunction
    apply = head.apply

    def watched(*given: Any) -> Any:
        widths.append(given[5])
        return apply(*given)

    monkeypatch.setattr(head, "apply", watched)
    trained(packed=True, minibatches=2)
    assert widths == [VOCABULARY] * 8
    assert utils._CHUNKED_LOGPROB_CHUNK_SIZE == 32768


def test_narrow_tiles_change_no_more_than_rounding() -> None:
    torch.manual_seed(0)
    found = []
    for columns in (32768, 7):
        model = tiny_model(sharpness=4.0)
        utils.add_fused_lm_head(model, outputs=("log_probs", "entropy"))
        ids = torch.arange(2, 42)[None]
        with tiles_of(columns):
            output = model(input_ids=ids, labels=ids, fused_lm_head=True)
        output.log_probs.sum().backward()
        found.append((output.log_probs, output.entropy, model.lm_head.weight.grad, model.model.norm.weight.grad))
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-4, rtol=1e-4)


def test_attention_without_a_kernel_has_nothing_to_keep() -> None:
    model = tiny_model()
    model.set_attn_implementation("eager")
    with pytest.raises(UserError, match="set another attention"):
        SELECTIVE.prepare(model)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"selective_checkpointing": True}, "has no effect without checkpointing"),
        ({"activation_offloading": True}, "has no effect without checkpointing"),
        ({"selective_checkpointing": True, "attention": "eager", **CHECKPOINTED}, "nothing to keep"),
        ({"selective_checkpointing": True, **REENTRANT}, "excludes use_reentrant"),
    ],
)
def test_settings_without_an_effect_are_refused(changed: dict[str, Any], said: str) -> None:
    values = {"model": "m", "steps": 1, "groups_per_step": 4, "rollout": {"group_size": 4}}
    with pytest.raises(UserError, match=said):
        check(TrainConfig, {**values, **changed})
    found = check(TrainConfig, {**values, **CHECKPOINTED, "selective_checkpointing": True})
    assert found.passes == SELECTIVE
