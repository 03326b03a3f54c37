"""`configs/cluster/train.slurm` with commands in Slurm's place: four hosts, two of which serve."""

import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "configs/cluster/train.slurm"
STUBS = {
    "scontrol": "printf 'host%s\\n' 0 1 2 3",
    # Options, then a command; the host is what a server's name is made of.
    "srun": """while [[ $1 == --* ]]; do [[ $1 == --nodelist=* ]] && export HOST=${1#*=}; shift; done; exec "$@" """,
    "swe-aem": """
while (($#)); do [[ $1 == --port ]] && port=$2; shift; done
[[ " $DIE " == *" $HOST:$port "* ]] && exit 3
[[ " $MUTE " == *" $HOST:$port "* ]] || touch "up/$HOST:$port"
if [[ " $DIE_LATER " == *" $HOST:$port "* ]]; then until [[ -e training ]]; do sleep 0.05; done; exit 4; fi
echo $$ >> serving
exec sleep 600""",
    "curl": """for last; do :; done; last=${last#http://}; [[ -e up/${last%/health} ]]""",
    # Trains until the job has said what the test waits for.
    "accelerate": """echo "$@" > training; until [[ -z $HOLD ]] || grep -q "$HOLD" errors; do sleep 0.05; done
exit $STATUS""",
}


def submit(place: Path, **settings: str) -> tuple[int, str]:
    """Run the job in `place` to its end: its status, and what it said."""
    bin = place / "bin"
    for directory in (bin, place / "up"):
        directory.mkdir()
    for name, text in STUBS.items():
        (bin / name).write_text(f"#!/bin/bash\n{text}\n")
        (bin / name).chmod(0o755)
    env = {
        **os.environ, "PATH": f"{bin}:{os.environ['PATH']}", "SLURM_JOB_NODELIST": "host[0-3]", "SLURM_PROCID": "0",
        "CONFIG": "run.yaml", "OUT": "out", "TRAINERS": "2", "SERVERS": "2", "POLL_S": "0.05", "STATUS": "0",
        "DIE": "", "DIE_LATER": "", "MUTE": "", "HOLD": "", **settings,
    }  # fmt: skip
    with (place / "errors").open("w") as errors:
        done = subprocess.run(["bash", str(SCRIPT)], cwd=place, env=env, stderr=errors, timeout=200, check=False)
    return done.returncode, (place / "errors").read_text()


def nothing_serves(place: Path) -> bool:
    """Has every server that was started ended?"""
    return not any(Path(f"/proc/{pid}").exists() for pid in (place / "serving").read_text().split())


def test_training_gets_the_servers_once_all_answer(tmp_path: Path) -> None:
    status, said = submit(tmp_path)
    assert status == 0, said
    assert (
        "servers.urls=[http://host2:8000,http://host2:8001,http://host3:8000,http://host3:8001]"
        in (tmp_path / "training").read_text()
    )
    assert said == ""
    assert nothing_serves(tmp_path)


def test_the_job_has_the_status_of_training(tmp_path: Path) -> None:
    assert submit(tmp_path, STATUS="7")[0] == 7


def test_a_server_that_ends_before_all_answer_ends_the_job_and_is_named(tmp_path: Path) -> None:
    status, said = submit(tmp_path, DIE="host3:8000")
    assert status == 1
    assert "server http://host3:8000 ended with status 3; its log: out/serve/host3/vllm-8000.log" in said
    assert not (tmp_path / "training").exists()
    assert nothing_serves(tmp_path)


def test_a_server_that_never_answers_is_named_at_the_limit(tmp_path: Path) -> None:
    status, said = submit(tmp_path, MUTE="host2:8000", SERVERS_START_S="2")
    assert status == 1
    assert "server http://host2:8000 did not answer within 2 s; its log: out/serve/host2/vllm-8000.log" in said
    assert not (tmp_path / "training").exists()


def test_a_server_that_ends_while_training_is_named_and_training_continues(tmp_path: Path) -> None:
    status, said = submit(tmp_path, DIE_LATER="host3:8001", HOLD="ended with status 4")
    assert status == 0, said
    assert "server http://host3:8001 ended with status 4; its log: out/serve/host3/vllm-8001.log" in said
