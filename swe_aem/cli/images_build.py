"""`swe-aem images build`: an image from a recipe, or those that a task set brings along."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from swe_aem.cli.images_pull import ImagesOfTasks, Mirrors, Selection, run
from swe_aem.cli.options import EngineOf, Ids, Limit, Split
from swe_aem.cli.tell import tell
from swe_aem.errors import UserError
from swe_aem.sandbox.engines import ENGINES, EngineName
from swe_aem.sandbox.images.sizes import size

if TYPE_CHECKING:
    from swe_aem.sandbox.images.dockerfiles import Built
    from swe_aem.sandbox.images.engine import Engine
    from swe_aem.sandbox.images.recipes import ImageRecipe
    from swe_aem.tasks import TaskSet

_From = Literal["auto", "registry", "packages"]


def build(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME|DIR", help="A recipe of sandboxes/, e.g. micro, or a directory with a build.sh."),
    ] = None,
    tasks: ImagesOfTasks = None,
    split: Split = None,
    ids: Ids = None,
    limit: Limit = None,
    base: Annotated[
        _From,
        typer.Option("--from", help="A registry's base image, Debian packages (by debootstrap), or what works."),
    ] = "auto",
    mirror: Mirrors = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="With --tasks: builds at once.")] = 2,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=1, help="With --tasks: seconds that one build may take.")
    ] = 3600.0,
    engine: EngineOf = "docker",
) -> None:
    """Build an image from a recipe, or those that a task set brings along.

    A recipe starts from a registry's base image where there is one, else from Debian packages. With --tasks, the
    images are built that Harbor task folders describe (environment/Dockerfile) or that a recipe makes. Repeat the
    command to resume: what the engine has is not built again. Exit code 1 if a build failed; the others are built.

    Example: swe-aem images build micro
    """
    if (name is None) == (tasks is None):
        raise UserError("say what to build: a recipe, e.g. `swe-aem images build micro`, or --tasks SET")
    if name is not None:
        from swe_aem.sandbox.images.recipes import find_recipe

        run(_build(engine, find_recipe(name), base, mirror or []))
    elif tasks is not None:
        task_set = Selection(tasks=tasks, split=split, ids=ids, limit=limit).task_set(tasks)
        raise typer.Exit(run(_build_set(engine, task_set, base, mirror or [], jobs, timeout_s)))


async def _build_set(
    name: EngineName, tasks: "TaskSet", base: _From, mirrors: list[str], jobs: int, limit_s: float
) -> int:
    """Build what the set needs and can be built; the exit code."""
    from swe_aem.sandbox.images.dockerfiles import ToBuild, build_all
    from swe_aem.sandbox.images.engine import connect
    from swe_aem.sandbox.images.recipes import recipe_of

    needed = list(dict.fromkeys(record.task.image for record in tasks))
    wanted = [ToBuild(image, tasks.builds[image]) for image in needed if image in tasks.builds]
    recipes = {image: recipe for image in needed if image not in tasks.builds and (recipe := recipe_of(image))}
    others = [image for image in needed if image not in tasks.builds and image not in recipes]
    if not wanted and not recipes:
        raise UserError(
            f"{tasks.name}: none of its {len(others)} images is built here; {_instead(name, tasks, others)}"
        )
    ended: list[Built] = []

    def done(built: "Built") -> None:
        ended.append(built)
        if built.status != "present":
            why = f": {built.why}" if built.why else f" in {built.wall_s:.0f} s"
            typer.echo(f"[{len(ended)} of {len(wanted)}] {built.image} {built.status}{why}")

    async with connect(ENGINES[name]) as engine:
        missing = [recipe for image, recipe in recipes.items() if await engine.inspect(image) is None]
        for recipe in missing:
            await _build(name, recipe, base, mirrors)
        await build_all(engine, wanted, jobs=jobs, limit_s=limit_s, done=done)
    counts = {status: sum(built.status == status for built in ended) for status in ("built", "present", "failed")}
    counts["built"] += len(missing)
    counts["present"] += len(recipes) - len(missing)
    typer.echo(f"{counts['built']} built, {counts['present']} were there, {counts['failed']} failed")
    if others:
        typer.echo(f"{len(others)} more images are not built here; {_instead(name, tasks, others)}")
    return 1 if counts["failed"] else 0


def _instead(engine: EngineName, tasks: "TaskSet", images: list[str]) -> str:
    """How the engine gets images of a set that are not built."""
    from swe_aem.sandbox.images.names import BUILT_HERE
    from swe_aem.sandbox.images.recipes import how_to_get, of_engine

    if all(image.startswith(BUILT_HERE) for image in images):
        return f"get {images[0]} with {how_to_get(images[0], engine)}"
    return f"`swe-aem images pull --tasks {tasks.name}{of_engine(engine)}` pulls them"


async def _build(name: EngineName, recipe: "ImageRecipe", base: _From, mirrors: list[str]) -> None:
    from swe_aem.sandbox.images.engine import connect
    from swe_aem.sandbox.images.recipes import build as build_recipe

    async with connect(ENGINES[name]) as engine:
        from_registry = base != "packages" and await _has_bases(engine, recipe, base, mirrors)
        if base == "registry" and not from_registry:
            raise UserError(f"{recipe.directory} cannot be built from a registry; use --from packages or a --mirror")
        tell(f"building {recipe.image} from {'a registry' if from_registry else 'Debian packages'}")
        await build_recipe(recipe, name, from_registry=from_registry)
        image = await engine.inspect(recipe.image)
    if image is None:
        raise UserError(f"{recipe.directory}/build.sh made no image {recipe.image}; let it tag what it builds so")
    typer.echo(f"{recipe.image}  {image.id}  {size(image.size_bytes)}")


async def _has_bases(engine: "Engine", recipe: "ImageRecipe", base: _From, mirrors: list[str]) -> bool:
    """Pull the recipe's base images; False, and the reasons are told, if one cannot be had."""
    from swe_aem.sandbox.images.ledger import Ledger
    from swe_aem.sandbox.images.pull import PullConfig, Puller
    from swe_aem.sandbox.images.recipes import GLANCE
    from swe_aem.sandbox.images.registries import load_credentials, load_registries

    if not recipe.bases:
        return False
    puller = Puller(
        engine,
        Ledger.of_engine(engine.kind),
        config=PullConfig() if base == "registry" else GLANCE,
        registries=load_registries(mirrors),
        credentials=load_credentials(),
    )
    failed = [result for result in await puller.pull_all(recipe.bases) if result.status == "failed"]
    for result in failed:
        tell(f"base image {result.reference}: {result.why}")
    return not failed
