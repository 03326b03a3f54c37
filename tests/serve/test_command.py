"""The command line that follows from a configuration, and what `swe-aem serve` says without vLLM."""

import pytest
from typer.testing import CliRunner

from swe_aem.cli import app
from swe_aem.errors import UserError
from swe_aem.serve import ServeCommandConfig, Served, vllm_command, vllm_environment
from swe_aem.serve.command import PLUGIN


@pytest.mark.parametrize("sync", ["file", "gloo", "nccl", "lora", "none"])
def test_each_sync_has_what_it_needs(sync):
    config = ServeCommandConfig(model="m", sync=sync)
    line, variables = " ".join(vllm_command(config)), vllm_environment(config, {"PYTHONPATH": "/mine"})
    assert ("--weight-transfer-config" in line) == (sync in ("file", "gloo", "nccl"))
    assert ("--worker-extension-cls" in line) == (sync in ("file", "gloo"))
    assert ("--enable-lora" in line) == (sync == "lora")
    assert (variables.get("VLLM_SERVER_DEV_MODE") == "1") == (sync in ("file", "gloo", "nccl"))
    assert variables["PYTHONPATH"] == (f"{PLUGIN}:/mine" if sync in ("file", "gloo") else "/mine")
    assert "--logprobs-mode processed_logprobs" in line


def test_servers_that_are_sent_no_seeds_draw_differently():
    lines = [vllm_command(ServeCommandConfig(model="m", port=port)) for port in (8000, 8001, 8000)]
    first, other, again = (int(line[line.index("--seed") + 1]) for line in lines)
    assert first == again != other


def test_a_missing_vllm_names_the_fix(tmp_path):
    with pytest.raises(UserError, match=r"run serving/vllm-gpu/install\.sh"):
        Served(ServeCommandConfig(model="m", program="no-such-vllm"), tmp_path)


def test_a_server_that_ends_is_told_with_its_cause(tmp_path):
    program = tmp_path / "vllm"
    program.write_text("#!/bin/sh\necho 'ValueError: no such model'\nexit 3\n")
    program.chmod(0o755)
    config = ServeCommandConfig(model="m", program=str(program), port=1)
    with Served(config, tmp_path) as server, pytest.raises(UserError, match="ValueError: no such model"):
        server.wait_ready(lambda line: None, 30)


def shown(*words: str) -> str:
    done = CliRunner().invoke(app, ["serve", "--dry-run", *words])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_configuration_of_a_run_says_how_to_serve_it():
    line = shown("configs/lora-1gpu.yaml", "--port", "8003", "--host", "0.0.0.0", "--", "--max-num-seqs", "3")
    assert "vllm serve models/Qwen3-8B --served-model-name policy --host 0.0.0.0 --port 8003 --dtype bfloat16 " in line
    assert "--max-model-len 16384 --enable-lora" in line
    assert line.endswith("--gpu-memory-utilization 0.4 --max-num-seqs 3\n")


def test_an_option_beside_a_configuration_wins():
    line = shown("configs/lora-1gpu.yaml", "--dtype", "float32", "--sync", "none", "--max-model-tokens", "99")
    assert "--dtype float32 " in line
    assert "--enable-lora" not in line
    assert "--max-model-len 99" in line


def test_a_run_without_servers_says_so():
    done = CliRunner().invoke(app, ["serve", "configs/quickstart.yaml", "--dry-run"])
    assert "has no servers: its policy samples in the trainer" in str(done.exception)


def test_the_log_of_the_start_before_is_kept(tmp_path):
    program = tmp_path / "vllm"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    (tmp_path / "vllm-1.log").write_text("of the start before\n")
    with Served(ServeCommandConfig(model="m", program=str(program), port=1), tmp_path):
        assert (tmp_path / "vllm-1.log.1").read_text() == "of the start before\n"
