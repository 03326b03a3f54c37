"""The plan of a micro-step against the bytes that a real one holds at its peak, on this CPU."""

import weakref
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from transformers import Qwen3Config, Qwen3ForCausalLM  # noqa: E402
from trl.kernels import chunked_logprob  # noqa: E402
from trl.trainer.utils import add_fused_lm_head  # noqa: E402

from swe_aem.errors import UserError  # noqa: E402
from swe_aem.train.config import LoraConfig, read_config  # noqa: E402
from swe_aem.train.head_tiles import tile_columns, tiles_of  # noqa: E402
from swe_aem.train.models import adapted  # noqa: E402
from swe_aem.train.passes import AS_IT_IS, PassSettings  # noqa: E402
from swe_aem.train.planning.fit import longest_row, misfits, trainer_estimate  # noqa: E402
from swe_aem.train.planning.micro_step import MicroStep, Rows, micro_step  # noqa: E402
from swe_aem.train.planning.plan import plan  # noqa: E402
from swe_aem.train.planning.shapes import KNOWN, ModelShape  # noqa: E402
from swe_aem.train.refusals import reasons_at_start  # noqa: E402
from tests.train.planning.test_memory import HELD  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.contract(trl=True, transformers=True)]

TOKENS = 1021
RANK = 16
FIELDS: dict[str, Any] = {
    "hidden_size": 128, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 32, "intermediate_size": 448,
    "num_hidden_layers": 3, "vocab_size": 64,
}  # fmt: skip

ONE_WORD: dict[str, Any] = {"vocab_size": 1}
"""A tile of one word, as in passes with `columns=1`."""


class Held(TorchDispatchMode):
    """The most bytes of tensors that were alive at once, of those that were made in here: those with a dimension of
    `tokens`, or all. While `paused`, none are counted."""

    def __init__(self, tokens: int | None) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.paused = False
        self._tokens = tokens
        self._known: set[int] = set()

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = op(*args, **(kwargs or {}))
        given = {
            one.untyped_storage()._cdata
            for one in torch.utils._pytree.tree_leaves(args)
            if isinstance(one, torch.Tensor)
        }
        for one in torch.utils._pytree.tree_leaves(result):
            if type(one) is torch.Tensor and not self.paused and self._counts(one):
                storage = one.untyped_storage()
                if storage._cdata not in self._known | given:
                    self._known.add(storage._cdata)
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return result

    def _counts(self, one: Any) -> bool:
        return self._tokens is None or any(size in (self._tokens, self._tokens - 1) for size in one.shape)

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def passed(model: Any, held: Held, columns: int, *, autocast: bool, tokens: int, rows: int = 1) -> None:
    """A forward and a backward pass through the fused head."""
    ids = torch.randint(0, 64, (1, tokens))
    lengths = [tokens // rows] * (rows - 1) + [tokens - tokens // rows * (rows - 1)]
    positions = torch.cat([torch.arange(one) for one in lengths])[None]
    with held, torch.autocast("cpu", torch.bfloat16, enabled=autocast), tiles_of(columns):
        output = model(input_ids=ids, labels=ids, position_ids=positions, fused_lm_head=True)
    with held:
        (-output.log_probs.sum() / tokens).backward()


def model_of(fields: dict[str, Any], dtype: str, *, adapter: bool, passes: PassSettings = AS_IT_IS) -> Any:
    torch.manual_seed(0)
    config = Qwen3Config(**fields, max_position_embeddings=2048, tie_word_embeddings=False)
    model: Any = Qwen3ForCausalLM(config).to(getattr(torch, dtype)).train()
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    if adapter:
        model = adapted(model, LoraConfig(r=RANK))
    passes.prepare(model)
    return model


def checkpointed(model: Any, *, adapter: bool) -> None:
    model.activation_checkpointing_enable()
    if adapter:
        model.enable_input_require_grads()


def of_pass(found: MicroStep) -> float:
    return found.kept + found.buffers + max(found.layer, found.head)


@pytest.mark.parametrize("adapter", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("checkpointing", [True, False], ids=["checkpointed", "all kept"])
@HELD
def test_the_peak_of_tokens_is_within_two_hundredths(
    dtype: str, compute: str, checkpointing: bool, adapter: bool
) -> None:
    """Of all that grows with the tokens, the tile aside, which is as narrow as it gets."""
    model, autocast = model_of(FIELDS, dtype, adapter=adapter), dtype != compute
    if checkpointing:
        checkpointed(model, adapter=adapter)
    passed(model, held := Held(TOKENS), columns=1, autocast=autocast, tokens=TOKENS)
    found = micro_step(
        ModelShape(**FIELDS | ONE_WORD), Rows(tokens=TOKENS), compute, autocast=autocast,
        checkpointing=checkpointing, lora_rank=RANK if adapter else None,
    )  # fmt: skip
    assert held.peak == pytest.approx(of_pass(found), rel=0.02)


@pytest.mark.parametrize("adapter", [False, True], ids=["full", "lora"])
def test_selective_checkpointing_keeps_what_attention_gave(adapter: bool) -> None:
    passes = PassSettings(selective_checkpointing=True)
    model = model_of(FIELDS, "bfloat16", adapter=adapter, passes=passes)
    checkpointed(model, adapter=adapter)
    passed(model, held := Held(TOKENS), columns=1, autocast=False, tokens=TOKENS)
    found = micro_step(
        ModelShape(**FIELDS | ONE_WORD), Rows(tokens=TOKENS), "bfloat16", autocast=False, checkpointing=True,
        passes=passes, lora_rank=RANK if adapter else None,
    )  # fmt: skip
    assert held.peak == pytest.approx(of_pass(found), rel=0.01)


@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_mask_of_packed_rows_is_the_square_of_their_tokens(dtype: str, checkpointing: bool) -> None:
    fields: dict[str, Any] = {
        **FIELDS,
        "hidden_size": 32,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 64,
    }
    model = model_of(fields, dtype, adapter=False)
    if checkpointing:
        checkpointed(model, adapter=False)
    passed(model, held := Held(TOKENS), columns=1, autocast=False, tokens=TOKENS, rows=2)
    found = micro_step(
        ModelShape(**fields | ONE_WORD), Rows(tokens=TOKENS, mask_entries=TOKENS**2), dtype, autocast=False,
        checkpointing=checkpointing,
    )  # fmt: skip
    assert held.peak == pytest.approx(of_pass(found), rel=0.02)


@HELD
def test_the_heads_peak_is_its_tile_and_its_gradient(dtype: str, compute: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What folds a tile and adds its products is left out: on a GPU these are kernels, which make nothing else."""
    small: dict[str, Any] = {
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 32,
        "vocab_size": 6000,
    }
    fields, tokens, autocast = FIELDS | small, 96, dtype != compute
    held, model = Held(None), model_of(fields, dtype, adapter=False)
    for name in ("_forward_tile", "_backward_tile", "_addmm_fp32"):
        monkeypatch.setattr(chunked_logprob, name, uncounted(held, getattr(chunked_logprob, name)))
    checkpointed(model, adapter=False)
    logit_bytes = 4 if compute == "float32" else 2
    columns = tile_columns(16, 6000, logit_bytes)
    passed(model, Held(None), columns, autocast=autocast, tokens=tokens)  # the gradients that the next one adds to
    passed(model, held, columns, autocast=autocast, tokens=tokens)
    found = micro_step(
        ModelShape(**fields), Rows(tokens=tokens), compute, autocast=autocast, checkpointing=True,
        passes=PassSettings(head_tile_mb=16),
        head_gradient=4 if dtype == "float32" else 2,
    )  # fmt: skip
    assert found.head > found.layer
    assert held.peak == pytest.approx(of_pass(found), rel=0.05)


def uncounted(held: Held, fold: Any) -> Any:
    def folded(*args: Any, **kwargs: Any) -> Any:
        held.paused = True
        try:
            return fold(*args, **kwargs)
        finally:
            held.paused = False

    return folded


def test_what_a_gpu_held_is_what_is_planned() -> None:
    """Peaks of the allocator on one H200, of docs/memory.md, in GB."""
    for name, model, held in (
        ("lora-1gpu", "Qwen3-0.6B", 4.6), ("lora-1gpu", "Qwen3-8B", 28.4), ("lora-1gpu", "Qwen3-32B", 89.5),
        ("qwen3-8b-1node", "Qwen3-1.7B", 45.4),
    ):  # fmt: skip
        config = read_config(Path("configs") / f"{name}.yaml")
        shape = KNOWN[model].model_copy(update={"tie_word_embeddings": False})
        found = trainer_estimate(config, shape, shards=1)
        assert (found.total - found.runtime) / 1e9 == pytest.approx(held, rel=0.015)


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("deepswe-32b-aem", ["rollout.native.max_context_tokens=65536"], None),
        ("deepswe-32b-aem", ["rollout.native.max_context_tokens=131072"], "activation_offloading=true (91.0 GB) or"),
        ("qwen3-8b-1node", ["rollout.native.max_context_tokens=131072"], "rollout.native.max_context_tokens=69632"),
        ("lora-1gpu", ["attention=eager", "rollout.native.max_context_tokens=65536"], "attention=sdpa with"),
        ("lora-1gpu", ["token_budget=131072"], "token_budget=16384"),
    ],
)
def test_long_rows_are_refused_where_they_do_not_fit(name: str, settings: list[str], said: str | None) -> None:
    config = read_config(Path("configs") / f"{name}.yaml", settings)
    reasons = list(misfits(config))
    assert len(reasons) == (said is not None)
    assert all(str(said) in reason for reason in reasons)
    assert all(reason in list(reasons_at_start(config, sharded=True)) for reason in reasons)
    lines = list(plan(config, Path("runs/x")))
    assert any("DOES NOT FIT" in line for line in lines) == (said is not None)


def test_the_longest_row_fits_and_no_longer_one_does() -> None:
    config = read_config(Path("configs/qwen3-8b-1node.yaml"))
    longest = longest_row(config, KNOWN["Qwen3-8B"])
    for tokens, fits in ((longest, True), (longest + 1024, False)):
        changed = read_config(Path("configs/qwen3-8b-1node.yaml"), [f"rollout.native.max_context_tokens={tokens}"])
        assert (not list(misfits(changed))) == fits


def test_a_tile_has_the_words_that_fit() -> None:
    assert tile_columns(256, 151936, 2) == 32768, "as TRL has it"
    assert tile_columns(256, 151936, 4) == 16384
    assert tile_columns(16, 151936, 4) == 1024
    assert tile_columns(256, 64, 4) == 64
    with pytest.raises(UserError, match="head_tile_mb"):
        read_config(Path("configs/quickstart.yaml"), ["head_tile_mb=15"])
