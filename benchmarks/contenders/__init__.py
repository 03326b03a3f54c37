"""The contenders: one file per way to run commands in sandboxes, all behind `base.Contender`.

Each is imported only by the process that measures it, so a peer that is not installed leaves only its own rows empty.
"""

from contenders.base import Contender, Unit

NAMES = (
    "mini",
    "swerex",
    "docker-sdk",
    "swe-aem-docker",
    "swe-aem-bubblewrap",
    "swe-aem-bubblewrap-rootfs",
)
"""In the order in which a round measures them."""

REFERENCE = "mini"
"""What ratios refer to."""


def contender(unit: Unit) -> Contender:
    """Contender that a unit of measurement names."""
    if unit.contender == "mini":
        from contenders.mini import Mini

        return Mini(unit)
    if unit.contender == "swerex":
        from contenders.swerex import SweRex

        return SweRex(unit)
    if unit.contender == "docker-sdk":
        from contenders.docker_sdk import DockerSdk

        return DockerSdk(unit)
    from contenders.ours import OURS

    return OURS[unit.contender](unit)
