"""`start_training`: a training run with what comes before torch, transformers and TRL are loaded. Importable without
them."""

import os
import warnings
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from swe_aem.extras import needs
from swe_aem.runlog import run_log, tell

if TYPE_CHECKING:
    from swe_aem.train.config import TrainConfig
    from swe_aem.train.records import RunSummary


def start_training(config: "TrainConfig", directory: Path) -> "RunSummary | None":
    """Refuse what cannot be trained or resumed before the libraries load, and train. Results and errors are those of
    `swe_aem.train.loop.train`; raises `UserError` if they are not installed."""
    with run_log(directory):
        return _started(config, directory)


def _started(config: "TrainConfig", directory: Path) -> "RunSummary | None":
    from swe_aem.fleet import require_cluster
    from swe_aem.rollout import require_fitting_model
    from swe_aem.train.directory import ended_run
    from swe_aem.train.refusals import refuse_at_start
    from swe_aem.train.rollout_process import early_child, open_rollouts

    ended = ended_run(config, directory)
    refuse_at_start(config)
    require_fitting_model(config.rollout)
    if first_process() and ended is None:
        require_cluster(config.rollout)
    with early_child(config) if first_process() else nullcontext() as child:
        if first_process():
            tell("loading torch, transformers and trl")
        quiet()
        from swe_aem.train.loop import train

        return train(config, directory, partial(open_rollouts, child=child))


def first_process() -> bool:
    """Is this the first process that a launcher started, or the only one?"""
    return os.environ.get("RANK", "0") == "0"


def quiet() -> None:
    """Silence what libraries say that no user can act on: renamed arguments, progress bars of single files, reports of
    use to their makers."""
    with needs("train"):
        from huggingface_hub import constants
        from transformers.utils import logging
    logging.disable_progress_bar()
    # TRL and transformers report to their makers from a thread. Its look-ups read the environment while accelerate
    # changes it, which ends a process with a segmentation fault now and then; and a run is nobody else's business.
    constants.HF_HUB_DISABLE_TELEMETRY = True
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*rollout_func.*")
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
    warnings.filterwarnings("ignore", message="torch.distributed is disabled")
