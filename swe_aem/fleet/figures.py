"""`FleetFigures`: how the hosts of a fleet fared."""

from swe_aem.core.base import Frozen


class FleetFigures(Frozen):
    """Counts since a fleet was opened, or since another moment."""

    hosts: int = 0
    """Hosts that may get trajectories now."""
    lost_hosts: int = 0
    """Hosts that were lost or drained."""
    lost_attempts: int = 0
    """Attempts that ended because their host was lost or drained."""
    late_lines: int = 0
    """Lines that came after their token was void, and were dropped."""
    images: int = 0
    """Images that a host used for the first time, summed over hosts: it fetched those that it did not have before."""

    def since(self, earlier: "FleetFigures") -> "FleetFigures":
        """What came since; the hosts are those of now."""
        counted = set(FleetFigures.model_fields) - {"hosts"}
        return self.model_copy(update={name: getattr(self, name) - getattr(earlier, name) for name in counted})
