"""`training_extensions`: what a training run uses that is not built in, as `extensions.json` of its directory records
it. Importable without torch."""

from swe_aem.advantage.config import ADVANTAGES
from swe_aem.core.used import identities
from swe_aem.rollout import used_extensions
from swe_aem.train.config import TrainConfig
from swe_aem.train.task_samplers import TASK_SAMPLERS


def training_extensions(config: TrainConfig) -> dict[str, str]:
    """Setting to the version and hash of the code that it names, for what is not built in. It is imported for that.

    What reads rows is recorded by the store of the rollouts. Raises `UserError` for what is not there, and what that
    code itself raises.
    """
    rollout = {f"rollout.{name}": identity for name, identity in used_extensions(config.rollout).items()}
    sampler = identities("task_sampler", TASK_SAMPLERS, config.task_sampler)
    return rollout | sampler | identities("advantage", ADVANTAGES, config.advantage)
