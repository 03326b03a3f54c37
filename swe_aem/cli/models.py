"""`swe-aem models`: do a model's own files fit the chat format that rollouts would use?"""

from pathlib import Path
from typing import Annotated, Any

import typer

from swe_aem.cli.options import Json

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    help="Check a model's files, and list the model families.",
)


@app.command()
def check(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the model, or its tokenizer.json.")],
    family: Annotated[
        str | None, typer.Option("--family", help="Model family; chosen from the files if it is left out.")
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Random conversations for each property.")] = 20,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the conversations.")] = 0,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of the chat format, e.g. enable_thinking=false."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check that prompts and responses of a model are what rollouts take them for. Needs no weights and no GPU.

    Chooses the model family, compares prompts with the model's own chat template id by id, and plays random
    conversations: each prompt continues the exact ids before it, calls come back as they were written, and no text of a
    repository forges a control token. rollout and train begin with the second of this that needs no more time.

    Example: swe-aem models check ./Qwen3-8B    Exit code 1 if something fails.
    """
    from swe_aem.agent import RendererConfig
    from swe_aem.cli.findings import exit_code, finding_lines, verdict
    from swe_aem.core.settings import load
    from swe_aem.models import check_model

    named: dict[str, Any] = {} if family is None else {"family": family}
    findings = check_model(model, load(RendererConfig, None, named, assignments or ()), rounds=rounds, seed=seed)
    for line in finding_lines(findings, as_json=as_json):
        typer.echo(line)
    if not as_json:
        typer.echo(f"\n{model}: {verdict(findings)}")
    raise typer.Exit(exit_code(findings))


@app.command("ls")
def list_families() -> None:
    """List the model families, built in or installed; `swe-aem docs models` says what was run with each.

    Example: swe-aem models ls
    """
    from swe_aem.agent.families import AUTO, MODEL_FAMILIES

    for name in MODEL_FAMILIES.names:
        if name != AUTO:
            typer.echo(name)
