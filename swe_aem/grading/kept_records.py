"""`KeptRecords`: what controls found out about tasks, each measured once and kept in the cache."""

import asyncio
import hashlib
import json
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ValidationError

from swe_aem.cache import cache_dir
from swe_aem.core import TaskRecord
from swe_aem.core.base import Frozen
from swe_aem.core.shared_work import SharedWork

R = TypeVar("R", bound=Frozen)


class KeptRecords(Generic[R]):
    """Records of one kind, below a directory of the cache.

    A control that has begun is finished and kept even if nobody waits for it any more. An async context manager, which
    ends the controls that still run.
    """

    def __init__(self, directory: str, model: type[R]) -> None:
        self._directory = directory
        self._model = model
        self._known: dict[str, R] = {}
        self._controls: SharedWork[R] = SharedWork()

    async def __aenter__(self) -> "KeptRecords[R]":
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._controls.__aexit__(*exc)

    async def kept(self, name: str, control: Callable[[], Awaitable[R]]) -> R:
        """The record of that name: from memory, from the cache, or what `control` returns; raises what it raises."""
        if name not in self._known:
            path = cache_dir() / self._directory / f"{name}.json"
            self._known[name] = await self._controls.of(name, lambda: self._measured(path, control))
        return self._known[name]

    async def _measured(self, path: Path, control: Callable[[], Awaitable[R]]) -> R:
        with suppress(FileNotFoundError, ValidationError):  # another version may have written it
            return self._model.model_validate_json(await asyncio.to_thread(path.read_bytes))
        record = await control()
        await asyncio.to_thread(_write, path, record.model_dump_json())
        return record


def digest_of(image: str, record: TaskRecord, *more: object) -> str:
    """A name for what depends on an image, by its digest, on a task's tree, gold patch and tests, and on `more`."""
    key, start = record.key, [record.task.id, record.task.base_commit]
    gold = [key.gold_patch, key.gold_command, sorted((path, data.hex()) for path, data in key.gold_files.items())]
    tests = [key.test_patch, key.setup_patch, sorted((path, data.hex()) for path, data in key.files.items())]
    text = json.dumps([image, start, gold, tests, *more])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _write(path: Path, text: str) -> None:
    """Replace the file as a whole; a cache that cannot be written costs another control, later."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError:
        return
