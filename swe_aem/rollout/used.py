"""`used_extensions`: what a rollout uses that is not built in, as its store records it in `config.json`."""

from swe_aem.agent import AGENTS, MODEL_FAMILIES, NATIVE, is_own_agent
from swe_aem.core.used import identities
from swe_aem.extensions import identity_of
from swe_aem.harness import BUNDLED, read_harness_spec
from swe_aem.policy import POLICIES, is_own_policy
from swe_aem.reward import REWARDS
from swe_aem.rollout.config import RolloutConfig
from swe_aem.sandbox import SANDBOXES
from swe_aem.tasks import TaskSet


def used_extensions(config: RolloutConfig, tasks: TaskSet | None = None) -> dict[str, str]:
    """Setting to the version and hash of the code that it names, for what is not built in. It is imported for that.

    `tasks` are those of the configuration, which families that are not built in may have read. Raises `UserError` for
    what is not there, and what that code itself raises.
    """
    return {
        **grading_extensions(config, tasks),
        **_of_agent(config),
        **(identities("policy", POLICIES, config.policy) if is_own_policy(config.policy_name) else {}),
        **identities("renderer.family", MODEL_FAMILIES, config.renderer.family),
        **identities("reward", REWARDS, config.reward),
    }


def _of_agent(config: RolloutConfig) -> dict[str, str]:
    """The identity of an agent of a user's own, in this process or the file of a harness."""
    name = config.agent_name
    if is_own_agent(name):
        return identities("agent", AGENTS, config.agent)
    if name == NATIVE or name in BUNDLED:
        return {}
    return {"agent": identity_of(f"{read_harness_spec(name).file}:converse")}


def grading_extensions(config: RolloutConfig, tasks: TaskSet | None = None) -> dict[str, str]:
    """The part of them that takes part where patches are graded and nothing is rolled out."""
    return {**(tasks.extensions if tasks is not None else {}), **identities("sandbox", SANDBOXES, config.sandbox)}
