"""`swe-aem train --launch` with real vLLM servers for CPUs: trained to the end, with a server that is lost on the way,
interrupted and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.hosts import commands, descendants

pytestmark = [
    pytest.mark.slow, pytest.mark.bubblewrap, pytest.mark.torch, pytest.mark.vllm, pytest.mark.timeout(1800),
]  # fmt: skip

LIMIT_S = 900.0
SETTINGS = (
    "device=cpu", "servers.sync=file", "launch.vllm_arguments=[--max-num-seqs,'32']", "steps=3", "save_every=1",
    "oversampled_groups=3", "groups_per_step=2", "num_minibatches=1", "micro_batch_size=2", "rollout.group_size=2",
    "heldout=null",
)  # fmt: skip


def command(out: Path, vllm: str, processes: int) -> list[str]:
    hardware = f"{{gpu: CPU, gpu_memory_gb: 8, gpus_per_host: 3, trainer_gpus: {processes}, servers: 1}}"
    chosen = (*SETTINGS, f"launch.vllm={vllm}", f"hardware={hardware}")
    line = [sys.executable, "-m", "swe_aem", "train", "configs/quickstart.yaml", "--launch", "--out", str(out)]
    return [*line, *(f"--set={setting}" for setting in chosen)]


def steps(out: Path) -> list[int]:
    file = out / "metrics.jsonl"
    return [json.loads(line)["step"] for line in file.read_text().splitlines()] if file.exists() else []


def wait_for(found: Callable[[], bool], run: "subprocess.Popen[bytes]", log: Path) -> None:
    end_s = time.monotonic() + LIMIT_S
    while not found():
        assert run.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < end_s, log.read_text()[-3000:]
        time.sleep(0.05)


def engines(pid: int) -> list[int]:
    """The processes of vLLM below a launcher."""
    found = []
    for one in descendants(pid):
        line = Path(f"/proc/{one}/cmdline").read_bytes()
        if b"vllm\0serve\0" in line and b"guard.py" not in line:
            found.append(one)
    return found


FORWARDER = """#!{python}
import socket, sys, threading

def copy(source, sink):
    while data := source.recv(1 << 16):
        sink.sendall(data)
    sink.shutdown(socket.SHUT_WR)

port = int(sys.argv[sys.argv.index("--port") + 1])
with socket.create_server(("127.0.0.1", port)) as listener:
    while True:
        near = listener.accept()[0]
        far = socket.create_connection(("127.0.0.1", {port}))
        for pair in ((near, far), (far, near)):
            threading.Thread(target=copy, args=pair, daemon=True).start()
"""
"""A vllm command whose server is another one, which has started."""


def test_a_launch_trains_with_a_real_server(tmp_path: Path, vllm_url: str, require_bubblewrap: None) -> None:
    """The server is the one that tests share, for its start takes longer than all else."""
    out, program = tmp_path / "out", tmp_path / "vllm"
    program.write_text(FORWARDER.format(python=sys.executable, port=vllm_url.rpartition(":")[2]))
    program.chmod(0o755)
    # The weights of the shared server are not those that it has loaded, so it must not be labelled as if they were.
    arguments = "launch.vllm_arguments=[--load-format,auto]"
    line = [*command(out, str(program), 1), f"--set={arguments}", "--set=steps=1", "--set=oversampled_groups=2"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert steps(out) == [1]
    assert (out / "policy" / "config.json").is_file()


@pytest.mark.nightly
@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_loses_its_server_is_interrupted_resumes_and_ends(
    tmp_path: Path, vllm_program: str, processes: int, require_bubblewrap: None
) -> None:
    out, log = tmp_path / "out", tmp_path / "log"

    def start() -> "subprocess.Popen[bytes]":
        with log.open("ab") as file:
            return subprocess.Popen(command(out, vllm_program, processes), stdout=file, stderr=file)

    run = start()
    try:
        wait_for(lambda: 1 in steps(out), run, log)
        for pid in engines(run.pid):
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: "is started again: vLLM ended" in log.read_text(), run, log)
        wait_for(lambda: 2 in steps(out), run, log)
        below = descendants(run.pid)
        run.send_signal(signal.SIGINT)
        assert run.wait(LIMIT_S) in (0, 130), log.read_text()[-3000:]
        assert commands(below) == {}
        assert start().wait(LIMIT_S) == 0, log.read_text()[-3000:]
    finally:
        run.kill()
    assert steps(out) == [1, 2, 3]
    assert (out / "policy" / "config.json").is_file()
    assert (out / "report.html").is_file()
    again = subprocess.run(command(out, vllm_program, processes), capture_output=True, text=True, check=True)
    assert "is finished; nothing to do" in again.stderr
