"""`used_extensions`: what a rollout uses that is not built in, as its store records it in `config.json`."""

from swe_aem.core.used import identities
from swe_aem.reward import REWARDS
from swe_aem.rollout.config import RolloutConfig
from swe_aem.sandbox import SANDBOXES
from swe_aem.tasks import TaskSet


def used_extensions(config: RolloutConfig, tasks: TaskSet | None = None) -> dict[str, str]:
    """Setting to the version and hash of the code that it names, for what is not built in. It is imported for that.

    `tasks` are those of the configuration, which families that are not built in may have read. Raises `UserError` for
    what is not there, and what that code itself raises.
    """
    return {**grading_extensions(config, tasks), **identities("reward", REWARDS, config.reward)}


def grading_extensions(config: RolloutConfig, tasks: TaskSet | None = None) -> dict[str, str]:
    """The part of them that takes part where patches are graded and nothing is rolled out."""
    return {**(tasks.extensions if tasks is not None else {}), **identities("sandbox", SANDBOXES, config.sandbox)}
