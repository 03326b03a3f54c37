"""What a selection is asked for."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_validator

from swe_aem.core.base import Frozen
from swe_aem.suggest import did_you_mean

WAYS = ("tests", "majority", "verifier", "reward")
"""tests: who passes most of the tests that other samples wrote. majority: what most samples changed alike. verifier:
the patch that a model calls right. reward: the trajectory that a function pays most."""
Positive = Annotated[int, Field(ge=1)]


class SelectConfig(Frozen):
    """Settings of a selection."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    ways: tuple[str, ...] = ("tests", "majority")
    """How samples are scored. The choice of the first is what gets submitted."""
    test_command: str = "python -m pytest -q {}"
    """What runs one test file, in the work tree; {} stands for its path. It has passed if the exit code is 0."""
    test_limit_s: Annotated[float, Field(gt=0)] = 300.0
    """Seconds that one test file may take."""
    verifier: str | dict[str, Any] | None = None
    """The policy that is asked whether a patch is right, as a rollout's policy is given."""
    verifier_tokenizer: str | None = None
    """The tokenizer of the verifier's model, where its policy needs one."""
    verifier_samples: Positive = 1
    """How often it is asked about each patch; its answers are averaged."""
    verifier_tokens: Positive = 8
    """Most tokens of an answer; a model that thinks first needs more."""
    reward: str | dict[str, Any] | None = None
    """The reward function that scores a trajectory without its verdict."""
    workers: Positive = 4
    """Sandboxes and requests at once."""

    @model_validator(mode="after")
    def _has_what_its_ways_need(self) -> "SelectConfig":
        for way in self.ways:
            if way not in WAYS:
                raise ValueError(f"no way {way!r}{did_you_mean(way, WAYS)}; choose among {', '.join(WAYS)}")
        if len(set(self.ways)) != len(self.ways) or not self.ways:
            raise ValueError(f"name each way once: {', '.join(WAYS)}")
        if "verifier" in self.ways and self.verifier is None:
            raise ValueError("the way verifier needs a policy to ask: --verifier http://host:8000, or chat:URL")
        if "reward" in self.ways and self.reward is None:
            raise ValueError("the way reward needs a function: --reward format, or file.py:object")
        if "{}" not in self.test_command:
            raise ValueError("test_command needs {} where the path of the test file goes")
        return self
