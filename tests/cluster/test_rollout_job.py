"""`configs/cluster/rollout.slurm` with commands in the place of Slurm's and Ray's: a first host, which drives, and
another."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

CONFIGS = Path(__file__).parents[2] / "configs"
JOB = CONFIGS / "cluster/rollout.slurm"
LIMIT_S = 120.0
STUBS = {
    "scontrol": """
[[ $1 == show ]] && { printf 'host%s\\n' 1 2; exit; }
echo "$@" >> asked""",
    "srun": """while [[ $1 == --* ]]; do [[ $1 == --nodelist=* ]] && export HOST=${1#*=}; shift; done; exec "$@" """,
    # A head runs what follows --, and ends with its status; another host stays until it is ended.
    "ray": """
[[ $1 == stop ]] && exit
echo "$HOST $*" >> joined
[[ $HOST == host1 ]] || exec sleep 600
[[ $(grep -c '^host1 ' joined) -le $LOST ]] && exit 0
while [[ $1 != -- ]]; do shift; done
shift
exec "$@" """,
    "swe-aem": """
trap 'exit 130' TERM
echo "$@" >> rolled
while [[ -n $WAIT ]]; do sleep 0.05; done
exit $STATUS""",
}
ARGUMENTS = ["--policy", "http://gpu1:8000", "--tasks", "tasks/nano", "--out", "a store"]


@pytest.fixture
def submit(tmp_path: Path) -> "Callable[..., subprocess.Popen[str]]":
    """Starts the job, in a directory with its stubs."""
    bin = tmp_path / "bin"
    bin.mkdir()
    (tmp_path / "configs").symlink_to(CONFIGS)
    for name, text in STUBS.items():
        (bin / name).write_text(f"#!/bin/bash\n{text}\n")
        (bin / name).chmod(0o755)

    def start(**settings: str) -> "subprocess.Popen[str]":
        environment = {
            **os.environ, "PATH": f"{bin}:{os.environ['PATH']}", "HOME": str(tmp_path), "LOCAL": str(tmp_path),
            "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "host[1-2]", "POLL_S": "0.05", "REJOIN_S": "0", "LOST": "0",
            "STATUS": "0", "WAIT": "", **settings,
        }  # fmt: skip
        return subprocess.Popen(
            ["bash", str(JOB), *ARGUMENTS], cwd=tmp_path, env=environment, text=True, stderr=subprocess.PIPE
        )

    return start


def test_the_options_reach_the_rollout_and_its_status_is_the_jobs(
    tmp_path: Path, submit: "Callable[..., subprocess.Popen[str]]"
) -> None:
    job = submit(STATUS="3")
    assert job.communicate(timeout=LIMIT_S)[1] == ""
    assert job.returncode == 3
    given = (
        "rollout --cluster host1:6379 --set scheduling.drain_limit_s=600 --policy http://gpu1:8000 --tasks tasks/nano"
    )
    assert (tmp_path / "rolled").read_text() == f"{given} --out a store\n"
    first, second = sorted((tmp_path / "joined").read_text().splitlines())
    assert first.startswith("host1 symmetric-run --address host1:6379 ")
    assert second.startswith("host2 symmetric-run --address host1:6379 ")
    assert not (tmp_path / "asked").exists()
    token = tmp_path / ".ray" / "auth_token"
    assert token.stat().st_mode & 0o777 == 0o600
    assert len(token.read_text()) == 64


def test_before_its_time_is_over_the_job_stops_the_rollout_and_is_queued_again(
    tmp_path: Path, submit: "Callable[..., subprocess.Popen[str]]"
) -> None:
    job = submit(WAIT="1")
    end_s = time.monotonic() + LIMIT_S
    while not (tmp_path / "rolled").exists():
        assert time.monotonic() < end_s
        time.sleep(0.02)
    job.send_signal(signal.SIGUSR1)
    said = job.communicate(timeout=LIMIT_S)[1]
    assert job.returncode == 0, said
    assert "queued again; what is stored is kept" in said
    assert (tmp_path / "asked").read_text() == "requeue 7\n"


def test_a_first_host_whose_step_ends_early_starts_again_on_another_port(
    tmp_path: Path, submit: "Callable[..., subprocess.Popen[str]]"
) -> None:
    job = submit(LOST="1")
    said = job.communicate(timeout=LIMIT_S)[1]
    assert job.returncode == 0, said
    assert "the first host's step ended before the rollout did; it is started again" in said
    assert (tmp_path / "rolled").read_text().startswith("rollout --cluster host1:6380 ")


def test_a_first_host_that_never_starts_ends_the_job(submit: "Callable[..., subprocess.Popen[str]]") -> None:
    job = submit(LOST="9", MOST_STARTS="2")
    said = job.communicate(timeout=LIMIT_S)[1]
    assert job.returncode == 1
    assert "given up after 2 starts; submit the job again to resume" in said
