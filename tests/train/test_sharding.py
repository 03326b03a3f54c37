"""FSDP2 on two gloo processes: accelerate's and transformers' own code, and the trainer's gradients in shards."""

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from safetensors.torch import load_file  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

from swe_aem.errors import UserError  # noqa: E402
from swe_aem.testing.steps import save_tiny, tiny_model, tiny_tokenizer  # noqa: E402
from swe_aem.train.config import read_config  # noqa: E402
from swe_aem.train.export_checkpoint import export_checkpoint  # noqa: E402
from swe_aem.train.models import load_trained  # noqa: E402
from tests.train.mixtures import SHAPES, mixture  # noqa: E402
from tests.train.saved_twice import files  # noqa: E402
from tests.train.test_processes import run_both  # noqa: E402

MOST_AT_ONCE = 4 + 1 + 2
"""Whole tensors: those that are written, the one that waits for that, and one in the hands of each of two threads."""
KINDS = ("served", "trained")
pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.timeout(1200)]


def moved(weights: dict[str, Any]) -> dict[str, Any]:
    """What training changed, by parameter."""
    return {name: (weights[name].float() - one.detach()).flatten() for name, one in tiny_model().named_parameters()}


def require_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """The same names, types and bits."""
    assert found.keys() == expected.keys()
    for name, one in expected.items():
        assert found[name].dtype == one.dtype
        assert torch.equal(found[name], one), name


def test_gradients_are_shards_in_float32_between_micro_batches(tmp_path: Path) -> None:
    """And make the update that a model which is not sharded gets, but for the noise of 16 bits. Weights are streamed
    tensor by tensor."""
    streamed, rose = [], []
    for status, output in run_both("sharded", 0, str(tmp_path / "sharded")):
        assert status == 0, output
        lines = [json.loads(line) for line in output.splitlines() if line.startswith('{"')]
        streamed.append([line for line in lines if "stream" in line])
        *after, end, risen = [line for line in lines if "stream" not in line]
        rose.append(risen)
        assert end["all sharded"]
        assert 2 * end["mine"] == pytest.approx(end["all"], rel=0.02), "accelerate left FSDP out"
        assert after == [{"whole": 0, "shards": end["mine"], "formats": ["torch.float32"]}] * 4
        assert end["reduced in"] == ["torch.float32"]
    assert [(line["stream"], line["same"], line["formats"]) for line in streamed[0]] == [
        (None, True, ["torch.float32"]),
        ("bfloat16", True, ["torch.bfloat16"]),
    ]
    for line in streamed[0]:
        assert line["at once"] <= MOST_AT_ONCE < line["tensors"], "the stream is not gathered"
        assert line["pieces"] > 1
    model = rose[0]["model"]
    assert rose[0]["gathered"] > 0.9 * model > 80e6
    assert rose[0]["streamed"] < 0.5 * model, "the whole model is in the memory of the process that writes it"
    for status, output in run_both("sharded", 0, str(tmp_path / "whole"), "unsharded"):
        assert status == 0, output
    sharded, whole = (moved(torch.load(tmp_path / name)) for name in ("sharded", "whole"))
    for name, expected in whole.items():
        assert float(expected.norm()) > 0, name
        assert float(torch.cosine_similarity(sharded[name], expected, dim=0)) > 0.98, name
        assert float(sharded[name].norm()) == pytest.approx(float(expected.norm()), rel=0.05), name


@pytest.fixture(scope="module")
def sharded_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps in shards that was evaluated after each."""
    place = tmp_path_factory.mktemp("sharded")
    save_tiny(place / "model", dtype=torch.bfloat16)
    heldout = "heldout={every: 1, before: false, greedy: false}"
    for status, output in run_both("sharded_run", 200, str(place / "model"), str(place / "run"), "3", heldout):
        assert status == 0, output
    return place / "run"


def test_an_evaluation_in_the_middle_of_a_sharded_run_has_the_weights_of_its_step(sharded_run: Path) -> None:
    before: dict[str, Any] = {}
    for step in (1, 2, 3):
        served, trained = (load_file(sharded_run / f"evaluated/{kind}-{step}.safetensors") for kind in KINDS)
        assert served.keys() == trained.keys()
        for name, one in trained.items():
            assert served[name].dtype == torch.bfloat16
            assert torch.equal(served[name], one.to(torch.bfloat16)), (step, name)
        assert before != {name: one.tolist() for name, one in served.items()}, "nothing was trained"
        before = {name: one.tolist() for name, one in served.items()}


def test_shards_that_are_written_while_training_continues_are_those_that_it_waits_for(sharded_run: Path) -> None:
    """Whole checkpoints, file by file, but for the random number that torch gives each of its own."""
    found, expected = files(sharded_run / "checkpoints"), files(sharded_run / "waited")
    assert found.keys() == expected.keys()
    assert {name.partition("/")[0] for name in found} == {"checkpoint-4", "checkpoint-6"}
    assert {name for name in found if found[name] != expected[name]} <= {n for n in found if n.endswith("/.metadata")}
    shards = "pytorch_model_fsdp_0/__1_0.distcp"
    assert found[f"checkpoint-4/{shards}"] != found[f"checkpoint-6/{shards}"], "nothing was trained"


def test_a_checkpoint_in_shards_becomes_a_model_directory(sharded_run: Path, tmp_path: Path) -> None:
    """Of the last step, and of one before; what was there is not touched."""
    assert export_checkpoint(sharded_run, tmp_path / "last") == 3
    assert export_checkpoint(sharded_run, tmp_path / "2", step=2) == 2
    for step, name in ((3, "last"), (2, "2")):
        trained = load_file(sharded_run / f"evaluated/trained-{step}.safetensors")
        model = AutoModelForCausalLM.from_pretrained(tmp_path / name, dtype="auto")
        require_same(model.state_dict(), {name: one.to(torch.bfloat16) for name, one in trained.items()})
    files = [(tmp_path / "last" / one.name, one) for one in (sharded_run / "policy").iterdir()]
    assert all(one.read_bytes() == other.read_bytes() for one, other in files)
    with pytest.raises(UserError, match=r"has no checkpoint of step 1: there are those of step 2, 3"):
        export_checkpoint(sharded_run, tmp_path / "1", step=1)
    with pytest.raises(UserError, match="exists: remove it, or choose another --to"):
        export_checkpoint(sharded_run, tmp_path / "2")


@pytest.mark.parametrize("architecture", sorted(SHAPES))
def test_a_model_is_sharded_by_layers_that_it_has(architecture: str, tmp_path: Path) -> None:
    mixture(architecture).save_pretrained(tmp_path)
    model = load_trained(read_config(Path("configs/quickstart.yaml"), [f"model={tmp_path}"]))
    layers = {type(module).__name__ for module in model.modules()}
    assert model._no_split_modules
    assert set(model._no_split_modules) <= layers


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("architecture", "tied"), [("qwen3", True), ("qwen3_moe", False), ("qwen3_moe", True), ("qwen3_5_moe_text", True)]
)
def test_shards_of_mixtures_and_of_tied_embeddings_become_a_model_directory(
    architecture: str, tied: bool, tmp_path: Path
) -> None:
    """Which has the logits of the trained weights, as `policy/` has."""
    model, run = tmp_path / "model", tmp_path / "run"
    mixture(architecture, tie_word_embeddings=tied, sharpness=20.0).to(torch.bfloat16).save_pretrained(model)
    tiny_tokenizer().save_pretrained(model)
    heldout = "heldout={every: 1, before: false, greedy: false}"
    for status, output in run_both("sharded_run", 200, str(model), str(run), "2", heldout):
        assert status == 0, output
    assert export_checkpoint(run, tmp_path / "exported") == 2
    reference, ids = AutoModelForCausalLM.from_pretrained(model, dtype="auto"), torch.arange(2, 34)[None]
    before = reference(ids).logits
    reference.load_state_dict(load_file(run / "evaluated/trained-2.safetensors"), strict=not tied)
    expected = reference(ids).logits
    assert not torch.equal(before, expected), "nothing was trained"
    for place in (tmp_path / "exported", run / "policy"):
        loaded = AutoModelForCausalLM.from_pretrained(place, dtype="auto")
        assert torch.equal(loaded(ids).logits, expected)


@pytest.mark.nightly
@pytest.mark.parametrize("compiled", [(), ("compiled",)], ids=["eager", "compiled"])
def test_packed_rows_make_the_update_of_rows_one_by_one(compiled: tuple[str, ...], tmp_path: Path) -> None:
    """Each process has three micro-steps, whose gradients are reduced one by one."""
    (status, output), (other, said) = run_both("sharded_packed", 0, str(tmp_path / "out"), *compiled)
    assert (status, other) == (0, 0), output + said
    found = json.loads(next(line for line in output.splitlines() if line.startswith('{"')))
    assert found["moved"] > 1e-3
    assert found["apart"] < 1e-4 * found["moved"]


def test_the_policy_of_a_sharded_run_is_what_was_trained_in_the_types_of_its_checkpoint(sharded_run: Path) -> None:
    trained = load_file(sharded_run / "evaluated/trained-3.safetensors")
    model = AutoModelForCausalLM.from_pretrained(sharded_run / "policy", dtype="auto")
    assert model.dtype == torch.bfloat16
    require_same(model.state_dict(), {name: one.to(torch.bfloat16) for name, one in trained.items()})
    assert AutoTokenizer.from_pretrained(sharded_run / "policy").pad_token == "<pad>"
