"""Compiled layers: they train what eager ones train, names stay, and rows of other lengths compile nothing again."""

import os
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from safetensors.torch import load_file  # noqa: E402
from torch._dynamo.utils import counters  # noqa: E402

from swe_aem.core.settings import check  # noqa: E402
from swe_aem.errors import UserError  # noqa: E402
from swe_aem.testing.steps import ScriptedSteps, save_tiny, tiny_model  # noqa: E402
from swe_aem.train import compiled_layers  # noqa: E402
from swe_aem.train.compiled_layers import Compilations, compile_layers, missing_compiler  # noqa: E402
from swe_aem.train.config import TrainConfig, differences  # noqa: E402
from swe_aem.train.loop import train  # noqa: E402
from swe_aem.train.passes import PassSettings  # noqa: E402
from swe_aem.train.records import read_metrics  # noqa: E402
from swe_aem.train.refusals import reasons_at_start, refuse_model  # noqa: E402
from swe_aem.train.trl_config import TrlConfig  # noqa: E402
from tests.train.killable import configuration  # noqa: E402
from tests.train.mixtures import mixture  # noqa: E402
from tests.train.one_step import policy, trained_weights  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.contract(trl=True, transformers=True)]

COMPILED = PassSettings(compile="layers")
CLOSE = 3e-5
"""Apart in log-probabilities, and in gradients as a share of the largest: what compiled layers may be of eager ones, in
float32."""


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Nothing is compiled yet."""
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Layers become graphs, and each operation of a graph is run as it is: what torch generates code for, without
    it."""
    torch.compiler.set_default_backend("eager")
    yield
    torch.compiler.set_default_backend(None)


def passes_of(model: Any, *, checkpointed: bool = False, **inputs: Any) -> list[tuple[Any, Any]]:
    """Log-probabilities of rows of several lengths, padded and not, as they are scored and as they are trained. Their
    gradients are summed in the model."""
    model.train()
    model.config.use_cache = False
    if checkpointed:
        model.activation_checkpointing_enable()
    found = []
    for number, length in enumerate((21, 40, 33, 57)):
        ids = torch.randint(2, 64, (1, length), generator=torch.Generator().manual_seed(length))
        mask = torch.ones_like(ids)
        mask[0, : number % 2 * 5] = 0

        def logps(ids: Any = ids, mask: Any = mask) -> Any:
            logits = model(input_ids=ids, attention_mask=mask, **inputs).logits[:, 5:]
            return logits.log_softmax(-1).gather(2, ids[:, 5:, None])

        with torch.no_grad():
            scored = logps()
        trained = logps()
        trained.sum().backward()
        found.append((scored, trained.detach()))
    return found


def require_close(eager: Any, compiled: Any, found: list[Any], expected: list[Any]) -> None:
    """Log-probabilities and gradients, and the ratio of training to scoring, which is 1 in eager layers."""
    for (scored, trained), (_, wanted) in zip(found, expected, strict=True):
        assert float((trained - wanted).abs().max()) < CLOSE
        assert float((trained - scored).abs().max()) < CLOSE
    pairs = zip(eager.parameters(), compiled.parameters(), strict=True)
    for one, other in ((one.grad, other.grad) for one, other in pairs if one.requires_grad):
        assert float((one - other).abs().max()) <= CLOSE * float(one.abs().max())


@pytest.mark.usefixtures("captured")
@pytest.mark.parametrize(
    ("packed", "adapter", "checkpointed"),
    [
        (False, False, False),
        pytest.param(True, True, True, marks=pytest.mark.nightly),
        pytest.param(False, True, True, marks=pytest.mark.nightly),
    ],
)
def test_a_step_with_compiled_layers_is_that_of_eager_ones(
    trained: Callable[..., Any], packed: bool, adapter: bool, checkpointed: bool
) -> None:
    """Bit for bit, where each operation of the graphs is run as it is."""
    settings: Any = {"packed": packed, "adapter": adapter, "minibatches": 2, "gradient_checkpointing": checkpointed}
    eager = trained(**settings)
    assert "compile/graphs" not in eager.state.log_history[0]
    assert not counters["frames"]
    compiled = trained(**settings, passes=COMPILED)
    for one, other in zip(trained_weights(eager.model), trained_weights(compiled.model), strict=True):
        assert torch.equal(one, other)
    first, second = compiled.state.log_history[:2]
    assert first["loss"] == eager.state.log_history[0]["loss"]
    assert first["compile/graphs"] >= 2
    assert first["compile/s"] > 0
    assert second["compile/graphs"] == 0, "the second minibatch has rows of other lengths"
    assert first["compile/graph_breaks"] == second["compile/graph_breaks"] == 0
    assert list(compiled.model.state_dict()) == list(policy(adapter=adapter).state_dict())


@pytest.mark.usefixtures("captured")
def test_files_of_a_run_have_the_names_of_a_run_without(tmp_path: Path) -> None:
    """Of weights and classes. A rerun may leave layers uncompiled."""
    save_tiny(tmp_path / "model")
    out = tmp_path / "run"
    config = configuration(tmp_path / "model", 1, "compile=layers", "save_every=1")
    train(config, out, ScriptedSteps)
    (line,) = read_metrics(out)
    assert line.compile_graphs is not None
    assert line.compile_graphs > 0
    for written in (out / "policy", *(out / "checkpoints").glob("checkpoint-*")):
        assert load_file(written / "model.safetensors").keys() == load_file(tmp_path / "model/model.safetensors").keys()
        assert '"Qwen3ForCausalLM"' in (written / "config.json").read_text()
    assert differences(config, configuration(tmp_path / "model", 2, "save_every=1")) == []


@pytest.mark.usefixtures("captured")
def test_a_layer_that_is_compiled_too_often_runs_uncompiled_and_the_run_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compiled_layers, "LIMIT", 1)
    monkeypatch.setattr(torch._dynamo.config, "recompile_limit", 1)
    eager, compiled = tiny_model(), tiny_model()
    compile_layers(compiled)
    compilations = Compilations()
    require_close(eager, compiled, passes_of(compiled), passes_of(eager))
    assert compilations.figures()["compile/graphs"] == 1
    assert "compile: layers have been compiled for 1 kinds of input, the limit" in capsys.readouterr().err
    assert compilations.figures()["compile/graphs"] == 0
    assert "compile" not in capsys.readouterr().err


KINDS: dict[str, Callable[[], Any]] = {
    "dense": tiny_model,
    "adapter": lambda: policy(adapter=True).float(),
    "mixture": lambda: mixture(sharpness=20.0),
}


@pytest.mark.nightly
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("checkpointed", [False, True])
def test_generated_code_is_close_to_eager_layers(kind: str, checkpointed: bool) -> None:
    """With torch's own backend; one graph serves all lengths."""
    eager, compiled = KINDS[kind](), KINDS[kind]()
    compile_layers(compiled)
    found, expected = (passes_of(one, checkpointed=checkpointed) for one in (compiled, eager))
    require_close(eager, compiled, found, expected)
    assert not counters["graph_break"]
    graphs = counters["stats"]["unique_graphs"]
    passes_of(compiled, checkpointed=checkpointed)
    assert counters["stats"]["unique_graphs"] == graphs


def configured(**changed: Any) -> TrainConfig:
    values = {"model": "m", "steps": 1, "groups_per_step": 4, "rollout": {"group_size": 4}, "compile": "layers"}
    return check(TrainConfig, {**values, **changed})


def test_a_host_without_a_compiler_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("CC", "CXX"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    for device, said in (("cpu", "compile=layers needs a C\\+\\+ compiler, and there is no g\\+\\+: install g"),
                         ("cuda", "compile=layers needs a C compiler, and there is no gcc or clang")):  # fmt: skip
        with pytest.raises(UserError, match=said):
            raise UserError(*reasons_at_start(configured(device=device), sharded=False))
    assert not list(reasons_at_start(configured(device="cpu", compile="none"), sharded=False))
    (tmp_path / "mine").touch(mode=0o755)
    monkeypatch.setenv("CXX", f"mine -O1{os.pathsep}")
    assert missing_compiler("cpu") is None
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    assert "there is no Python.h: install python3-dev" in str(missing_compiler("cpu"))


def test_what_cannot_be_compiled_is_refused() -> None:
    checkpointing = {"grpo": {"gradient_checkpointing": True}}
    with pytest.raises(UserError, match="several are one in the code that compile=layers makes"):
        configured(selective_checkpointing=True, **checkpointing)
    with pytest.raises(UserError, match="routing_replay changes what routers give"):
        configured(routing_replay=True, servers={"urls": ["http://localhost:1"]})
    with pytest.raises(UserError, match="layers of the kind linear_attention, which loop over the parts of a row"):
        refuse_model(configured(), {"layer_types": ["linear_attention", "full_attention"]})
    mixed = {"model_type": "qwen3_moe", "num_experts": 8}
    for lora in ({"experts": True, "target_modules": ["q_proj"]}, {"experts": False}):
        with pytest.raises(UserError, match="cannot compile how peft adds adapters to tensors of experts"):
            refuse_model(configured(lora=lora), mixed)
    refuse_model(configured(lora={"experts": False, "target_modules": ["q_proj"]}), mixed)
    with pytest.raises(UserError, match="torch_compile follows from other settings: set compile"):
        check(TrlConfig, {"torch_compile": True})
    assert configured(activation_offloading=True, **checkpointing).passes == PassSettings(
        compile="layers", activation_offloading=True
    )
