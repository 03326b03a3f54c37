"""`swe-aem recompute-rewards`: stored trajectories under another reward."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swe_aem.cli.options import as_setting, complete_reward
from swe_aem.table import table

if TYPE_CHECKING:
    from swe_aem.rollout.recompute import Recomputed

app = typer.Typer(rich_markup_mode=None, add_completion=False)

_EXAMPLES = """\b
Examples:
  swe-aem recompute-rewards runs/qwen --reward fraction
      what would the trajectories of this store be paid? Nothing is written
  swe-aem recompute-rewards runs/qwen --reward my_reward.py:brevity --out runs/qwen-brevity
      a new store with these rewards, which `swe-aem rollout` resumes with the same --reward
  swe-aem recompute-rewards runs/grpo --reward my_reward.py:brevity --out runs/grpo-fixed
      a training run that ended because its reward function raised, once that is fixed

\b
A store never holds rewards of two functions, or of two versions of one, so --out must be new. Kept logs
and checkpoints are linked where the file system can do that. More: swe-aem docs extend/reward
"""


@app.command(epilog=_EXAMPLES)
def recompute(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The --out of a rollout, or a training run.")],
    reward: Annotated[
        str,
        typer.Option(
            "--reward",
            metavar="NAME|{...}",
            help="As for `swe-aem rollout`: a name, file.py:function, or a mapping.",
            autocompletion=complete_reward,
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", help="New directory; without it nothing is written.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> None:
    """Give stored trajectories the rewards of another function; runs no sandbox and no policy.

    Outcomes and verdicts stay as they are, and with them everything that the outcome table decides.
    Trajectories whose reward function failed, in the folder `unrewarded` of a store, get theirs.
    """
    from swe_aem.rollout.recompute import recompute_rewards
    from swe_aem.train.recompute import is_run, recompute_run

    setting = as_setting(reward)
    found = (recompute_run if is_run(directory) else recompute_rewards)(directory, setting, out)
    if as_json:
        typer.echo(found.model_dump_json())
        return
    for line in _lines(found):
        typer.echo(line)
    if out is not None:
        typer.echo(f"written into {out}")


def _lines(found: "Recomputed") -> list[str]:
    had = f", {found.unrewarded} of which had none" if found.unrewarded else ""
    rows = [
        ("mean reward", _number(found.mean_before), _number(found.mean_after)),
        ("zero-variance groups", str(found.zero_variance_before), str(found.zero_variance_after)),
        *((f"mean of {name}", "-", _number(value)) for name, value in found.terms.items()),
    ]
    return [
        f"{found.trajectories} trajectories with a reward{had}, {found.groups} groups; {found.changed} rewards change",
        *table(rows, head=("", "before", "after"), indent=2),
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
