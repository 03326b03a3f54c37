"""`swe-aem init-tiny-model`: a tokenizer and a small model of random weights, for experiments on a laptop."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(
    epilog="Example: swe-aem init-tiny-model --from runs/demos --out models/tiny; configs/quickstart/make_policy.py "
    "trains such a model until it acts."
)
def init_tiny_model(
    store: Annotated[
        Path, typer.Option("--from", metavar="STORE", help="A store of conversations, made with the tokenizer `bytes`.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Directory for model and tokenizer.")],
    vocabulary: Annotated[int, typer.Option("--vocabulary", min=1, help="Size of the vocabulary.")] = 704,
    hidden_size: Annotated[int, typer.Option("--hidden-size", min=1, help="Width, a multiple of 12.")] = 192,
    layers: Annotated[int, typer.Option("--layers", min=1, help="Layers of the model.")] = 4,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the weights.")] = 0,
) -> None:
    """Make a model to begin training from: Qwen3's architecture, small, with random weights.

    Its tokenizer merges the byte pairs that are frequent in the conversations of --from.
    """
    from swe_aem.train.start import quiet

    quiet()
    from swe_aem.core.settings import check
    from swe_aem.train import tiny_model

    size = {"vocabulary": vocabulary, "hidden_size": hidden_size, "layers": layers, "seed": seed}
    config = check(tiny_model.TinyModelConfig, size)
    made = tiny_model.init_tiny_model(store, out, config)
    typer.echo(f"{out}: {made['parameters']:,} parameters, {made['tokens']} token ids")
