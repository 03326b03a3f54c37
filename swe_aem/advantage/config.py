"""`AdvantageConfig`: how rewards become advantages; `ImportanceSamplingConfig`: how samples of another policy weigh.
Importable without torch."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from swe_aem.core.base import Frozen

Baseline = Literal["leave_one_out", "group_mean", "group_normalised"]
"""Keys of `swe_aem.advantage.estimators.BASELINES`."""
Direction = Literal["paper", "reversed"]
Scope = Literal["trajectory", "group", "batch"]
ImportanceMode = Literal["none", "truncate", "mask", "sequence_geometric_mask"]

_EXAMPLES: dict[ImportanceMode, str] = {
    "truncate": "high: 2",
    "mask": "low: 0.5, high: 5",
    "sequence_geometric_mask": "low: 0.999, high: 1.001",
}
"""Bounds that each mode is used with."""


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


class ImportanceSamplingConfig(Frozen):
    """Correction for samples of older weights, and for the differences between server and trainer
    (`swe_aem.advantage.importance`)."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    mode: ImportanceMode = "none"
    """What becomes of a token by its ratio of old probability to probability when sampled. truncate: its advantage is
    multiplied by the ratio, bounded by low and high (TIS); mask: by the ratio, and by 0 outside of the bounds (IcePop,
    MIS); sequence_geometric_mask: a trajectory is dropped whose geometric mean of ratios is outside."""
    low: Annotated[float, Field(gt=0, le=1)] | None = None
    """Lower bound of a ratio; none if not given."""
    high: Annotated[float, Field(ge=1)] | None = None
    """Upper bound of a ratio; none if not given."""

    @model_validator(mode="after")
    def _bounds_belong_to_a_mode(self) -> "ImportanceSamplingConfig":
        bounded = self.low is not None or self.high is not None
        if self.mode == "none" and bounded:
            raise ValueError("low and high bound nothing in mode none: set mode too, e.g. truncate")
        if self.mode != "none" and not bounded:
            raise ValueError(f"mode {self.mode} needs bounds: set low, high or both, e.g. {_EXAMPLES[self.mode]}")
        return self


NO_IMPORTANCE_SAMPLING = ImportanceSamplingConfig()
