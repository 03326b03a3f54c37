"""`AdvantageConfig`: how rewards become advantages. Importable without torch."""

from typing import Literal

from pydantic import ConfigDict, Field

from swe_aem.core.base import Frozen

Baseline = Literal["leave_one_out", "group_mean", "group_normalised"]
"""Keys of `swe_aem.advantage.estimators.BASELINES`."""
Direction = Literal["paper", "reversed"]
Scope = Literal["trajectory", "group", "batch"]


class AdvantageConfig(Frozen):
    """Baseline, AEM, and the ablations of AEM's paper (arXiv 2605.00425)."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    baseline: Baseline = "leave_one_out"
    """What a reward is compared with. leave_one_out: the mean of the group's other rewards (RLOO, DeepSWE); group_mean:
    the mean of the group (Dr. GRPO); group_normalised: that, divided by the group's standard deviation (GRPO)."""
    aem: bool = True
    """Modulate advantages by response entropy (AEM). False also computes no entropies; lam 0 computes them and changes
    nothing."""
    lam: float = Field(default=1.0, ge=0.0, le=50.0)
    """Strength of AEM (λ in the paper); 0 is no modulation."""
    min_range: float = Field(default=0.1, ge=0.0)
    """Groups whose response entropies range over less than this, in nats, are not modulated."""
    direction: Direction = "paper"
    """paper: responses of low entropy get the larger factors; reversed: those of high entropy."""
    shuffle: bool = False
    """Shuffle the factors among the responses of a scope: an ablation that keeps only their distribution."""
    scope: Scope = "group"
    """Over which responses entropies are normalised: those of one trajectory, of a group, or of the whole batch."""
    seed: int = 0
    """Seed of shuffle."""
