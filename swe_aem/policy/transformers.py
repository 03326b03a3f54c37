"""A policy in this process: a Hugging Face model, with requests of concurrent agents sampled together.

A collector task waits for a request, gives others a few milliseconds to join, and hands the batch to the one thread
that samples. For small models, tests and machines without a server; a served model is faster (`completions`).
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swe_aem.errors import PolicyError, UserError
from swe_aem.nouns import Completion, SamplingParams
from swe_aem.policy.errors import ContextOverflow

if TYPE_CHECKING:
    from swe_aem.policy.sampling import Row


@dataclass(eq=False)
class _Request:
    prompt_ids: list[int]
    params: SamplingParams
    answer: "asyncio.Future[Completion]"
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set by the caller's thread, read by the sampling thread between two tokens."""


class TransformersPolicy:
    """Samples `model`, a Hugging Face causal language model, for any number of trajectories at once."""

    def __init__(self, model: Any, *, name: str, max_batch: int = 16, gather_s: float = 0.005) -> None:
        """`max_batch` bounds the requests sampled together; `gather_s` is how long the first waits for others."""
        self.name = name
        self.version = 0
        """Stamped on completions as of when their sampling began; whoever changes the weights sets it."""
        self._model = model.eval()
        self._max_batch = max_batch
        self._gather_s = gather_s
        self._max_model_tokens = int(model.config.max_position_embeddings)
        self._vocabulary = int(model.config.vocab_size)
        self._waiting: asyncio.Queue[_Request] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sampling")
        self._collector: asyncio.Task[None] | None = None
        self._closed = False

    async def sample(self, prompt_ids: Sequence[int], params: SamplingParams, *, trajectory_id: str) -> Completion:
        """See `nouns.Policy`. Raises `ContextOverflow` if the prompt fills the model's context."""
        if self._closed:
            raise PolicyError(f"the policy {self.name} is closed")
        request = _Request(self._checked(prompt_ids), self._fitted(prompt_ids, params), _new_future())
        self._waiting.put_nowait(request)
        if self._collector is None:
            self._collector = asyncio.create_task(self._collect())
        try:
            return await request.answer
        finally:
            request.cancelled.set()

    async def update(self, weights: Mapping[str, Any], version: int) -> None:
        """Take over the weights of a state dict of the same model, between two batches: no response has two versions.

        The dict is read until this returns.
        """

        def load() -> None:
            self._model.load_state_dict(weights)
            self.version = version

        await asyncio.get_running_loop().run_in_executor(self._thread, load)

    async def close(self) -> None:
        """Drop what waits and what is being sampled; requests that wait get a `PolicyError`."""
        self._closed = True
        if self._collector is not None:
            self._collector.cancel()
            with suppress(asyncio.CancelledError):
                await self._collector
            self._collector = None
        while not self._waiting.empty():
            self._fail([self._waiting.get_nowait()], "was closed")
        await asyncio.to_thread(self._thread.shutdown)

    def _checked(self, prompt_ids: Sequence[int]) -> list[int]:
        if not prompt_ids or max(prompt_ids) >= self._vocabulary:
            raise UserError(
                f"the prompt has the token id {max(prompt_ids, default=None)}, but the model {self.name} has "
                f"{self._vocabulary} ids; use the model's own tokenizer"
            )
        return list(prompt_ids)

    def _fitted(self, prompt_ids: Sequence[int], params: SamplingParams) -> SamplingParams:
        room = self._max_model_tokens - len(prompt_ids)
        if room < 1:
            raise ContextOverflow(f"{len(prompt_ids)} prompt tokens fill the model's {self._max_model_tokens}")
        return params.model_copy(update={"max_tokens": min(params.max_tokens, room)})

    async def _collect(self) -> None:
        """Gather and sample batches until cancelled."""
        while True:
            batch = [await self._waiting.get()]
            try:
                await self._gather(batch)
                await self._sample(batch)
            except asyncio.CancelledError:
                self._fail(batch, "was closed")
                raise

    async def _gather(self, batch: list[_Request]) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._gather_s):
                while len(batch) < self._max_batch:
                    batch.append(await self._waiting.get())

    async def _sample(self, batch: list[_Request]) -> None:
        from swe_aem.policy.sampling import Row, sample_batch

        rows = [Row(request.prompt_ids, request.params, request.cancelled.is_set) for request in batch]

        def sample() -> int:
            version = self.version  # read here: what the thread does next decides, not what was asked of it
            sample_batch(self._model, rows)
            return version

        try:
            version = await asyncio.get_running_loop().run_in_executor(self._thread, sample)
        except Exception as error:  # whatever the model raises belongs to the callers, and the collector goes on
            self._fail(batch, "failed", error)
            return
        for request, row in zip(batch, rows, strict=True):
            if not request.answer.done():
                request.answer.set_result(_completion(row, version))

    def _fail(self, batch: list[_Request], what: str, cause: Exception | None = None) -> None:
        for request in batch:
            request.cancelled.set()
            if not request.answer.done():
                error = PolicyError(f"the policy {self.name} {what}{f': {cause!r}' if cause else ''}")
                error.__cause__ = cause
                request.answer.set_exception(error)


def _completion(row: "Row", version: int) -> Completion:
    return Completion(
        token_ids=tuple(row.token_ids),
        logprobs=tuple(row.logprobs),
        finish_reason="stop" if row.stopped else "length",
        version=version,
    )


def _new_future() -> "asyncio.Future[Completion]":
    return asyncio.get_running_loop().create_future()


@asynccontextmanager
async def open_transformers(directory: Path, *, device: str = "cpu") -> AsyncIterator[TransformersPolicy]:
    """The model of a directory (config and safetensors, float32), for the length of an `async with`."""
    model = await asyncio.to_thread(_load, directory, device)
    policy = TransformersPolicy(model, name=_name(directory))
    try:
        yield policy
    finally:
        await policy.close()


def _name(directory: Path) -> str:
    return directory.resolve().name


def _load(directory: Path, device: str) -> Any:
    try:
        import torch
        from transformers import AutoModelForCausalLM
    except ImportError as error:
        raise UserError("a policy from a directory needs torch: install swe-aem[transformers]") from error
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, local_files_only=True)
    except (OSError, ValueError) as error:
        raise UserError(f"{directory}: no model that transformers can load: {error}") from error
    return model.to(device)
