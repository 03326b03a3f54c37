"""The job file of rollouts on a real Slurm of two hosts, which are namespaces of this machine: steps are cancelled, and
the job is queued again."""

import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from swe_aem.store import Store
from tests.conftest import absent
from tests.e2e.hosts import two_networks
from tests.e2e.slurm import Slurm, own_slurm
from tests.e2e.test_cluster import programs

pytestmark = [pytest.mark.nightly, pytest.mark.slow, pytest.mark.bubblewrap, pytest.mark.timeout(7200)]

JOB = Path("configs/cluster/rollout.slurm").resolve()
LIMIT_S = 1800.0
WANTED = 48
EVENT = 6
"""After so many further trajectories something is done to the job."""


def stored(out: Path) -> int:
    return sum(part.read_bytes().count(b"\n") for part in out.glob("trajectories/*.jsonl"))


def wait_for(found: Callable[[], bool], log: Path) -> None:
    """Return once it is so; the job must not give up before."""
    end_s = time.monotonic() + LIMIT_S
    while not found():
        assert time.monotonic() < end_s, log.read_text()[-6000:]
        assert not log.exists() or "given up" not in log.read_text(), log.read_text()[-6000:]
        time.sleep(0.2)


def step(slurm: Slurm, host: str) -> str:
    """The id of the step that runs on a host."""
    lines = slurm.ask("squeue", "--steps", "--noheader", "--format=%i %j").splitlines()
    return next((id for id, name in (line.split() for line in lines) if name == host), "")


def test_a_cancelled_step_and_a_requeue_lose_and_repeat_nothing(tmp_path: Path, require_bubblewrap: None) -> None:
    try:
        import ray  # noqa: F401
    except ModuleNotFoundError:
        absent("ray is not installed")
    out, log = tmp_path / "out", tmp_path / "job.log"
    with two_networks() as networks, own_slurm(networks) as slurm:
        first, second = networks.values()
        path = f"{programs(tmp_path)}:{slurm.environment['PATH']}"
        slurm.environment |= {"PATH": path, "LOCAL": str(slurm.disk), "REJOIN_S": "5", "HOME": str(tmp_path)}
        slurm.environment["MOST_STARTS"] = "30"  # Ray does not start each time on a busy machine
        arguments = ["--tasks", "tasks/nano", "--limit", "4", "--group-size", str(WANTED // 4), "--no-twins"]
        command = ["sbatch", "--parsable", f"--output={log}", str(JOB), *arguments, "--concurrency", "1"]
        command += ["--out", str(out)]
        done = subprocess.run(
            slurm.command(*command),
            env=slurm.environment,
            cwd=JOB.parents[2],
            text=True,
            capture_output=True,
            check=True,
        )
        job = done.stdout.strip()

        def more(than: int) -> Callable[[], bool]:
            return lambda: stored(out) >= than + EVENT

        wait_for(more(0), log)
        slurm.ask("scancel", step(slurm, second))
        wait_for(lambda: f"the step of {second} has ended; it joins again" in log.read_text(), log)
        wait_for(more(stored(out)), log)
        slurm.ask("scancel", step(slurm, first))
        wait_for(lambda: "the first host's step ended before the rollout did" in log.read_text(), log)
        wait_for(more(stored(out)), log)
        slurm.ask("scancel", "--batch", "--signal=USR1", job)  # as Slurm sends it before the job's time is over
        wait_for(lambda: "queued again; what is stored is kept" in log.read_text(), log)
        assert stored(out) < WANTED
        wait_for(lambda: not slurm.ask("squeue", "--noheader", "--format=%i"), log)
        assert f"{WANTED} of {WANTED} trajectories" in log.read_text(), log.read_text()[-6000:]
    ids = Counter(trajectory.id for trajectory in Store(out).trajectories())
    assert len(ids) == WANTED
    assert set(ids.values()) == {1}
    token = tmp_path / ".ray" / "auth_token"
    assert token.stat().st_mode & 0o777 == 0o600
