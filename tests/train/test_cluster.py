"""`configs/cluster/train.slurm` with commands in Slurm's place: two hosts that train, two that serve, and two that may
roll out."""

import os
import subprocess
from pathlib import Path

CONFIGS = Path(__file__).parents[2] / "configs"
SCRIPT = CONFIGS / "cluster/train.slurm"
STUBS = {
    "scontrol": """
case $3 in trainers) hosts=(0 1) ;; servers) hosts=(2 3) ;; rolling) hosts=(4 5) ;; esac
printf 'host%s\\n' "${hosts[@]}" """,
    # Options, then a command; the host is what a server's name is made of.
    "srun": """while [[ $1 == --* ]]; do [[ $1 == --nodelist=* ]] && export HOST=${1#*=}; shift; done; exec "$@" """,
    "swe-aem": """
[[ $1 == train ]] && { printf '%s\\n' 8 4 "$SHARDING"; exit; }
while (($#)); do [[ $1 == --port ]] && port=$2; shift; done
echo "$HOST:$port" >> started
[[ " $DIE " == *" $HOST:$port "* ]] && exit 3
[[ " $MUTE " == *" $HOST:$port "* ]] || touch "up/$HOST:$port"
echo $$ >> serving
if [[ " $DIE_LATER " == *" $HOST:$port "* ]]; then
    [[ $(grep -c "$HOST:$port" started) -gt $LATER_LIVES ]] && exec sleep 600
    until [[ -e training ]]; do sleep 0.05; done
    rm "up/$HOST:$port"
    exit 4
fi
exec sleep 600""",
    "ray": """
echo "$HOST $*" >> joined
[[ $HOST == host5 && $(grep -c "^host5" joined) == 1 ]] && exit
exec sleep 600""",
    "curl": """for last; do :; done; last=${last#http://}; [[ -e up/${last%/v1/completions} ]]""",
    # Trains until the job has said, or a server was started as often as, the test waits for.
    "accelerate": """echo "$@" >> training; until [[ -z $HOLD ]] || grep -q "$HOLD" errors; do sleep 0.05; done
until [[ -z $JOINED ]] || [[ $(wc -l < joined) -ge $JOINED ]]; do sleep 0.05; done
until [[ -z $STARTS ]] || [[ $(wc -l < started) -ge $STARTS ]]; do sleep 0.05; done
[[ $(wc -l < training) -gt $FAILS ]] && exit 0
exit $STATUS""",
}


def submit(place: Path, **settings: str) -> tuple[int, str]:
    """Run the job in `place` to its end: its status, and what it said."""
    bin = place / "bin"
    for directory in (bin, place / "up"):
        directory.mkdir()
    (place / "configs").symlink_to(CONFIGS)
    for name, text in STUBS.items():
        (bin / name).write_text(f"#!/bin/bash\n{text}\n")
        (bin / name).chmod(0o755)
    env = {
        **os.environ, "PATH": f"{bin}:{os.environ['PATH']}", "SLURM_JOB_NODELIST_HET_GROUP_0": "trainers",
        "SLURM_JOB_NODELIST_HET_GROUP_1": "servers", "SLURM_PROCID": "0", "CONFIG": "run.yaml", "OUT": "out",
        "POLL_S": "0.05", "STATUS": "0", "FAILS": "99", "DIE": "", "DIE_LATER": "", "LATER_LIVES": "99", "MUTE": "",
        "HOLD": "", "STARTS": "", "JOINED": "", "SLURM_JOB_ID": "7", "HOME": str(place), "LOCAL": str(place),
        "SHARDING": "fsdp2", **settings,
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
    (line,) = (tmp_path / "training").read_text().splitlines()
    assert "servers.urls=[http://host2:8000,http://host2:8001,http://host3:8000,http://host3:8001]" in line
    assert "--config_file configs/cluster/fsdp2.yaml --num_machines 2 --num_processes 16" in line
    assert "--main_process_ip host0" in line
    assert said == ""
    assert nothing_serves(tmp_path)


def test_weights_that_each_process_holds_need_no_launch_file(tmp_path: Path) -> None:
    assert submit(tmp_path, SHARDING="none")[0] == 0
    assert "launch --mixed_precision no --dynamo_backend no --multi_gpu " in (tmp_path / "training").read_text()


def test_the_job_has_the_status_of_training(tmp_path: Path) -> None:
    assert submit(tmp_path, STATUS="7")[0] == 7
    assert len((tmp_path / "training").read_text().splitlines()) == 1


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


def test_a_server_that_ends_while_training_is_named_and_started_again(tmp_path: Path) -> None:
    status, said = submit(tmp_path, DIE_LATER="host3:8001", LATER_LIVES="1", STARTS="5")
    assert status == 0, said
    assert said == "server http://host3:8001 ended with status 4; its log: out/serve/host3/vllm-8001.log\n"
    assert (tmp_path / "started").read_text().splitlines()[4:] == ["host3:8001"]
    assert nothing_serves(tmp_path)


def test_a_server_that_cannot_be_started_again_is_given_up_and_training_continues(tmp_path: Path) -> None:
    given_up = "server http://host3:8001 is given up after 3 failed starts"
    status, said = submit(tmp_path, DIE_LATER="host3:8001", HOLD=given_up)
    assert status == 0, said
    assert given_up in said
    assert (tmp_path / "started").read_text().splitlines().count("host3:8001") >= 1 + 3


def test_training_that_fails_after_a_server_was_lost_resumes_once_it_answers(tmp_path: Path) -> None:
    lost = {"DIE_LATER": "host3:8001", "LATER_LIVES": "1", "HOLD": "host3:8001 ended"}
    status, said = submit(tmp_path, **lost, STATUS="1", FAILS="1")
    assert status == 0, said
    assert "training ended with status 1 after a server was lost; it resumes once the server answers" in said
    assert len((tmp_path / "training").read_text().splitlines()) == 2


def test_hosts_of_a_third_component_form_a_cluster_and_join_it_again(tmp_path: Path) -> None:
    third = {"SLURM_JOB_NODELIST_HET_GROUP_2": "rolling", "REJOIN_S": "0"}
    status, said = submit(tmp_path, **third, JOINED="4")
    assert status == 0, said
    assert "the step of Ray on host5 has ended; it is started again" in said
    (head,) = (line for line in (tmp_path / "joined").read_text().splitlines() if line.startswith("host0"))
    assert head.startswith("host0 start --block --disable-usage-stats ")
    assert head.endswith(" --head --port=6379 --num-cpus=0 --include-dashboard=false")
    hosts = [
        line.split()[0] for line in (tmp_path / "joined").read_text().splitlines() if "--address=host0:6379" in line
    ]
    assert sorted(hosts)[:3] == ["host4", "host5", "host5"]
    assert "--cluster host0:6379" in (tmp_path / "training").read_text()
    assert nothing_serves(tmp_path)
