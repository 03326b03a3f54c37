"""The command line that follows from a configuration, and what `swe-aem serve` says without vLLM."""

import pytest

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
    with pytest.raises(UserError, match="install vllm"):
        Served(ServeCommandConfig(model="m", program="no-such-vllm"), tmp_path)


def test_a_server_that_ends_is_told_with_its_cause(tmp_path):
    program = tmp_path / "vllm"
    program.write_text("#!/bin/sh\necho 'ValueError: no such model'\nexit 3\n")
    program.chmod(0o755)
    config = ServeCommandConfig(model="m", program=str(program), port=1)
    with Served(config, tmp_path) as server, pytest.raises(UserError, match="ValueError: no such model"):
        server.wait_ready(lambda line: None, 30)
