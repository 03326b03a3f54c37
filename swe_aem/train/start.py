"""`start_training`: a training run with what comes before torch, transformers and TRL are loaded, and beside that.
Importable without them.

    refuse what cannot be trained, claim the directory
    ├─ another process: open sandboxes, store and policy; evaluate before training
    └─ this one:        load the libraries and the model, make the trainer; wait for that evaluation; train
"""

import os
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swe_aem.extras import needs
from swe_aem.runlog import run_log, tell
from swe_aem.train.other_work import OtherWork

if TYPE_CHECKING:
    from swe_aem.train.config import TrainConfig
    from swe_aem.train.records import RunSummary

_WORLD_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Where accelerate finds how many processes a launcher started."""


def start_training(
    config: "TrainConfig", directory: Path, *, other_work: OtherWork | None = None
) -> "RunSummary | None":
    """Refuse what cannot be trained or resumed before the libraries load, and train. `other_work` has counted since the
    process began, where its caller did that. Results and errors are those of `swe_aem.train.loop.train`; raises
    `UserError` if the libraries are not installed."""
    with run_log(directory):
        return _started(config, directory, other_work or OtherWork())


def _started(config: "TrainConfig", directory: Path, other_work: OtherWork) -> "RunSummary | None":
    from swe_aem.fleet import require_cluster
    from swe_aem.rollout import require_fitting_model
    from swe_aem.train.directory import ended_run
    from swe_aem.train.refusals import refuse_at_start

    ended = ended_run(config, directory)
    refuse_at_start(config)
    require_fitting_model(config.rollout)
    if first_process() and ended is None:
        require_cluster(config.rollout)
    if ended is not None or _processes() > 1:
        return _train(config, directory)
    if starved := other_work.note():
        tell(starved)
    return _trained_beside_evaluation(config, directory)


def _trained_beside_evaluation(config: "TrainConfig", directory: Path) -> "RunSummary | None":
    """Train in the only process. The process of the rollouts begins before the libraries load."""
    from swe_aem.train import checkpoints
    from swe_aem.train.directory import claimed_run
    from swe_aem.train.heldout import evaluations
    from swe_aem.train.rollout_process import early_child, open_rollouts

    first = {}
    if config.heldout is not None and config.heldout.before:
        first = evaluations(config, 0, greedy=config.heldout.greedy)
    with claimed_run(config, directory) as finished:
        resumes = checkpoints.latest(directory / checkpoints.DIRECTORY) is not None
        with early_child(config, directory, {} if resumes else first) as child:
            return _train(config, directory, partial(open_rollouts, child=child), claim=lambda: finished)


def _train(config: "TrainConfig", *arguments: Any, **named: Any) -> "RunSummary | None":
    if first_process():
        tell("loading torch, transformers and trl")
    quiet()
    from swe_aem.train.loop import train

    return train(config, *arguments, **named)


def _processes() -> int:
    """How many processes a launcher started for the run."""
    return max(int(os.environ.get(name) or 1) for name in _WORLD_SIZES)


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
