"""What --launch starts, from the configurations that are shipped: on which GPUs, with which commands."""

import shlex
from pathlib import Path

import pytest

from swe_aem.errors import UserError
from swe_aem.train.config import read_config
from swe_aem.train.launch.commands import LaunchPlan, plan_launch, server_count
from swe_aem.train.launch.run import launch_plan

ARGUMENTS = ["train", "CONFIG"]


def planned(name: str, gpus: int | None, *settings: str) -> LaunchPlan:
    config = read_config(Path("configs") / f"{name}.yaml", settings)
    ports = [8000 + number for number in range(server_count(config))]
    devices = None if gpus is None else [str(number) for number in range(gpus)]
    return plan_launch(config, arguments=ARGUMENTS, gpus=devices, ports=ports)


def test_gpus_that_train_come_before_those_that_serve() -> None:
    plan = planned("qwen3-8b-1node", 8)
    assert plan.gpus == ("0", "1", "2", "3")
    assert [server.gpus for server in plan.servers] == [("4",), ("5",), ("6",), ("7",)]
    adapter = planned("qwen3-32b-8xh200", 8)
    assert adapter.gpus == ("0", "1")
    assert [server.gpus for server in adapter.servers] == [("2", "3"), ("4", "5"), ("6", "7")]


def test_one_gpu_trains_and_serves() -> None:
    plan = planned("lora-1gpu", 1)
    assert plan.gpus == plan.servers[0].gpus == ("0",)
    assert plan.ranks_command(29500, "python")[:4] == ["python", "-m", "swe_aem", "train"]


def test_the_commands_are_those_of_a_user() -> None:
    *servers, ranks = planned("qwen3-8b-1node", 8).lines(Path("out"))
    assert servers[3] == (
        "CUDA_VISIBLE_DEVICES=7 swe-aem serve models/Qwen3-8B --port 8003 --sync file --dtype bfloat16 "
        "--max-model-tokens 32768 --log out/serve -- --gpu-memory-utilization 0.9"
    )
    words = shlex.split(ranks)
    assert words[:4] == ["CUDA_VISIBLE_DEVICES=0,1,2,3", "python", "-m", "accelerate.commands.launch"]
    assert words[words.index("--config_file") + 1].endswith("configs/cluster/fsdp2.yaml")
    assert words[words.index("--num_processes") + 1] == "4"
    assert words[-6:-1] == ["-m", "swe_aem", *ARGUMENTS, "--set"]
    assert words[-1] == f"servers.urls=[{','.join(f'http://127.0.0.1:800{number}' for number in range(4))}]"


def test_servers_return_routed_experts_where_they_are_replayed() -> None:
    option = "--enable-return-routed-experts"
    assert option in planned("qwen3-8b-1node", 8, "routing_replay=true").servers[0].extra
    assert option not in planned("qwen3-8b-1node", 8).servers[0].extra


def test_each_process_holds_all_weights_without_sharding() -> None:
    words = planned("qwen3-32b-8xh200", 8).ranks_command(29511)
    assert "--multi_gpu" in words
    assert "--config_file" not in words
    assert words[words.index("--main_process_port") + 1] == "29511"


def test_a_cpu_has_processes_in_the_place_of_gpus() -> None:
    cpu = ["device=cpu", "dtype=float32", "servers.dtype=float32", "hardware.sharding=none"]
    plan = planned("qwen3-8b-1node", None, *cpu, "hardware.servers=1", "launch.vllm=/env/bin/vllm")
    assert plan.gpus is None
    assert plan.processes == 4
    (server,) = plan.servers
    assert (server.cpu, server.gpus, server.program) == (True, None, "/env/bin/vllm")
    assert "--gpu-memory-utilization" not in server.extra


def test_a_policy_that_samples_in_the_trainer_needs_no_server() -> None:
    plan = planned("quickstart", None)
    assert plan.servers == ()
    assert plan.arguments == tuple(ARGUMENTS)


def test_servers_without_urls_get_those_that_are_started() -> None:
    (server,) = planned("quickstart", None, "servers.sync=file").servers
    assert (server.port, server.dtype, server.max_model_tokens) == (8000, "float32", 512)


@pytest.mark.parametrize(
    ("name", "gpus", "settings", "said"),
    [
        ("qwen3-8b-1node", 4, (), r"needs 8 GPUs on one host \(4 for training, 4 servers of 1\), and 4 are here"),
        ("deepswe-32b-aem", 8, (), "learn/cluster for several hosts"),
        ("qwen3-8b-1node", None, ("device=cpu",), "accelerate shards nothing on a CPU: set it to none"),
    ],
)
def test_what_this_host_cannot_run_is_refused(name: str, gpus: int, settings: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        planned(name, gpus, *settings)


def test_requests_wait_for_a_server_as_long_as_it_may_start() -> None:
    config = read_config(Path("configs/lora-1gpu.yaml"))
    assert "servers.patience_s=1800" in launch_plan(config, ARGUMENTS, ["0"]).arguments
    patient = read_config(Path("configs/lora-1gpu.yaml"), ["servers.patience_s=2000"])
    assert not any("patience" in word for word in launch_plan(patient, ARGUMENTS, ["0"]).arguments)


def test_a_longer_context_than_the_models_is_not_asked_of_a_server() -> None:
    asked = ["servers.sync=file", "rollout.native.max_context_tokens=40960"]
    assert planned("quickstart", None, *asked).servers[0].max_model_tokens is None
