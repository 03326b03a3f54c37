"""Options that several verbs share, and what a shell completes for them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swe_aem.sandbox import SANDBOXES
from swe_aem.sandbox.engines import EngineName

if TYPE_CHECKING:
    from swe_aem.core import Limits


def complete_tasks(incomplete: str) -> list[str]:
    """The bundled task sets."""
    from swe_aem.tasks import bundled_sets

    return [name for name in bundled_sets() if name.startswith(incomplete)]


def complete_agent(incomplete: str) -> list[tuple[str, str]]:
    """Agents, and the scripts that may stand for one."""
    from swe_aem.harness import BUNDLED
    from swe_aem.policy import SCRIPTS, listed_scripts

    agents = [("native", "the loop of this package"), *((name, "a harness") for name in BUNDLED)]
    scripts = [(name, SCRIPTS[name].summary) for name in listed_scripts()]
    return [(name, help) for name, help in (*agents, *scripts) if name.startswith(incomplete)]


def complete_policy(incomplete: str) -> list[tuple[str, str]]:
    """Scripts; servers and models are for the person to type."""
    from swe_aem.policy import SCRIPTS, listed_scripts

    return [(name, SCRIPTS[name].summary) for name in listed_scripts() if name.startswith(incomplete)]


def complete_reward(incomplete: str) -> list[str]:
    """The built-in rewards, and those of installed packages."""
    from swe_aem.reward import REWARDS

    return [name for name in REWARDS.names if name.startswith(incomplete)]


def as_setting(text: str) -> Any:
    """A setting that is a name, or a mapping in YAML."""
    if not text.lstrip().startswith("{"):
        return text
    import yaml

    from swe_aem.core.explain import explain_yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise typer.BadParameter(f"{text}: {explain_yaml(error)}") from None


def complete_harness(incomplete: str) -> list[str]:
    """The bundled harnesses."""
    from swe_aem.harness import BUNDLED

    return [name for name in BUNDLED if name.startswith(incomplete)]


def complete_sandbox(incomplete: str) -> list[str]:
    """Sandboxes of this package and of installed extensions."""
    return [name for name in SANDBOXES.names if name.startswith(incomplete)]


TASKS_HELP = (
    "A bundled set (micro), a directory, a .jsonl, .json or .parquet file, or the id of a Hugging Face data set."
)

Tasks = Annotated[str, typer.Option("--tasks", metavar="SET", help=TASKS_HELP, autocompletion=complete_tasks)]
"""Where tasks come from."""

Split = Annotated[str | None, typer.Option("--split", help="One split of the set. [default: all; of the hub: test]")]
Family = Annotated[
    str | None,
    typer.Option(
        "--family",
        metavar="NAME",
        help="What reads the rows of your own data set: file.py:object, package.module:object, or a name.",
    ),
]
Ids = Annotated[list[str] | None, typer.Option("--id", metavar="ID", help="Only this task; repeat for more.")]
IdsFrom = Annotated[
    Path | None,
    typer.Option("--ids-from", help="Only the tasks of this file, as `swe-aem tasks select` writes it."),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many tasks.")]
Json = Annotated[bool, typer.Option("--json", help="JSON, one object per line, instead of text.")]
SANDBOX_HELP = "What commands run in: bubblewrap (no daemon), docker, podman, or one of your own."
Sandbox = Annotated[
    str,
    typer.Option(
        "--sandbox", metavar="NAME|{...}", help=SANDBOX_HELP, parser=as_setting, autocompletion=complete_sandbox
    ),
]
_POLICY_PANEL = "Agent and policy"
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="Name by which the server or API of --policy knows the model; chat:URL needs it.",
        rich_help_panel=_POLICY_PANEL,
    ),
]
ApiKeyEnv = Annotated[
    str | None,
    typer.Option(
        "--api-key-env",
        metavar="VARIABLE",
        help="Environment variable that holds the key of --policy; the key is never stored. "
        "[default: OPENAI_API_KEY for chat:URL, none for http://...]",
        rich_help_panel=_POLICY_PANEL,
    ),
]


EngineOf = Annotated[EngineName, typer.Option("--engine", help="The engine whose images these are.")]
NoTwins = Annotated[
    bool,
    typer.Option(
        "--no-twins",
        help="Do not try patches that pass with tests that contradict theirs: cheaper, and some cheats are paid.",
        show_default=False,
    ),
]
NoLimits = Annotated[
    bool, typer.Option("--no-limits", help="No limits but time: for hosts without a writable control group.")
]


def with_short_options(
    given: Mapping[str, Any],
    *,
    model: str | None = None,
    api_key_env: str | None = None,
    ids_from: Path | None = None,
    no_limits: bool = False,
    no_twins: bool = False,
) -> dict[str, Any]:
    """The settings of a rollout that were given, with those that its options of other names stand for."""
    settings = dict(given)
    named = {"model": model, "api_key_env": api_key_env}
    settings |= {f"policy.{name}": value for name, value in named.items() if value is not None}
    if ids_from is not None:
        from swe_aem.tasks.select import read_ids

        settings["ids"] = (*settings.get("ids", ()), *read_ids(ids_from))
    if no_limits:
        from swe_aem.core import Limits

        settings = {f"limits.{name}": None for name in Limits.model_fields} | settings
    if no_twins:
        settings["twins"] = False
    return settings


def complete_estimator(incomplete: str) -> list[str]:
    """Advantage estimators that are built in or installed."""
    from swe_aem.advantage.config import ADVANTAGES

    return [name for name in ADVANTAGES.names if name.startswith(incomplete)]


Estimator = Annotated[
    str,
    typer.Option(
        "--estimator",
        metavar="NAME",
        help="Advantage estimator: aem, empg, stare, max_rl, leave_one_out, group_mean, group_normalised, or your own "
        "as file.py:object.",
        autocompletion=complete_estimator,
    ),
]
EstimatorSettings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A setting of the estimator, e.g. lam=2; repeat for more."),
]
Store = Annotated[Path, typer.Argument(metavar="STORE", help="Directory of a rollout, its --out.")]


def limits(none: bool) -> "Limits":
    """The default limits of a sandbox, or none at all."""
    from swe_aem.core import Limits

    return Limits(**dict.fromkeys(Limits.model_fields)) if none else Limits()
