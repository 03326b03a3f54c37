"""`AdvantageConfig`: how rewards become advantages. Importable without torch."""

from typing import Literal

from pydantic import Field

from swe_aem.core.base import Frozen


class AdvantageConfig(Frozen):
    """Baseline, AEM and the ablations of its paper (arXiv 2605.00425)."""

    baseline: Literal["leave_one_out", "group_mean", "group_normalised"] = "leave_one_out"
    """Reward minus the mean of the others (DeepSWE), minus the group's mean (Dr. GRPO), or that over the deviation
    (GRPO)."""
    aem: bool = True
    """False computes no entropies either; `lam` 0 computes them and changes nothing."""
    lam: float = Field(default=1.0, ge=0.0, le=50.0)
    """Strength; 0 is no modulation."""
    min_range: float = Field(default=0.1, ge=0.0)
    """Groups whose response entropies range over less (nats) are left alone."""
    direction: Literal["paper", "reversed"] = "paper"
    """`reversed` gives uncertain responses the larger factors."""
    shuffle: bool = False
    """Deal the factors out at random within their scope."""
    scope: Literal["trajectory", "group", "batch"] = "group"
    """What entropies are normalised over."""
    seed: int = 0
    """Of the shuffle."""
