"""`AdvantageConfig`: how rewards become advantages; `ImportanceSamplingConfig`: how samples of another policy weigh.
Importable without torch."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Union

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from swe_aem.core.base import Frozen
from swe_aem.core.explain import Renamed
from swe_aem.core.settings import load
from swe_aem.errors import UserError
from swe_aem.extensions import ExtensionPoint

Baseline = Literal["leave_one_out", "group_mean", "group_normalised", "max_rl"]
"""Keys of `swe_aem.advantage.baselines.BASELINES`."""
Direction = Literal["paper", "reversed"]
Scope = Literal["trajectory", "group", "batch"]
SCOPES: tuple[Scope, ...] = ("trajectory", "group", "batch")
"""Every scope, the narrowest first."""
Entropy = Literal["exact", "sampler"]
ImportanceMode = Literal["none", "truncate", "mask", "sequence_geometric_mask"]

ADVANTAGES: ExtensionPoint[Any] = ExtensionPoint(
    "advantage estimator",
    group="swe_aem.advantages",
    key="estimator",
    builtin={
        "aem": "swe_aem.advantage.aem:AEM",
        "leave_one_out": "swe_aem.advantage.baselines:leave_one_out",
        "group_mean": "swe_aem.advantage.baselines:group_mean",
        "group_normalised": "swe_aem.advantage.baselines:group_normalised",
        "max_rl": "swe_aem.advantage.baselines:max_rl",
        "empg": "swe_aem.advantage.empg:EMPG",
        "stare": "swe_aem.advantage.stare:STARE",
    },
)
"""Advantage estimators by name. Each is a function of `AdvantageInputs`, or a class whose instances are called so."""

_EXAMPLES: dict[ImportanceMode, str] = {
    "truncate": "high: 2",
    "mask": "low: 0.5, high: 5",
    "sequence_geometric_mask": "low: 0.999, high: 1.001",
}
"""Bounds that each mode is used with."""


class _Section(Frozen):
    """A section `advantage`."""

    NAME_KEY: ClassVar[str] = ADVANTAGES.key
    model_config = ConfigDict(use_attribute_docstrings=True)

    entropy: Entropy = "exact"
    """Where the old policy's entropies and log-probabilities come from. exact: a pass of the trainer over the step's
    rows; sampler: what was stored when the tokens were sampled, which needs no pass. Entropies are then estimates and
    one per response, and ratios are those of policy to sampler, so it does not go with importance_sampling."""

    def of_estimator(self) -> dict[str, Any]:
        """The name of the estimator, and the settings that are its own."""
        return self.model_dump(exclude={"entropy"})


class BaselineConfig(_Section):
    """A reward against those of its group, and nothing else."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    estimator: Baseline
    """What a reward is compared with. leave_one_out: the mean of the group's other rewards (RLOO, DeepSWE); group_mean:
    the mean of the group (Dr. GRPO); group_normalised: that, divided by the group's standard deviation (GRPO); max_rl:
    the mean of the group, divided by it (MaxRL)."""

    @property
    def varies_within_rows(self) -> bool:
        """Do tokens of one trajectory get different advantages, where its responses have no rewards of their own?"""
        return False


class AEMConfig(_Section):
    """Adaptive Entropy Modulation, and the ablations of its paper (arXiv 2605.00425)."""

    RENAMED: ClassVar[Mapping[str, Renamed]] = {
        "aem": Renamed("estimator", example="aem where it was true, leave_one_out where it was false"),
    }
    model_config = ConfigDict(use_attribute_docstrings=True)

    estimator: Literal["aem"] = "aem"
    """Name of the advantage estimator."""
    baseline: Baseline = "leave_one_out"
    """The advantages that are modulated, by the name of their estimator."""
    lam: float = Field(default=1.0, ge=0.0, le=50.0)
    """Strength of AEM (λ in the paper); 0 computes entropies and changes nothing."""
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

    @property
    def varies_within_rows(self) -> bool:
        """Do tokens of one trajectory get different advantages, where its responses have no rewards of their own?"""
        return self.lam > 0


class EMPGConfig(_Section):
    """Entropy-Modulated Policy Gradients (arXiv 2509.09265)."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    estimator: Literal["empg"] = "empg"
    """Name of the advantage estimator."""
    baseline: Baseline = "leave_one_out"
    """The advantages that are modulated, by the name of their estimator."""
    k: float = Field(default=1.0, ge=0.0, le=50.0)
    """Strength of the scaling by the entropy of a response; 0 is none."""
    k_future: float = Field(default=1.0, ge=0.0, le=50.0)
    """How fast the bonus falls with the entropy of the next response (k' in the paper)."""
    zeta: float = Field(default=0.1, ge=0.0)
    """Size of the bonus for a next response of low entropy (ζ in the paper); 0 is none."""
    center: bool = True
    """Subtract the mean over the batch's responses at the end."""

    @property
    def varies_within_rows(self) -> bool:
        """Do tokens of one trajectory get different advantages, where its responses have no rewards of their own?"""
        return self.k > 0 or self.zeta > 0


class STAREConfig(_Section):
    """Surprisal-guided token-level advantage reweighting (STARE, arXiv 2606.19236)."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    estimator: Literal["stare"] = "stare"
    """Name of the advantage estimator."""
    baseline: Baseline = "leave_one_out"
    """The advantages that are reweighted, by the name of their estimator."""
    top_share: float = Field(default=0.1, gt=0.0, le=1.0)
    """Share of the tokens of positive advantage, and of those of negative, that are reweighted: the most surprising."""
    amplify: float = Field(default=1.1, ge=1.0)
    """Factor of the most surprising tokens of positive advantage (W in the paper)."""
    attenuate: float = Field(default=1.0, gt=0.0, le=1.0)
    """Factor of the most surprising tokens of negative advantage (M in the paper). 1 is the paper's variant O1; a
    smaller one, such as 0.9, is C2."""
    target_entropy: float | None = Field(default=0.3, gt=0.0)
    """Reweight only in steps whose mean token entropy is below this, in nats; null: in every step."""

    @property
    def varies_within_rows(self) -> bool:
        """Do tokens of one trajectory get different advantages, where its responses have no rewards of their own?"""
        return self.amplify > 1 or self.attenuate < 1


class OwnAdvantageConfig(_Section):
    """An estimator that is not built in. The settings beside its name are checked by its class when a run starts."""

    model_config = ConfigDict(use_attribute_docstrings=True, extra="allow")

    estimator: str
    """Name of the advantage estimator: of an entry point, package.module:object or file.py:object."""

    @field_validator("estimator")
    @classmethod
    def _can_be_a_name(cls, value: str) -> str:
        try:
            ADVANTAGES.check(value)
        except UserError as error:
            raise ValueError(str(error)) from None
        return value

    @property
    def varies_within_rows(self) -> bool:
        """What is not known before it is called: the trainer looks at its advantages."""
        return False


def _as_section(value: Any) -> Any:
    """A plain name stands for a section with that name alone."""
    return {"estimator": value} if isinstance(value, str) else value


def _kind(value: Any) -> str | None:
    """The tag of the section's model; AEM's where no estimator is named."""
    name = value.get("estimator", "aem") if isinstance(value, Mapping) else getattr(value, "estimator", None)
    if not isinstance(name, str):
        return "own" if isinstance(value, Mapping) else None
    if name in ("aem", "empg", "stare"):
        return name
    return "baseline" if name in Baseline.__args__ else "own"


AdvantageConfig = Annotated[
    Union[  # noqa: UP007
        Annotated[AEMConfig, Tag("aem")],
        Annotated[BaselineConfig, Tag("baseline")],
        Annotated[EMPGConfig, Tag("empg")],
        Annotated[STAREConfig, Tag("stare")],
        Annotated[OwnAdvantageConfig, Tag("own")],
    ],
    Discriminator(_kind),
    BeforeValidator(_as_section),
]
"""The section `advantage`: the name of an estimator, and its settings."""


class _Sections(Frozen):
    advantage: AdvantageConfig


def advantage_of(estimator: str | Mapping[str, Any], assignments: Sequence[str] = ()) -> AdvantageConfig:
    """The section of an estimator by its name, or by a mapping with its settings, and `a=b` assignments of them. Raises
    `UserError` for names and values that do not fit."""
    section = {"advantage": {"estimator": estimator} if isinstance(estimator, str) else dict(estimator)}
    found = load(_Sections, section, assignments=[f"advantage.{one}" for one in assignments]).advantage
    if found.entropy != "exact":
        raise UserError(f"advantage.entropy={found.entropy} is for training: entropies are exact here, so leave it out")
    return found


def label_of(config: AdvantageConfig) -> str:
    """The name that an estimator's metrics begin with: its own, or that of its object."""
    return config.estimator.rpartition(":")[2]


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
