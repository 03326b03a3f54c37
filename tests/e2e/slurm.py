"""A Slurm of a test's own on this machine, with munge: one controller, and one daemon per host, under names that lead
here or in namespaces that stand for hosts."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.conftest import absent, free_port

_START_S = 120.0
GPUS = 2
"""GPUs that each host claims to have."""
_REQUEUE_S = 20
"""Seconds after which a job that was queued again may start: so long lives what proves to a daemon that it may run."""

_HOST = """
hostname "$1" && mount --bind "$2/hosts" /etc/hosts && mount -t tmpfs disk "$2/disk" && mount -t tmpfs run "$3" || exit
slurmd -D -N "$1" &
wait
"""
"""A host in namespaces of its own, where bash is the first process and reaps what the daemon leaves."""


class Slurm:
    """The cluster, for those who submit jobs."""

    def __init__(self, place: Path, networks: Mapping[str, str]) -> None:
        self.disk = place / "disk"
        """A directory that each host in namespaces has for itself."""
        self.environment = {**os.environ, "SLURM_CONF": str(place / "slurm.conf")}
        self._inside = ["nsenter", f"--net=/run/netns/{next(iter(networks.values()))}"] if networks else []

    def command(self, *words: str) -> list[str]:
        """A command on the host that has the controller."""
        return [*self._inside, *words]

    def ask(self, *words: str, check: bool = True) -> str:
        """What a command of Slurm prints."""
        done = subprocess.run(
            self.command(*words), env=self.environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout


def _configuration(place: Path, hosts: Mapping[str, str]) -> str:
    """slurm.conf without accounting or control groups. `hosts` are names to addresses."""
    address = next(iter(hosts.values()))
    lines = [
        "ClusterName=test", f"SlurmctldHost={socket.gethostname()}({address})", f"SlurmctldPort={free_port()}",
        "AuthType=auth/munge", f"AuthInfo=socket={place}/munge/socket,cred_expire={_REQUEUE_S}", "CredType=cred/munge",
        "SlurmUser=root", "SlurmdUser=root", f"StateSaveLocation={place}/state",
        f"SlurmdSpoolDir={place}/spool-%n", f"SlurmctldPidFile={place}/controller.pid",
        f"SlurmdPidFile={place}/node-%n.pid", "ProctrackType=proctrack/linuxproc", "TaskPlugin=task/none",
        "SwitchType=switch/none", "MpiDefault=none", "SelectType=select/cons_tres", "SelectTypeParameters=CR_CPU",
        "GresTypes=gpu", "SchedulerParameters=sched_interval=1,bf_interval=1", "JobRequeue=1", "KillWait=5",
    ]  # fmt: skip
    for host, address in hosts.items():
        name = socket.gethostname().partition(".")[0] if address == "127.0.0.1" else host
        where = f"NodeAddr={address} NodeHostname={name} Port={free_port()}"
        lines.append(f"NodeName={host} {where} CPUs={os.cpu_count()} RealMemory=1000 Gres=gpu:{GPUS}")
    return "\n".join([*lines, f"PartitionName=all Nodes={','.join(hosts)} Default=YES State=UP", ""])


@contextmanager
def own_slurm(networks: Mapping[str, str] | None = None) -> Iterator[Slurm]:
    """A cluster of two hosts. With `networks`, addresses to names of network namespaces, each of them is a host, with
    processes, a name and a disk of its own; else both are this host."""
    needed = ("slurmctld", "slurmd", "munged")
    if os.geteuid() != 0 or any(shutil.which(program) is None for program in needed):
        absent("starting Slurm takes root and apt-get install slurm-wlm munge")
    here = (socket.gethostname().partition(".")[0], "localhost")  # Slurm wants the host's own name first
    hosts = {name: address for address, name in (networks or {}).items()} or dict.fromkeys(here, "127.0.0.1")
    place = Path(tempfile.mkdtemp(prefix="slurm-"))  # a socket's path has at most 108 bytes
    for name in ("munge", "state", "disk", *(f"spool-{host}" for host in hosts)):
        (place / name).mkdir()
    (place / "slurm.conf").write_text(_configuration(place, hosts))
    (place / "gres.conf").write_text(
        "".join(f"NodeName={host} Name=gpu File=/dev/tty[0-{GPUS - 1}]\n" for host in hosts)
    )
    (place / "hosts").write_text("".join(f"{address} {name}\n" for name, address in hosts.items()))
    slurm = Slurm(place, networks or {})
    daemons = {"munge": _munge(place / "munge"), "controller": slurm.command("slurmctld", "-D")}
    daemons |= {host: _daemon(place, host) if networks else ["slurmd", "-D", "-N", host] for host in hosts}
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, place)
        for name, command in daemons.items():
            log = stack.enter_context((place / f"{name}.log").open("wb"))
            daemon = subprocess.Popen(command, env=slurm.environment, stdout=log, stderr=log)
            stack.callback(daemon.wait)
            stack.callback(daemon.kill if networks and name in hosts else daemon.terminate)
        end_s = time.monotonic() + _START_S
        while slurm.ask("sinfo", "--noheader", "--Node", "--format=%T", check=False).split().count("idle") < len(hosts):
            assert time.monotonic() < end_s, "\n".join((place / f"{name}.log").read_text()[-2000:] for name in daemons)
            time.sleep(0.2)
        yield slurm


def _munge(directory: Path) -> list[str]:
    """The command of a munge with a key of its own."""
    key = directory / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    for readable in (directory, directory.parent):
        readable.chmod(0o755)
    files = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed", "key-file": "key"}
    options = [f"--{option}={directory / name}" for option, name in files.items()]
    return ["munged", "--foreground", "--force", *options]


def _daemon(place: Path, host: str) -> list[str]:
    """The command of a daemon in namespaces, in which sandboxes of others are not seen."""
    private = Path("/run/swe-aem")
    private.mkdir(mode=0o700, exist_ok=True)
    apart = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--uts"]
    return ["nsenter", f"--net=/run/netns/{host}", *apart, "bash", "-c", _HOST, "host", host, str(place), str(private)]
