"""Rollouts on many hosts: whole trajectories run on agents, one per host; this process dispatches and writes the store.

`roller_for(config)` is the way in. `docs/cluster.md` says how it works. Only `ray_engine.py` imports Ray.
"""

from swe_aem.fleet.choice import engine_at, require_cluster, roller_for
from swe_aem.fleet.engine import NO_HOSTS, Engine, Host, NodeDrained, NodeLost, NodeSilent

__all__ = [
    "NO_HOSTS",
    "Engine",
    "Host",
    "NodeDrained",
    "NodeLost",
    "NodeSilent",
    "engine_at",
    "require_cluster",
    "roller_for",
]
