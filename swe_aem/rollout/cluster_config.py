"""`ClusterConfig`: the hosts that roll out, where that is not this one alone."""

from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from swe_aem.core.base import Frozen

_Seconds = Annotated[float, Field(gt=0)]


class ClusterConfig(Frozen):
    """Rollouts on the hosts of a Ray cluster. It may differ when a store is resumed."""

    NAME_KEY: ClassVar[str] = "address"
    model_config = ConfigDict(use_attribute_docstrings=True)

    address: str = "auto"
    """Where the cluster's head is, as HOST:PORT; auto: the cluster that this host belongs to."""
    min_nodes: Annotated[int, Field(ge=1)] = 1
    """Hosts that must have joined before the first trajectory starts."""
    wait_s: _Seconds = 300.0
    """Seconds without any host that works after which the run ends. A rerun resumes it."""
    beat_s: _Seconds = 1.0
    """Seconds between two looks at a host."""
    lost_after_s: _Seconds = 60.0
    """Seconds of silence after which a host counts as lost, and its trajectories are rolled out elsewhere. A host that
    hears nothing for twice as long ends what it runs."""
    drain_s: _Seconds = 60.0
    """Seconds that trajectories on a host that is being drained may take to finish."""
