"""Training processes behind a guard: who gets Ctrl-C, and that none outlives what has launched it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from swe_aem.train.launch.ranks import Ranks
from tests.train.launch.test_servers import alive, wait_for

AGENT = [sys.executable, "-m", "tests.train.launch.agent"]
LAUNCHER = """
import sys, time
from swe_aem.train.launch.ranks import Ranks
with Ranks(sys.argv[1:], None):
    time.sleep(600)
"""


def told(file: Path) -> dict[str, list[str]]:
    """What each process has written, its process id first."""
    found: dict[str, list[str]] = {}
    for line in file.read_text().splitlines() if file.exists() else []:
        name, _, text = line.partition(" ")
        found.setdefault(name, []).append(text)
    return found


def all_run(file: Path) -> bool:
    return told(file).keys() == {"agent", "rank0", "rank1"}


def none_runs(file: Path) -> bool:
    return not any(alive(int(texts[0])) for texts in told(file).values())


def test_ctrl_c_reaches_the_first_rank_alone_and_a_second_one_too(tmp_path: Path) -> None:
    file = tmp_path / "told"
    with Ranks([*AGENT, str(file)], None) as ranks:
        wait_for(lambda: all_run(file))
        ranks.interrupt()
        wait_for(lambda: told(file)["rank0"][1:] == ["SIGINT"])
        assert ranks.poll() is None
        ranks.interrupt()
        wait_for(lambda: ranks.poll() is not None)
    assert told(file)["rank0"][1:] == ["SIGINT", "SIGINT"]
    assert told(file)["rank1"][1:] == []
    wait_for(lambda: none_runs(file))


def test_one_process_without_accelerate_gets_it_itself(tmp_path: Path) -> None:
    file = tmp_path / "told"
    command = ["bash", "-c", f"trap 'echo sent > {file}; exit 130' INT; echo > {file}; while :; do sleep 0.05; done"]
    with Ranks(command, ["3", "4"]) as ranks:
        wait_for(file.exists)
        ranks.interrupt()
        wait_for(lambda: ranks.poll() is not None)
        assert ranks.poll() == 130
    assert file.read_text() == "sent\n"


def test_the_processes_see_their_gpus_and_know_their_launcher(tmp_path: Path) -> None:
    file = tmp_path / "told"
    with Ranks(["bash", "-c", f"echo $CUDA_VISIBLE_DEVICES $SWE_AEM_LAUNCHER > {file}; exit 7"], ["3", "4"]) as ranks:
        wait_for(lambda: ranks.poll() is not None)
        assert ranks.poll() == 7
    assert file.read_text().split() == ["3,4", str(os.getpid())]


@pytest.mark.parametrize("killed", ["launcher", "agent"])
def test_nothing_outlives_a_launcher_or_an_agent_that_is_killed(tmp_path: Path, killed: str) -> None:
    file = tmp_path / "told"
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER, *AGENT, str(file)])
    try:
        wait_for(lambda: all_run(file))
        os.kill(launcher.pid if killed == "launcher" else int(told(file)["agent"][0]), signal.SIGKILL)
        wait_for(lambda: none_runs(file))
    finally:
        launcher.kill()
        launcher.wait()
