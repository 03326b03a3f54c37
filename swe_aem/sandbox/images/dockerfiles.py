"""Images built from directories with a Dockerfile, by the engine's own `build`: several at once, each with a limit.

The command, and not the engine's API: it reads .dockerignore, and what BuildKit adds to Dockerfiles.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from swe_aem.core.base import Frozen
from swe_aem.errors import UserError
from swe_aem.sandbox.engines import EngineName
from swe_aem.sandbox.images.engine import Engine
from swe_aem.sandbox.images.ledger import Ledger, LedgerEntry

_LINES = 5
"""Lines of a failed build's output that say why."""


class ToBuild(NamedTuple):
    """An image and the directory that it is built from."""

    image: str
    context: Path
    """Directory with a Dockerfile."""


class Built(Frozen):
    """What became of one image."""

    image: str
    status: Literal["built", "present", "failed"]
    why: str = ""
    """Why it failed: the end of the build's output."""
    wall_s: float = 0.0


async def build_all(
    engine: Engine,
    wanted: Iterable[ToBuild],
    *,
    jobs: int,
    limit_s: float,
    done: Callable[[Built], None] = lambda built: None,
) -> list[Built]:
    """Build the images that the engine does not have, `jobs` at once, and report each to `done` as it ends.

    One failure does not stop the others. Raises `UserError` if there is no such command.
    """
    ledger, places = Ledger.of_engine(engine.kind), asyncio.Semaphore(jobs)

    async def one(item: ToBuild) -> Built:
        async with places:
            built = await _build(engine, ledger, item, limit_s)
        done(built)
        return built

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(item)) for item in wanted]
    return [task.result() for task in tasks]


async def _build(engine: Engine, ledger: Ledger, item: ToBuild, limit_s: float) -> Built:
    if await engine.inspect(item.image) is not None:
        return Built(image=item.image, status="present")
    started = time.monotonic()
    problem = await _run(engine.kind.name, item, limit_s)
    image = await engine.inspect(item.image)
    wall_s = time.monotonic() - started
    if problem is None and image is None:
        problem = "the build ended well and made no such image"
    if problem is not None or image is None:
        return Built(image=item.image, status="failed", why=problem or "", wall_s=wall_s)
    ledger.record(LedgerEntry(name=item.image, origin="build", image_id=image.id, size_bytes=image.size_bytes))
    return Built(image=item.image, status="built", wall_s=wall_s)


async def _run(engine: EngineName, item: ToBuild, limit_s: float) -> str | None:
    """Why the build failed; None if it did not."""
    command = (engine, "build", "--force-rm", "--tag", item.image, str(item.context))
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except FileNotFoundError:
        raise UserError(
            f"there is no {engine} command here: install the engine's client (on Debian `apt-get install "
            f"{'docker.io' if engine == 'docker' else engine}`)"
        ) from None
    try:
        async with asyncio.timeout(limit_s):
            output, _ = await process.communicate()
    except TimeoutError:
        return f"not built after {limit_s:g} s"
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    if process.returncode == 0:
        return None
    lines = [line.strip() for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
    return " | ".join(lines[-_LINES:]) or f"exit code {process.returncode}"
