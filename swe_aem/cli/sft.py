"""`swe-aem sft`: warm start by rejection fine-tuning on resolved trajectories."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(
    epilog="Example: swe-aem sft --from runs/qwen --model ./Qwen3-8B --out models/warm --learning-rate 1e-5. Repeat a "
    "command to resume from its last checkpoint. Needs the extra `train`."
)
def sft(
    stores: Annotated[
        list[Path], typer.Option("--from", metavar="STORE", help="Directory of a rollout, its --out; repeat for more.")
    ],
    model: Annotated[Path, typer.Option("--model", help="Directory of the model to begin with.")],
    out: Annotated[Path, typer.Option("--out", help="Directory for the trained model.")],
    epochs: Annotated[float, typer.Option("--epochs", min=0, help="Passes over the trajectories.")] = 2.0,
    learning_rate: Annotated[
        float, typer.Option("--learning-rate", min=0, help="The highest one; it falls along a cosine.")
    ] = 1e-5,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Trajectories per update and process.")] = 16,
    micro_batch_size: Annotated[
        int | None,
        typer.Option("--micro-batch-size", min=1, help="Trajectories per forward pass. [default: the batch]"),
    ] = None,
    per_task: Annotated[
        int | None, typer.Option("--per-task", min=1, help="Trajectories of one task at most. [default: all]")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", min=2, help="Leave longer trajectories out. [default: keep all]")
    ] = None,
    bf16: Annotated[bool, typer.Option("--bf16", help="Train in bfloat16.")] = False,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Recompute activations: less memory, more time.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--everything", help="Loss on all tokens: for a model that has read nothing yet.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the trajectories' order.")] = 0,
) -> None:
    """Fine-tune a model on resolved trajectories: the stored tokens, loss on the policy's responses only."""
    from swe_aem.train.start import quiet

    quiet()
    from swe_aem.core.settings import check
    from swe_aem.train.sft import SFTConfig, collect, fine_tune

    values = {
        "epochs": epochs,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "micro_batch_size": micro_batch_size,
        "everything": everything,
        "per_task": per_task,
        "max_tokens": max_tokens,
        "bf16": bf16,
        "gradient_checkpointing": gradient_checkpointing,
        "seed": seed,
    }
    config = check(SFTConfig, values)
    found = collect(stores, model, config)
    typer.echo(
        f"{len(found.rows)} of {found.resolved} resolved trajectories ({found.repeated} repeated, {found.surplus} "
        f"beyond --per-task, {found.too_long} too long)"
    )
    figures = fine_tune(model, found.rows, out, config)
    typer.echo(f"{out}: loss {figures['train_loss']:.4f} after {figures['train_runtime']:.0f} s")
