"""A Slurm of a test's own on this host: one controller, and one daemon per node, under names that lead here."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.conftest import absent, free_port

_START_S = 60.0
GPUS = 2
"""GPUs that each node claims to have."""


def _configuration(place: Path, nodes: tuple[str, ...]) -> str:
    """slurm.conf without munge, accounting or control groups."""
    lines = [
        "ClusterName=test", "SlurmctldHost=localhost", f"SlurmctldPort={free_port()}", "AuthType=auth/none",
        "CredType=cred/none", "SlurmUser=root", "SlurmdUser=root", f"StateSaveLocation={place}/state",
        f"SlurmdSpoolDir={place}/spool-%n", f"SlurmctldPidFile={place}/controller.pid",
        f"SlurmdPidFile={place}/node-%n.pid", "ProctrackType=proctrack/linuxproc", "TaskPlugin=task/none",
        "SwitchType=switch/none", "MpiDefault=none", "SelectType=select/cons_tres", "SelectTypeParameters=CR_CPU",
        "GresTypes=gpu", "SchedulerParameters=sched_interval=1,bf_interval=1",
    ]  # fmt: skip
    for node in nodes:
        where = f"NodeAddr=127.0.0.1 NodeHostname={socket.gethostname().partition('.')[0]} Port={free_port()}"
        lines.append(f"NodeName={node} {where} CPUs={os.cpu_count()} RealMemory=1000 Gres=gpu:{GPUS}")
    return "\n".join([*lines, f"PartitionName=all Nodes={','.join(nodes)} Default=YES State=UP", ""])


@contextmanager
def own_slurm(place: Path) -> Iterator[dict[str, str]]:
    """A cluster of two nodes, for jobs with the environment that it gives."""
    if os.geteuid() != 0 or shutil.which("slurmctld") is None or shutil.which("slurmd") is None:
        absent("starting Slurm takes root and apt-get install slurm-wlm")
    nodes = (socket.gethostname().partition(".")[0], "localhost")  # Slurm wants the host's own name first
    for name in ("state", *(f"spool-{node}" for node in nodes)):
        (place / name).mkdir(parents=True)
    (place / "slurm.conf").write_text(_configuration(place, nodes))
    (place / "gres.conf").write_text(
        "".join(f"NodeName={node} Name=gpu File=/dev/tty[0-{GPUS - 1}]\n" for node in nodes)
    )
    environment = {**os.environ, "SLURM_CONF": str(place / "slurm.conf")}
    with ExitStack() as stack:
        for name, command in (("controller", ["slurmctld"]), *((node, ["slurmd", "-N", node]) for node in nodes)):
            log = stack.enter_context((place / f"{name}.log").open("wb"))
            daemon = subprocess.Popen([*command, "-D"], env=environment, stdout=log, stderr=log)
            stack.callback(daemon.wait)
            stack.callback(daemon.terminate)
        end_s = time.monotonic() + _START_S
        while _idle(environment) < len(nodes):
            assert time.monotonic() < end_s, (place / "controller.log").read_text()[-3000:]
            time.sleep(0.2)
        yield environment


def _idle(environment: dict[str, str]) -> int:
    """Nodes that wait for work."""
    command = ["sinfo", "--noheader", "--Node", "--format=%T"]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return found.stdout.split().count("idle")
