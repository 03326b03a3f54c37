"""Settings that would be accepted and not honoured are refused before anything is loaded or rolled out."""

import json
import re
import sys
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from swe_aem.cli import app
from swe_aem.core.settings import check
from swe_aem.errors import UserError
from swe_aem.train import refusals
from swe_aem.train.architecture import experts, noise
from swe_aem.train.config import TrainConfig
from swe_aem.train.planning.plan import plan
from swe_aem.train.planning.shapes import shape_of
from swe_aem.train.refusals import reasons_at_start, refuse_at_start, untrained
from swe_aem.train.trl_config import CLIPPED, FIXED, OWNED, UNUSED, TrlConfig, recipe

QUICKSTART = str(Path(__file__).parents[2] / "configs" / "quickstart.yaml")
DENSE = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128, "vocab_size": 9}
BY_THE_CONFIGURATION = {"tf32"}
"""Fields that TRL's configuration itself acts on when it is made."""
SERVERS = {"urls": ["http://127.0.0.1:1"]}


@pytest.fixture
def without_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither torch nor TRL can be imported."""
    for name in ("torch", "transformers", "trl", "accelerate"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture
def quiet_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tracker is installed, and no launcher asks for shards."""
    monkeypatch.setattr(refusals, "find_spec", lambda name: None)
    monkeypatch.delenv("ACCELERATE_USE_FSDP", raising=False)
    monkeypatch.delenv("ACCELERATE_USE_DEEPSPEED", raising=False)


def configured(model: object = "m", **changed: Any) -> TrainConfig:
    values = {"steps": 2, "groups_per_step": 4, "rollout": {"group_size": 4}, "device": "cpu", **changed}
    return check(TrainConfig, {"model": str(model), **values})


def refused(out: Path, *words: str) -> str:
    """What `swe-aem train` says when it refuses the quickstart with changes."""
    done = CliRunner().invoke(app, ["train", QUICKSTART, "--out", str(out), *words])
    assert isinstance(done.exception, UserError), done.output
    return str(done.exception)


def made(directory: Path, **values: Any) -> Path:
    """A model directory with nothing but a config.json."""
    (directory / "config.json").write_text(json.dumps({**DENSE, **values}))
    return directory


@pytest.mark.torch
@pytest.mark.contract(trl=True)
def test_every_field_of_trl_is_classified_once() -> None:
    """A release of TRL with other fields fails here; until it is read, what is new is refused."""
    config = pytest.importorskip("trl.trainer.grpo_config", reason="needs the train extra")
    classes = [set(TrlConfig.model_fields), set(OWNED), set(FIXED), set(UNUSED)]
    assert set.union(*classes) == {field.name for field in fields(config.GRPOConfig) if field.init}
    assert sum(map(len, classes)) == len(set.union(*classes))


@pytest.mark.contract(trl=True, transformers=True)
def test_every_honoured_field_is_read_by_the_trainer() -> None:
    """By TRL's trainer, or by what it inherits: not by a script, nor by the configuration alone."""
    places = {"trl": ["trainer/grpo_trainer.py"], "transformers": ["trainer*.py", "integrations/*.py"]}
    texts = []
    for package, patterns in places.items():
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            pytest.skip("needs the train extra")
        texts += [path.read_text() for pattern in patterns for path in Path(spec.origin).parent.glob(pattern)]
    source = "\n".join(texts)
    read_as = {
        "warmup_steps": r"args\.get_warmup_steps\(",
        "log_level": r"args\.get_process_log_level\(",
        "log_level_replica": r"args\.get_process_log_level\(",
    }
    unread = {name for name in TrlConfig.model_fields if not re.search(read_as.get(name, rf"args\.{name}\b"), source)}
    assert unread == BY_THE_CONFIGURATION


@pytest.mark.parametrize("name", ["model_init_kwargs", "reward_weights", "vllm_importance_sampling_mode", "beta"])
def test_a_field_without_effect_is_refused_before_trl_is_imported(
    name: str, tmp_path: Path, without_libraries: None
) -> None:
    assert f"grpo.{name} cannot be set: " in refused(tmp_path / "o", "--set", f"grpo.{name}=1")
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["run.log"], "it says why"


def test_a_field_of_a_later_trl_is_refused() -> None:
    with pytest.raises(UserError, match=r"grpo\.of_tomorrow is unknown"):
        configured(grpo={"of_tomorrow": 1})


@pytest.mark.parametrize(
    ("grpo", "said"),
    [
        ({"loss_type": "cispo", "epsilon_high": 0.28}, "caps the ratio itself with loss_type cispo"),
        ({"loss_type": "cispo", "epsilon": 0.2}, "epsilon has no effect with loss_type cispo"),
        ({"loss_type": "cispo", "delta": 3}, "delta has no effect with loss_type cispo"),
        ({"epsilon_high": 5}, "is added to 1 with loss_type dr_grpo"),
        ({"delta": 1.2}, r"ends at 1 \+ epsilon_high = 1\.28"),
        ({"loss_type": "sapo", "epsilon_high": 0.28}, "epsilon_high has no effect with loss_type sapo"),
        ({"sapo_temperature_neg": 1}, "set loss_type to sapo"),
        ({"loss_type": "vespo", "importance_sampling_level": "token"}, "has no effect with loss_type vespo"),
        ({"loss_type": "ppo"}, "give one of grpo, bnpo"),
        ({"entropy_target": 0.2}, "has no effect without use_adaptive_entropy"),
        ({"gradient_checkpointing_kwargs": {}}, "has no effect without gradient_checkpointing"),
        ({"bf16": True, "fp16": True}, "exclude each other"),
    ],
)
def test_values_that_would_change_their_meaning_are_refused(grpo: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        configured(grpo=grpo)


@pytest.mark.parametrize("loss", [*CLIPPED, "cispo", "sapo", "vespo"])
def test_the_preset_has_a_sensible_bound_for_every_loss(loss: str) -> None:
    fields = recipe(configured(grpo={"loss_type": loss}).grpo)
    assert fields["epsilon_high"] == (5.0 if loss == "cispo" else 0.28)


def test_a_given_cap_is_kept() -> None:
    assert recipe(configured(grpo={"loss_type": "cispo", "epsilon_high": 2}).grpo)["epsilon_high"] == 2


def test_what_was_given_comes_back_and_nothing_else() -> None:
    config = configured(grpo={"warmup_steps": 4, "gradient_checkpointing": True})
    stored = config.model_dump(mode="json")
    assert stored["grpo"] == {"warmup_steps": 4, "gradient_checkpointing": True}
    assert check(TrainConfig, stored) == config


def test_one_ratio_per_trajectory_and_aem_exclude_each_other_at_the_start(quiet_host: None) -> None:
    grpo = {"importance_sampling_level": "sequence", "loss_type": "grpo"}
    with pytest.raises(UserError, match="or loss_type cispo, which weights"):
        refuse_at_start(configured(grpo=grpo))
    refuse_at_start(configured(grpo=grpo, advantage="leave_one_out"))
    refuse_at_start(configured(grpo={"importance_sampling_level": "sequence", "loss_type": "cispo"}))


@pytest.mark.parametrize("tracker", ["tensorboard", "trackio", "wandb"])
def test_a_tracker_that_is_not_installed_is_refused(tracker: str, quiet_host: None) -> None:
    with pytest.raises(UserError, match=f"uv pip install {tracker}"):
        refuse_at_start(configured(report_to=[tracker]))


def test_a_missing_tracker_is_refused_before_trl_is_imported(
    tmp_path: Path, quiet_host: None, without_libraries: None
) -> None:
    assert "uv pip install wandb" in refused(tmp_path / "o", "--set", "report_to=[wandb]")


def test_fields_of_a_tracker_need_it(quiet_host: None) -> None:
    with pytest.raises(UserError, match="read by trackio only"):
        refuse_at_start(configured(grpo={"project": "p"}))


@pytest.mark.parametrize("variable", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_shards_without_servers_are_refused_before_trl_is_imported(
    variable: str, tmp_path: Path, quiet_host: None, without_libraries: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    assert "name servers, or launch with plain data parallelism" in refused(tmp_path / "o")
    with pytest.raises(UserError, match="lora with FSDP"):
        refuse_at_start(configured(servers=SERVERS | {"sync": "lora"}, lora={}))
    refuse_at_start(configured(servers=SERVERS, heldout={"every": 1}))


@pytest.mark.parametrize("version", ["1", None])
def test_the_first_version_of_fsdp_is_refused(
    version: str | None, quiet_host: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps whole gradients. accelerate takes it where no version is given."""
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.delenv("FSDP_VERSION", raising=False)
    if version is not None:
        monkeypatch.setenv("FSDP_VERSION", version)
    with pytest.raises(UserError, match="launch with --fsdp_version 2"):
        refuse_at_start(configured(servers=SERVERS, heldout=None))


MIXTURES = [
    {"num_experts": 4, "num_experts_per_tok": 2},
    {"num_local_experts": 8},
    {"n_routed_experts": 64, "n_shared_experts": 1},
    {"moe_num_experts": [64, 64]},
    {"text_config": {"num_experts": 128}},
    {"ffn_config": {"moe_num_experts": 16}},
]
NO_MIXTURES: list[dict[str, Any]] = [
    {},
    {"num_experts": 1, "num_experts_per_tok": 2},
    {"n_routed_experts": None, "num_experts": 0},
    {"experts_implementation": "eager", "num_experts": True},
]


@pytest.mark.parametrize("values", MIXTURES)
def test_a_mixture_is_recognised_by_its_counts(
    values: dict[str, Any], tmp_path: Path, quiet_host: None, without_libraries: None
) -> None:
    model = made(tmp_path, **values)
    with pytest.raises(UserError, match=r"is a mixture of \d+ experts, and lora\.target_modules=all-linear"):
        refuse_at_start(configured(model, lora={}))
    refuse_at_start(configured(model, servers=SERVERS))
    with pytest.raises(UserError, match=r"mixture of .* experts, whose memory is not known"):
        shape_of(str(model))


@pytest.mark.parametrize("values", NO_MIXTURES)
def test_a_dense_model_is_no_mixture(values: dict[str, Any], tmp_path: Path, quiet_host: None) -> None:
    refuse_at_start(configured(made(tmp_path, **values), servers=SERVERS))
    assert shape_of(str(tmp_path)).hidden_size == 64


def test_an_adapter_that_misses_experts_is_refused_or_told(tmp_path: Path, quiet_host: None) -> None:
    model, servers = made(tmp_path, num_experts=4), SERVERS | {"sync": "lora"}
    with pytest.raises(UserError, match="does not say whether they have adapters"):
        refuse_at_start(configured(model, servers=servers, lora={}))
    refuse_at_start(configured(model, servers=servers, lora={"experts": False}))
    chosen = configured(model, servers=servers, lora={"target_modules": ["q_proj", "v_proj"]})
    refuse_at_start(chosen)
    (told,) = untrained(chosen, {"num_experts": 4})
    assert "the adapter is on q_proj, v_proj, and no weight of a routed expert is trained" in told
    assert told in list(plan(chosen, tmp_path / "run"))
    assert list(untrained(configured(model, lora={"experts": True}), {"num_experts": 4})) == []


@pytest.mark.parametrize(
    ("lora", "reason"),
    [
        ({"target_modules": ["q_proj", "mlp.gate"]}, "would read gate in lora.target_modules"),
        ({"target_modules": ["q_proj", "gate_proj", "up_proj", "down_proj"]}, "would read down_proj"),
        ({"target_modules": ".*_proj", "experts": True}, "as a pattern that names experts"),
    ],
)
def test_names_that_peft_reads_as_experts_are_refused(
    lora: dict[str, Any], reason: str, tmp_path: Path, quiet_host: None
) -> None:
    with pytest.raises(UserError, match=reason):
        refuse_at_start(configured(made(tmp_path, num_experts=4), lora=lora))
    refuse_at_start(configured(made(tmp_path), lora={**lora, "experts": None}))


def test_adapters_on_experts_need_a_model_of_which_servers_take_them(tmp_path: Path, quiet_host: None) -> None:
    servers, lora = SERVERS | {"sync": "lora"}, {"experts": True}
    other = made(tmp_path, num_experts=4, model_type="glm4_moe")
    with pytest.raises(UserError, match="of the kind glm4_moe, of which no server is known to take adapters"):
        refuse_at_start(configured(other, servers=servers, lora=lora))
    refuse_at_start(configured(other, lora=lora))
    refuse_at_start(configured(made(tmp_path, num_experts=4, model_type="qwen3_moe"), servers=servers, lora=lora))
    with pytest.raises(UserError, match=r"lora\.experts has no effect"):
        refuse_at_start(configured(made(tmp_path), lora=lora))


@pytest.mark.parametrize("indexed", [True, False])
def test_parts_of_a_checkpoint_that_are_not_trained_are_told(tmp_path: Path, quiet_host: None, indexed: bool) -> None:
    """Qwen3.5 has them for images and for predicting several tokens."""
    model = made(tmp_path)
    names = ["lm_head.weight", "model.visual.merger.weight", "mtp.norm.weight"]
    if indexed:
        index = {"weight_map": dict.fromkeys(names, "model-00001-of-00001.safetensors")}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    else:
        header = json.dumps({"__metadata__": {"format": "pt"}} | {name: {"dtype": "F32"} for name in names}).encode()
        (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    chosen = configured(model, servers=SERVERS)
    refuse_at_start(chosen)
    (told,) = untrained(chosen, {})
    assert told.startswith(f"2 tensors of {model}, such as model.visual.merger.weight, are not trained: servers keep")
    assert told in list(plan(chosen, tmp_path / "run"))
    assert list(untrained(configured(model, servers=SERVERS | {"sync": "lora"}, lora={}), {})) == []
    damaged = next(path for path in tmp_path.iterdir() if path.name.startswith("model.safetensors"))
    damaged.write_bytes(b"\x09")
    with pytest.raises(UserError, match="not a part of a checkpoint"):
        list(untrained(chosen, {}))


def test_a_dry_run_says_what_a_run_would_refuse(tmp_path: Path, quiet_host: None) -> None:
    hardware = {
        "gpu": "g", "gpu_memory_gb": 80, "gpus_per_host": 8, "trainer_gpus": 4, "servers": 1, "sharding": "fsdp2",
    }  # fmt: skip
    model, adapters = made(tmp_path, num_experts=128), SERVERS | {"sync": "lora"}
    mixture = configured(model, servers=adapters, lora={}, hardware=hardware, report_to=["wandb"])
    lines = list(plan(mixture, tmp_path / "run"))
    assert [line.split(":")[0] for line in lines].count("REFUSED") == 3
    assert any(line.startswith("REFUSED: ") and "mixture of 128 experts" in line for line in lines)
    assert any(line.startswith("memory: not estimated: ") and "mixture of 128" in line for line in lines)
    sharded = configured(made(tmp_path), hardware=hardware, heldout=None)
    assert any("REFUSED: the policy samples in this process" in line for line in plan(sharded, tmp_path / "run"))


def test_hybrids_are_not_planned_as_dense(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="layers of the kind linear_attention"):
        shape_of(str(made(tmp_path, layer_types=["full_attention", "linear_attention"])))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "the policy samples in this process: set servers"),
        ({"servers": SERVERS, "token_budget": 64}, r"packed rows \(token_budget\) have no columns"),
    ],
)
def test_routing_replay_needs_servers_and_columns(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        configured(routing_replay=True, **changes)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model_type": "qwen3"}, "routing_replay has no effect: .* has no experts"),
        ({"model_type": "gpt_oss", "num_local_experts": 4}, "is of the kind gpt_oss, whose routers"),
        ({"model_type": "qwen3_moe", "num_experts": 4}, None),
        ({"model_type": "qwen3_5_moe", "text_config": {"model_type": "qwen3_5_moe_text", "num_experts": 4}}, None),
    ],
)
def test_routing_replay_needs_routers_that_it_knows(
    values: dict[str, Any], said: str | None, tmp_path: Path, quiet_host: None
) -> None:
    config = configured(made(tmp_path, **values), routing_replay=True, servers=SERVERS)
    found = [one for one in reasons_at_start(config, sharded=False) if "routing_replay" in one]
    assert len(found) == (said is not None)
    assert said is None or re.search(said, found[0])


def test_the_balance_of_experts_needs_experts(tmp_path: Path, quiet_host: None) -> None:
    with pytest.raises(UserError, match="has no experts"):
        refuse_at_start(configured(made(tmp_path), grpo={"router_aux_loss_coef": 0.01}))


def test_dropout_is_refused_in_adapters_and_models(tmp_path: Path, quiet_host: None) -> None:
    with pytest.raises(UserError, match=r"lora\.dropout: 0\.1 would make the old policy's"):
        configured(lora={"dropout": 0.1})
    assert configured(lora={"dropout": 0.0}).lora is not None
    noisy = made(tmp_path, attention_dropout=0.1, classifier_dropout=0.1, token_dropout=True)
    assert list(reasons_at_start(configured(noisy), sharded=False)) == [
        f"{tmp_path} has attention_dropout=0.1 in its config.json: training would compare log-probabilities of two "
        "passes that differ at random. Set attention_dropout to 0 there"
    ]


@pytest.mark.torch
@pytest.mark.contract(transformers=True)
def test_defaults_of_a_models_class_count_once_transformers_knows_them(tmp_path: Path) -> None:
    """Its config.json may leave out what its class has by default."""
    transformers = pytest.importorskip("transformers", reason="needs the train extra")
    from swe_aem.train.models import model_values

    transformers.Qwen3MoeConfig(hidden_size=64).save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": values["model_type"]}))
    assert experts(model_values(tmp_path)) > 1
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    assert noise(model_values(tmp_path))
    with pytest.raises(UserError, match="no such directory"):
        model_values(tmp_path / "none")


@pytest.mark.torch
@pytest.mark.contract(trl=True, transformers=True)
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"lora": {"target_modules": ["lm_head"]}}, "lm_head"),
        ({"grpo": {"optim": "galore_adamw"}}, "galore_torch"),
        ({"grpo": {"lr_scheduler_type": "cosine_with_min_lr"}}, "min_lr"),
    ],
)
def test_what_only_the_trainer_refuses_is_refused_before_anything_is_rolled_out(
    changed: dict[str, Any], said: str, tmp_path: Path
) -> None:
    """TRL refuses an adapter on the head when it is made, transformers an optimiser or a schedule when it begins."""
    pytest.importorskip("trl", reason="needs the train extra")
    from swe_aem.testing.steps import ScriptedSteps, tiny_model, tiny_tokenizer
    from swe_aem.train.loop import train

    tiny_model().save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")

    class Watched(ScriptedSteps):
        def evaluate(self, *args: Any) -> None:
            raise AssertionError("the policy was evaluated")

    config = configured(
        tmp_path / "model",
        rollout={"group_size": 4, "native": {"max_context_tokens": 64}},
        heldout={"tasks": "tasks/nano", "split": "heldout", "limit": 2},
        report_to=[],
        **changed,
    )
    with pytest.raises(UserError, match=said):
        train(config, tmp_path / "run", Watched)


def test_a_number_that_yaml_takes_for_text_is_one() -> None:
    kwargs = {"min_lr": "1e-7", "decay_type": "linear"}
    config = configured(grpo={"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": kwargs})
    assert config.grpo.given()["lr_scheduler_kwargs"] == {"min_lr": 1e-7, "decay_type": "linear"}
