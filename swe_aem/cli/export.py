"""`swe-aem export`: what a run keeps, in other formats."""

import json
from pathlib import Path
from typing import Annotated

import typer

from swe_aem.errors import UserError

app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)


@app.callback()
def _export() -> None:
    """Write what a run keeps in other formats."""


@app.command(
    epilog="Example: swe-aem export preds runs/verified --out preds.json, then python -m "
    "swebench.harness.run_evaluation --predictions_path preds.json --dataset_name ... --run_id ..."
)
def preds(
    directory: Annotated[Path, typer.Argument(metavar="STORE", help="Directory of a rollout, its --out.")],
    out: Annotated[Path, typer.Option("--out", help="File to write.")] = Path("preds.json"),
    sample: Annotated[int, typer.Option("--sample", min=0, help="Number of the trajectory within its group.")] = 0,
    model_name: Annotated[
        str | None,
        typer.Option("--model-name", help="model_name_or_path of the predictions. [default: the trajectory's model]"),
    ] = None,
) -> None:
    """Write predictions for the official SWE-bench harness.

    They hold one patch per task. Tasks whose trajectory had an infrastructure failure before it had a patch are left
    out and counted.
    """
    from swe_aem.store import Store, predictions

    if not (directory / "trajectories").is_dir():
        raise UserError(f"{directory} is not a store: it has no folder `trajectories`; name the --out of a rollout")
    found, left_out = predictions(Store(directory), sample, model_name)
    out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    typer.echo(f"{len(found)} predictions in {out}" + (f"; {left_out} tasks without one left out" if left_out else ""))


@app.command(epilog="Example: swe-aem export trace runs/quickstart --out trace.json, then open it in ui.perfetto.dev")
def trace(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="A rollout, a grading or a training run, its --out.")
    ],
    out: Annotated[Path, typer.Option("--out", help="File to write.")] = Path("trace.json"),
) -> None:
    """Write when each phase ran, as a trace.

    Open it in ui.perfetto.dev or chrome://tracing. Of a training run it has the trainer's steps with their phases, and
    beside them the attempts of rollouts and evaluations with theirs, in as many tracks as there were at once; counters
    say how many agents ran.
    """
    from swe_aem.store import replace
    from swe_aem.view.trace import trace as trace_of

    found = trace_of(directory)
    replace(out, json.dumps(found) + "\n")
    typer.echo(f"{out}: {len(found['traceEvents'])} events; open it in https://ui.perfetto.dev, which uploads nothing")


@app.command(
    epilog="Example: swe-aem export checkpoint runs/qwen --to models/qwen, then vllm serve models/qwen. Needs the "
    "extra `train`."
)
def checkpoint(
    directory: Annotated[Path, typer.Argument(metavar="RUN", help="Directory of a training run, its --out.")],
    to: Annotated[Path, typer.Option("--to", help="Directory to write, which must not exist.")],
    step: Annotated[
        int | None, typer.Option("--step", min=1, help="Steps behind the checkpoint. [default: the last checkpoint]")
    ] = None,
) -> None:
    """Write the policy of a checkpoint as a model directory.

    The run may continue meanwhile. transformers and vLLM load the directory: safetensors with the names and the data
    types of the checkpoint that training began with. A checkpoint in the shards of several processes becomes whole
    tensor by tensor, so the model need not fit in memory. Of an adapter it has the adapter.
    """
    from swe_aem.extras import needs
    from swe_aem.train.start import quiet

    quiet()
    with needs("train"):
        from swe_aem.train.export_checkpoint import export_checkpoint

    typer.echo(f"{to}: the policy after {export_checkpoint(directory, to, step=step)} steps")
