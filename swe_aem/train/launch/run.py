"""`launch`: starts the servers of a run, then its training processes, and watches both until training ends."""

import os
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from swe_aem.errors import RunAborted, UserError
from swe_aem.fleet import require_cluster
from swe_aem.rollout import require_fitting_model
from swe_aem.runlog import run_log, tell
from swe_aem.serve import healthy
from swe_aem.store import locked
from swe_aem.train.config import TrainConfig
from swe_aem.train.directory import ended_run, existing_run
from swe_aem.train.launch.commands import SERVE, LaunchPlan, plan_launch, server_count
from swe_aem.train.launch.gpus import gpus_here
from swe_aem.train.launch.presses import on_press
from swe_aem.train.launch.ranks import Ranks
from swe_aem.train.launch.servers import MOST_FAILED_STARTS, KeptServer
from swe_aem.train.records import read_metrics
from swe_aem.train.refusals import reasons_at_start

_POLL_S = 0.2
_FORCED_S = 15.0
"""Seconds that the training processes get after a second Ctrl-C."""
_NOTICED_S = 30.0
"""Seconds until the end of a server is noticed at the latest: its other processes end first."""
MOST_IN_VAIN = 3
"""Starts of training that may end without a step, one after the other, because servers are lost."""
INTERRUPTED = 130


def launch(config: TrainConfig, directory: Path, arguments: Sequence[str]) -> int:
    """Train with servers on this host; returns the exit code. `arguments` are those of `swe-aem train` without
    `--launch`. Raises `UserError` for what cannot be trained or launched here and for a server that does not start,
    `RunAborted` if every server is given up."""
    with run_log(directory):
        if "RANK" in os.environ:
            raise UserError("--launch starts the training processes itself: call it without accelerate launch")
        if (finished := _finished(config, directory)) is not None:
            tell(finished)
            return 0
        _refuse(config, directory)
        plan = launch_plan(config, arguments, gpus_here(config))
        (directory / SERVE).mkdir(parents=True, exist_ok=True)
        with locked(directory / SERVE):
            return _Launched(config, directory, plan).run()


def launch_plan(config: TrainConfig, arguments: Sequence[str], gpus: Sequence[str] | None) -> LaunchPlan:
    """The plan at free ports. The trainer's requests wait as long for a server as its start may take: whether one is
    given up is decided here."""
    waits: list[str] = []
    if config.servers is not None and config.servers.patience_s < config.launch.server_start_s:
        waits = ["--set", f"servers.patience_s={config.launch.server_start_s}"]
    ports = free_ports(server_count(config))
    return plan_launch(config, arguments=[*arguments, *waits], gpus=gpus, ports=ports)


def free_ports(count: int) -> list[int]:
    """TCP ports of this host that nothing listens at."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _finished(config: TrainConfig, directory: Path) -> str | None:
    """That the run has ended already, whichever servers it had; None if it has not."""
    stored = existing_run(config, directory)
    if stored is None:
        return None
    same = config.model_copy(update={"servers": stored.servers})
    return f"{directory} is finished; nothing to do" if ended_run(same, directory) is not None else None


def _refuse(config: TrainConfig, directory: Path) -> None:
    """Raise `UserError` for what the training processes would refuse once the servers are there."""
    sharded = config.hardware is not None and config.hardware.sharding != "none"
    for reason in reasons_at_start(config, sharded=sharded):
        raise UserError(reason)
    require_fitting_model(config.rollout)
    require_cluster(config.rollout)


class _Launched:
    """The servers and training processes of one run."""

    def __init__(self, config: TrainConfig, directory: Path, plan: LaunchPlan) -> None:
        self._plan = plan
        self._directory = directory
        self._presses = 0
        limit_s = config.launch.server_start_s
        self._servers = [KeptServer(server, directory / SERVE, limit_s) for server in plan.servers]

    def run(self) -> int:
        on_press(self._press)
        with ExitStack() as stack:
            stack.callback(self._end_servers)
            self._start_servers()
            code = self._train() if self._all_answer() else None
        if self._presses:
            tell("interrupted; repeat the command to resume")
            return INTERRUPTED
        if code:
            tell(f"training ended with exit code {code}; {self._directory / 'run.log'} has the cause")
        return code or 0

    def _press(self) -> None:
        self._presses += 1

    def _start_servers(self) -> None:
        if self._servers:
            tell(f"starting {len(self._servers)} servers; their logs: {self._directory / SERVE}")
        for server in self._servers:
            server.start()

    def _all_answer(self) -> bool:
        """Return true once every server answers that is not given up, false if the run is interrupted before. Raises
        `UserError` for the first that is given up before any training."""
        while not self._presses:
            waited_for = [server for server in self._servers if not server.ready.is_set()]
            for server in waited_for:
                if server.error is not None and not server.losses:
                    raise server.error
            if all(server.error is not None for server in waited_for):
                return True
            time.sleep(_POLL_S)
        return False

    def _train(self) -> int:
        """Train to the end; the exit code. Training that fails after a server was lost, for example while it took new
        weights, is started again once the server is back, and resumes."""
        in_vain = 0
        while True:
            losses, steps = self._losses(), len(read_metrics(self._directory))
            (port,) = free_ports(1)
            with Ranks(self._plan.ranks_command(port), self._plan.gpus) as ranks:
                code = self._watch(ranks)
            if not code or self._presses or not self._lost_since(losses):
                return code
            in_vain = 0 if len(read_metrics(self._directory)) > steps else in_vain + 1
            if in_vain == MOST_IN_VAIN:
                return code
            tell(f"training ended with exit code {code} after a server was lost; it resumes once the server answers")
            if not self._all_answer():
                return code

    def _losses(self) -> int:
        return sum(server.losses for server in self._servers)

    def _lost_since(self, losses: int) -> bool:
        """Has a server been lost since there were so many losses? One that ends now is noticed a moment later."""
        until_s = time.monotonic() + _NOTICED_S
        while self._losses() == losses and not all(healthy(server.url) for server in self._servers):
            if time.monotonic() > until_s:
                break
            time.sleep(_POLL_S)
        return self._losses() > losses

    def _watch(self, ranks: Ranks) -> int:
        """Wait until training ends, and pass on each press of Ctrl-C; the exit code. Raises `RunAborted` once every
        server is given up."""
        passed, given_up, end_s = 0, set[KeptServer](), float("inf")
        while (code := ranks.poll()) is None:
            if self._presses > passed:
                passed = self._presses
                ranks.interrupt()
                if passed > 1:
                    end_s = min(end_s, time.monotonic() + _FORCED_S)
            if passed > 2 or time.monotonic() > end_s:
                ranks.end()
            self._tell_of_given_up(given_up)
            if given_up and len(given_up) == len(self._servers):
                ranks.end()
                raise RunAborted("no server is left; repeat the command to resume")
            time.sleep(_POLL_S)
        return code

    def _tell_of_given_up(self, known: set[KeptServer]) -> None:
        for server in self._servers:
            if server.error is not None and server not in known:
                known.add(server)
                tell(f"{server.url} is given up after {MOST_FAILED_STARTS} failed starts: {server.error}")

    def _end_servers(self) -> None:
        for server in self._servers:
            server.ask_to_end()
        for server in self._servers:
            server.end()
