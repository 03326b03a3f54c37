"""`swe-aem name-tokenizer`: say which tokenizer a store of an older version was rolled out with."""

from pathlib import Path
from typing import Annotated

import typer

from swe_aem.cli.options import Store

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(epilog="Example: swe-aem name-tokenizer runs/old --tokenizer ./Qwen3-8B")
def name(
    directory: Store,
    tokenizer: Annotated[
        Path, typer.Option("--tokenizer", metavar="DIR|FILE|bytes", help="The one that the store was rolled out with.")
    ],
) -> None:
    """Write a tokenizer's fingerprint into a store that has none, for an older version wrote it.

    Whatever reads token ids (sft, diagnose, replay, init-tiny-model, a rerun) refuses a store without one. You vouch
    for the tokenizer: this command checks only that it has all the ids of the store.
    """
    from swe_aem.policy import BYTE_TOKENIZER_NAME
    from swe_aem.rollout import name_tokenizer

    path = None if str(tokenizer) == BYTE_TOKENIZER_NAME else str(tokenizer)
    typer.echo(f"{directory}: tokenizer {name_tokenizer(directory, path)}")
