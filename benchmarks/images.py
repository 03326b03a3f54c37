"""An image as a tree, and packed as squashfs and as EROFS: size, time to make and to have ready, starts, commands.

    uv run python benchmarks/images.py --json images.json

Needs root, docker with the image, bubblewrap, and Debian's squashfs-tools and erofs-utils. The forms take turns in
every round; figures are medians over the rounds. What is made lies below a temporary directory.
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any, get_args

from report import machine

from swe_aem.core import Limits, SandboxSpec
from swe_aem.sandbox.bubblewrap import BubblewrapBackend
from swe_aem.sandbox.images.engine import connect
from swe_aem.sandbox.images.ledger import Ledger
from swe_aem.sandbox.images.pack.packer import Packer
from swe_aem.sandbox.images.pack.registry import RegistryClient
from swe_aem.sandbox.images.sizes import size
from swe_aem.sandbox.images.unpack import unpack
from swe_aem.sandbox.packed import PackedDir, PackFormat
from swe_aem.sandbox.packed_mounts import PackedMounts
from swe_aem.table import table

IMPORTS = "python3 -c 'import pytest, json, asyncio, email, http.server'"
NO_LIMITS = Limits(memory_bytes=None, cpus=None, pids=None, disk_bytes=None)


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Measure an image as a tree and packed.")
    parser.add_argument(
        "--image", default="swe-aem/micro:1", help="an image of the docker engine with Python and pytest"
    )
    parser.add_argument("--rounds", type=int, default=10, help="starts of each form (default 10)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write one object per form")
    return parser.parse_args(words)


async def timed(work: Awaitable[Any]) -> tuple[float, Any]:
    """Seconds that something takes, and its result."""
    began_s = time.monotonic()
    result = await work
    return time.monotonic() - began_s, result


async def make(image: str, work: Path) -> tuple[dict[str, Path], list[dict[str, Any]]]:
    """Make every form of the image: its root by form, and a row with size and times for each."""
    rows = []
    async with connect() as engine, RegistryClient() as client:
        made_s, unpacked = await timed(unpack(engine, Ledger.of_roots(), image))
        entries = sum(len(names) + len(files) for _, names, files in os.walk(unpacked.path))
        rows.append({"form": "tree", "bytes": unpacked.size_bytes, "entries": entries, "made_s": made_s})
        roots = {"tree": unpacked.path}
        for form in get_args(PackFormat):
            packer = Packer(PackedDir(work / form), client, form)
            made_s, (packed, _) = await timed(packer.from_engine(engine, image))
            times, mounts = [], PackedMounts()
            for _ in range(5):
                mounted_s, _ = await timed(mounts.mounted(packer.packed.file(packed)))
                times.append(mounted_s)
                await mounts.release()
            roots[form] = (await PackedMounts().mounted(packer.packed.file(packed))).path
            facts = {"form": form, "bytes": packed.size_bytes, "entries": 1, "made_s": made_s}
            rows.append({**facts, "ready_ms": 1000 * statistics.median(times)})
    return roots, rows


async def start(root: Path, image: str) -> tuple[float, float]:
    """Milliseconds of a sandbox's start up to its first command, and of a command that reads many files."""
    spec = SandboxSpec(image=image, workdir="/root", limits=NO_LIMITS, ttl_s=600)
    began_s = time.monotonic()
    async with BubblewrapBackend(root).open(spec) as sandbox:
        await sandbox.run("true", timeout_s=60)
        started_s = time.monotonic()
        done = await sandbox.run(IMPORTS, timeout_s=60)
        assert done.exit_code == 0, done.output
        return 1000 * (started_s - began_s), 1000 * (time.monotonic() - started_s)


async def measure(image: str, rounds: int, work: Path) -> list[dict[str, Any]]:
    """One row for each form."""
    roots, rows = await make(image, work)
    samples: dict[str, list[tuple[float, float]]] = {form: [] for form in roots}
    for number in range(rounds):
        order = list(roots)[number % len(roots) :] + list(roots)[: number % len(roots)]
        for form in order:
            samples[form].append(await start(roots[form], image))
    for row in rows:
        starts, commands = zip(*samples[row["form"]], strict=True)
        row |= {"start_ms": statistics.median(starts), "command_ms": statistics.median(commands)}
    await PackedMounts().sweep()
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """Print the rows as a table."""
    head = ("form", "size", "files", "made", "mounted", "start", "command")
    lines = [
        (
            row["form"],
            size(row["bytes"]),
            str(row["entries"]),
            f"{row['made_s']:.1f} s",
            f"{row['ready_ms']:.0f} ms" if "ready_ms" in row else "",
            f"{row['start_ms']:.0f} ms",
            f"{row['command_ms']:.0f} ms",
        )
        for row in rows
    ]
    for line in table([head, *lines], align="<>>>>>>"):
        print(line)


def main() -> None:
    """Measure and show."""
    chosen = arguments()
    print(json.dumps(machine()))
    with tempfile.TemporaryDirectory(prefix="swe-aem-images-") as work:
        os.environ["SWE_AEM_CACHE"] = str(Path(work) / "cache")
        rows = asyncio.run(measure(chosen.image, chosen.rounds, Path(work)))
    show(rows)
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
