"""The job file of a cluster with real vLLM servers for CPUs and training over gloo: on a real Slurm, and on two hosts
that are network namespaces."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from tests.e2e.hosts import two_networks  # noqa: E402
from tests.e2e.slurm import GPUS, own_slurm  # noqa: E402

pytestmark = [
    pytest.mark.nightly, pytest.mark.slow, pytest.mark.bubblewrap, pytest.mark.torch, pytest.mark.vllm,
    pytest.mark.timeout(3000),
]  # fmt: skip

JOB = Path("configs/cluster/train.slurm").resolve()
POLICY = str(Path("configs/quickstart/policy").resolve())
LIMIT_S = 1500.0
SMALL: dict[str, Any] = {
    "device": "cpu", "steps": 3, "save_every": 1, "oversampled_groups": 3, "groups_per_step": 2, "num_minibatches": 1,
    "micro_batch_size": 2, "heldout": None,
}  # fmt: skip


UNEQUAL = """
def unequal(trajectory, verdict):
    return len(trajectory.token_ids) % 97 / 97
"""
"""Rewards that differ within each group, so that every step changes the policy."""


def configuration(place: Path, vllm: str, gpus: int, *, reward: str = "", **changes: Any) -> Path:
    """The quickstart on hosts that are said to have so many GPUs: as many processes each, or one server. `reward` is
    the text of a module with the reward function `unequal`."""
    values = yaml.safe_load(Path("configs/quickstart.yaml").read_text())
    values |= SMALL | {"model": POLICY} | changes
    values["rollout"]["group_size"] = 2
    if reward:
        (place / "rewards.py").write_text(reward)
        values["rollout"]["reward"] = f"{place / 'rewards.py'}:unequal"
    values["rollout"]["native"]["prompts"] = str(Path("configs/quickstart/prompts").resolve())
    values["servers"] = {"sync": "file", "patience_s": 1200}
    values["launch"] = {"vllm": vllm, "vllm_arguments": ["--max-num-seqs", "32"]}
    hardware = {"gpu": "CPU", "gpu_memory_gb": 8, "gpus_per_host": gpus, "trainer_gpus": gpus}
    values["hardware"] = {**hardware, "servers": 1, "gpus_per_server": gpus}
    file = place / "run.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def programs(place: Path) -> Path:
    """A directory with the programs of this environment that job files start."""
    bin = place / "bin"
    bin.mkdir()
    (bin / "ray").write_text(f'#!/bin/bash\nexec {sys.executable} -m ray.scripts.scripts "$@"\n')
    (bin / "swe-aem").write_text(f'#!/bin/bash\nexec {sys.executable} -m swe_aem "$@"\n')
    (bin / "accelerate").write_text(f'#!/bin/bash\nexec {sys.executable} -m accelerate.commands.accelerate_cli "$@"\n')
    for program in bin.iterdir():
        program.chmod(0o755)
    return bin


def steps(out: Path) -> list[int]:
    """The steps that a run has behind it."""
    file = out / "metrics.jsonl"
    return [json.loads(line)["step"] for line in file.read_text().splitlines()] if file.exists() else []


def engines(out: Path) -> list[int]:
    """API servers of vLLM that the job of this directory has started."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line, variables = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"vllm\0serve\0" in line and b"guard.py" not in line and f"OUT={out}".encode() in variables:
            found.append(int(entry.name))
    return found


def wait_for(found: Callable[[], bool], run: "subprocess.Popen[bytes]", said: Callable[[], str]) -> None:
    """Return once it is so; the run must not end before."""
    end_s = time.monotonic() + LIMIT_S
    while not found():
        assert run.poll() is None, said()
        assert time.monotonic() < end_s, said()
        time.sleep(0.1)


def test_slurm_runs_the_job_on_this_host_and_a_lost_server_is_started_again(
    tmp_path: Path, vllm_program: str, require_bubblewrap: None
) -> None:
    out, log = tmp_path / "out", tmp_path / "job.log"
    config = configuration(tmp_path, vllm_program, GPUS)
    with own_slurm() as slurm:
        environment = slurm.environment
        environment |= {"PATH": f"{programs(tmp_path)}:{environment['PATH']}", "POLL_S": "1"}
        environment |= {"CONFIG": str(config), "OUT": str(out)}
        sizes = ["--nodes=1", f"--gpus-per-node={GPUS}"]
        command = ["sbatch", "--wait", f"--output={log}", *sizes, ":", *sizes, str(JOB)]
        job = subprocess.Popen(command, env=environment, cwd=JOB.parents[2])
        try:
            wait_for(lambda: 1 in steps(out), job, log.read_text)
            (server,) = engines(out)
            os.kill(server, signal.SIGKILL)
            assert job.wait(LIMIT_S) == 0, log.read_text()[-3000:]
        finally:
            subprocess.run(["scancel", "--user=root"], env=environment, check=False)
            job.wait()
    assert steps(out) == [1, 2, 3]
    assert "ended with status" in log.read_text()
    assert engines(out) == []


SRUN = """#!/bin/bash
# In the place of srun: servers run in the namespace of their host, training in each. Training that has ended well waits
# until the test has looked at the servers.
trap 'kill $(jobs -p) 2>/dev/null; wait; exit 143' TERM
export GLOO_SOCKET_IFNAME=eth0
while [[ $1 == --* ]]; do [[ $1 == --nodelist=* ]] && host=${1#*=}; shift; done
if [[ -n $host ]]; then
    nsenter "--net=/run/netns/$(grep -F "$host " hosts | cut -d ' ' -f 2)" "$@" &
    wait $!
    exit
fi
number=0
while read -r address name; do
    SLURM_PROCID=$number nsenter "--net=/run/netns/$name" "$@" &
    number=$((number + 1))
done < hosts
status=0
while ((number--)); do
    wait -n || { ended=$?; ((status)) || status=$ended; kill $(jobs -p) 2>/dev/null; }
done
((status == 0)) && touch trained && until [[ -e looked ]]; do sleep 0.1; done
exit $status
"""


def in_place_of_slurm(place: Path, networks: dict[str, str]) -> dict[str, str]:
    """Environment of the job file: both hosts train, and both serve."""
    bin = programs(place)
    (place / "hosts").write_text("".join(f"{address} {name}\n" for address, name in networks.items()))
    inside = f"nsenter --net=/run/netns/{next(iter(networks.values()))}"
    stubs = {
        "srun": SRUN,
        "scontrol": f"#!/bin/bash\nprintf '%s\\n' {' '.join(networks)}\n",
        "curl": f'#!/bin/bash\nexec {inside} /usr/bin/curl "$@"\n',
    }
    for name, text in stubs.items():
        (bin / name).write_text(text)
        (bin / name).chmod(0o755)
    return {
        **os.environ, "PATH": f"{bin}:{os.environ['PATH']}", "PYTHONPATH": str(JOB.parents[2]), "POLL_S": "1",
        "SLURM_JOB_NODELIST_HET_GROUP_0": "both", "SLURM_JOB_NODELIST_HET_GROUP_1": "both",
    }  # fmt: skip


def rollout_process(out: Path) -> int:
    """The process that rolls out, which holds a lock in the run's directory."""
    return int((out / ".rollouts.lock").read_text())


def sampled(network: str, address: str) -> tuple[list[int], list[int], list[float]]:
    """A prompt, the tokens that the server of a host makes of it, and their log-probabilities."""
    prompt = [20 + number for number in range(20)]
    body = {"model": "policy", "prompt": prompt, "max_tokens": 24, "logprobs": 1, "seed": 7, "return_token_ids": True}
    line = ["nsenter", f"--net=/run/netns/{network}", "curl", "-sf", f"http://{address}:8000/v1/completions"]
    line += ["-H", "content-type: application/json", "-d", json.dumps(body)]
    (choice,) = json.loads(subprocess.run(line, capture_output=True, check=True).stdout)["choices"]
    return prompt, choice["token_ids"], choice["logprobs"]["token_logprobs"]


def in_float32(directory: Path) -> Path:
    """The policy that training starts from, in the type of its training: what it writes of that type loses nothing."""
    from swe_aem.train.models import load_model

    shutil.copytree(POLICY, directory)
    load_model(directory).float().save_pretrained(directory)
    return directory


def of_policy(directory: Path, prompt: list[int], response: list[int]) -> list[float]:
    """Log-probabilities of a response under a policy, by transformers."""
    from swe_aem.train.models import load_model

    with torch.inference_mode():
        logits = load_model(directory)(torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1]
    return logits.double().log_softmax(-1).gather(1, torch.tensor(response)[:, None]).squeeze(1).tolist()


def test_two_hosts_lose_a_server_and_the_process_that_rolls_out_and_end_with_the_right_weights(
    tmp_path: Path, vllm_program: str, require_bubblewrap: None
) -> None:
    out, log = tmp_path / "out", tmp_path / "job.log"
    heldout = {"split": "heldout", "limit": 2, "before": False, "greedy": False}
    fast = {"learning_rate": 1e-3, "lr_scheduler_type": "constant"}  # so that the policy is another one in the end
    exact = {"model": str(in_float32(tmp_path / "model")), "grpo": fast}
    config = configuration(tmp_path, vllm_program, 1, heldout=heldout, steps=4, reward=UNEQUAL, **exact)

    def said() -> str:
        return log.read_text()[-5000:]

    with two_networks() as networks:
        environment = in_place_of_slurm(tmp_path, networks) | {"CONFIG": str(config), "OUT": str(out)}
        with log.open("ab") as file:
            job = subprocess.Popen(["bash", str(JOB)], env=environment, cwd=tmp_path, stdout=file, stderr=file)
        try:
            wait_for(lambda: 1 in steps(out), job, said)
            servers = engines(out)
            assert len(servers) == 2
            os.kill(servers[-1], signal.SIGKILL)
            wait_for(lambda: 2 in steps(out), job, said)
            os.kill(rollout_process(out), signal.SIGKILL)  # the next one waits for the server
            wait_for((tmp_path / "trained").exists, job, said)
            found = {address: sampled(network, address) for address, network in networks.items()}
            (tmp_path / "looked").touch()
            assert job.wait(LIMIT_S) == 0, said()
        finally:
            job.terminate()
            job.wait()
    assert steps(out) == [1, 2, 3, 4]
    assert "ended with status" in log.read_text()
    assert "another one resumes them from the store" in log.read_text()
    for prompt, response, logprobs in found.values():
        assert of_policy(out / "policy", prompt, response) == pytest.approx(logprobs, abs=1e-4)
        assert of_policy(Path(POLICY), prompt, response) != pytest.approx(logprobs, abs=1e-4)
    assert engines(out) == []
