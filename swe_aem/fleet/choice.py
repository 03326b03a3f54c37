"""`roller_for`: what rolls out where a configuration names a cluster."""

from pathlib import Path

from swe_aem.errors import UserError
from swe_aem.fleet.engine import Engine
from swe_aem.rollout import RolloutConfig
from swe_aem.rollout.roller import Roller
from swe_aem.rollout.run import MakeRoller
from swe_aem.tasks import TaskSet


def roller_for(config: RolloutConfig) -> MakeRoller | None:
    """What makes the roller of a configuration; None if it names no cluster.

    Raises `UserError` if Ray is not installed.
    """
    if config.cluster is None:
        return None
    engine = engine_at(config.cluster.address)

    def make(config: RolloutConfig, tasks: TaskSet, directory: Path, run: str) -> Roller:
        from swe_aem.fleet.roller import RemoteRoller

        return RemoteRoller(config, tasks, directory, engine, run=run)

    return make


def engine_at(address: str) -> Engine:
    """The engine of the Ray cluster at an address. Raises `UserError` if Ray is not installed."""
    try:
        from swe_aem.fleet.ray_engine import RayEngine
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise UserError("cluster needs Ray: pip install 'swe-aem[cluster]' on all hosts") from None
    return RayEngine(address)
