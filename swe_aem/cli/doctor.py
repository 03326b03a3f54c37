"""`swe-aem doctor`: what is wrong with this host, and the command that fixes it."""

from typing import Annotated, Literal

import typer

app = typer.Typer(rich_markup_mode=None, add_completion=False)


@app.command(epilog="Example: swe-aem doctor --for docker. Exit code 1 if something that this purpose needs fails.")
def doctor(
    purpose: Annotated[
        Literal["rollout", "docker", "podman", "train"],
        typer.Option("--for", help="What must work: rollouts in bubblewrap, in docker or podman, or training on GPUs."),
    ] = "rollout",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per finding.")] = False,
) -> None:
    """Check this host: engines, kernel, control groups, disk, memory, versions, GPU, registries.

    Starts a sandbox of each kind to see whether one works. Each finding that is not ok names its fix.
    """
    from swe_aem.cli.findings import exit_code, finding_lines, verdict
    from swe_aem.doctor import Purpose, examine

    findings = examine(Purpose(purpose))
    for line in finding_lines(findings, as_json=as_json):
        typer.echo(line)
    if not as_json:
        typer.echo(f"\nfor {purpose}: {verdict(findings)}")
    raise typer.Exit(exit_code(findings))
