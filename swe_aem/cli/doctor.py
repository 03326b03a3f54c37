"""`swe-aem doctor`: what is wrong with this host, and the command that fixes it."""

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from swe_aem.table import table

if TYPE_CHECKING:
    from swe_aem.doctor import Finding

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_MARKS = {"ok": "ok", "warn": "WARN", "fail": "FAIL"}


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
    from swe_aem.doctor import Level, Purpose, examine

    findings = examine(Purpose(purpose))
    for line in _json_lines(findings) if as_json else _lines(findings):
        typer.echo(line)
    failed = sum(finding.level is Level.FAIL for finding in findings)
    warned = sum(finding.level is Level.WARN for finding in findings)
    if not as_json:
        verdict = f"{failed} to fix" if failed else "ready"
        typer.echo(f"\nfor {purpose}: {verdict}" + (f", {warned} warnings" if warned else ""))
    raise typer.Exit(1 if failed else 0)


def _json_lines(findings: "Sequence[Finding]") -> Iterator[str]:
    for finding in findings:
        yield json.dumps(finding.model_dump(mode="json"))


def _lines(findings: "Sequence[Finding]") -> Iterator[str]:
    rows = []
    for finding in findings:
        rows.append((_MARKS[finding.level], finding.check, finding.found))
        if finding.fix:
            rows.append(("", "", f"-> {finding.fix}"))
    return table(rows)
