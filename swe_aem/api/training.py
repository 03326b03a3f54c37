"""`train`: a policy trained on live rollouts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swe_aem.advantage.config import ADVANTAGES
from swe_aem.advantage.inputs import AdvantageEstimator
from swe_aem.api.settings import dotted
from swe_aem.reward import RewardLike, setting_of
from swe_aem.train.config import read_config
from swe_aem.train.records import RunSummary
from swe_aem.train.start import start_training
from swe_aem.train.task_samplers import TASK_SAMPLERS, TaskSampler
from swe_aem.view.report import write_report


def train(
    config: Path | str,
    *,
    out: Path | str | None = None,
    reward: RewardLike | None = None,
    advantage: AdvantageEstimator | type[AdvantageEstimator] | Mapping[str, Any] | str | None = None,
    task_sampler: TaskSampler | type[TaskSampler] | Mapping[str, Any] | str | None = None,
    report: bool = True,
    **settings: Any,
) -> RunSummary | None:
    """Train a policy: roll out, grade, learn, and measure on held-out tasks before and after.

    The same call resumes a run that was interrupted or killed, from its last checkpoint and with the trajectories that
    are stored. A `KeyboardInterrupt` closes the sandboxes before it leaves. Needs the extra `train`.

    Args:
        config: YAML file of settings; `configs/quickstart.yaml` is found from anywhere.
        out: directory of the run, by default `runs/NAME` of the file.
        reward: what replaces `rollout.reward` of the file; a function, or else as in `rollout`.
        advantage: how rewards become advantages: a function of `AdvantageInputs`, a class of settings with such a
            `__call__` or an instance of one, the name of an estimator, or settings that replace those of the file
            (`{"lam": 0.5}`), with another `estimator` all of them. None keeps the file's.
        task_sampler: which tasks a step rolls out: a function of `TaskSamplerInputs` that returns `count` task ids, a
            class of settings with such a `__call__` or an instance of one, or what the setting takes: a name, or a
            mapping of `type` and of settings. None keeps the file's.
        report: write `report.html` at the end.
        settings: what replaces the file's settings, by section (`grpo={"learning_rate": 1e-5}`, the rest of the
            section stays as it is) or by dotted name (`**{"grpo.learning_rate": 1e-5}`).

    Returns:
        The content of `summary.json`: steps, seconds, and the pass@1 of held-out tasks before and after, shares from 0
        to 1 with their 95 % intervals. None in every process but the first, where a launcher started several.

    Raises:
        errors.UserError: a setting or the directory does not fit, or the extra is missing.
        errors.ExtensionFailed: code that was handed over raised, which `__cause__` is; the same call resumes.
        errors.RunAborted: every attempt at a rollout fails; the same call resumes.
    """
    options = dotted(settings)
    if isinstance(advantage, Mapping) and ADVANTAGES.key not in advantage:
        options |= dotted(advantage, "advantage.")
    elif advantage is not None:
        options["advantage"] = ADVANTAGES.setting_of(advantage)
    if task_sampler is not None:
        options["task_sampler"] = TASK_SAMPLERS.setting_of(task_sampler)
    if reward is not None:
        options["rollout.reward"] = setting_of(reward)
    file = Path(config)
    directory = Path("runs") / file.stem if out is None else Path(out)
    summary = start_training(read_config(file, options=options), directory)
    if report and summary is not None:
        write_report(directory)
    return summary
