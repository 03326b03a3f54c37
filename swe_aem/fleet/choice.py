"""`roller_for`: what rolls out where a configuration names a cluster, and whether that can be reached."""

from pathlib import Path
from typing import TYPE_CHECKING

from swe_aem.errors import UserError
from swe_aem.fleet.engine import Engine
from swe_aem.rollout import RolloutConfig
from swe_aem.rollout.roller import Roller
from swe_aem.rollout.run import MakeRoller
from swe_aem.tasks import TaskSet

if TYPE_CHECKING:
    from swe_aem.fleet.ray_engine import RayEngine


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


def require_cluster(config: RolloutConfig) -> None:
    """Raises `UserError` if a configuration names a cluster that does not let this process in."""
    if config.cluster is not None:
        _ray_at(config.cluster.address).require_head()


def engine_at(address: str) -> Engine:
    """The engine of the Ray cluster at an address. Raises `UserError` if Ray is not installed."""
    return _ray_at(address)


def _ray_at(address: str) -> "RayEngine":
    try:
        from swe_aem.fleet.ray_engine import RayEngine
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise UserError("cluster needs Ray: pip install 'swe-aem[cluster]' on all hosts") from None
    return RayEngine(address)
