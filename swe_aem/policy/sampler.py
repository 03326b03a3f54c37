"""`Sampler`: the thread that samples a model in this process, and the queue of what it is asked.

    queue: request request UPDATE request ...      join what waits, a token for every row, answer what is done, again

Requests join and leave between two tokens (continuous batching). What stands before an update in the queue is finished
with the old weights, what stands behind it begins with the new ones, so no response has two versions.
"""

import os
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch

from swe_aem.core import Completion, SamplingParams
from swe_aem.errors import PolicyError
from swe_aem.policy.prefix_cache import PrefixCache
from swe_aem.policy.sampling import BatchRow, SamplingBatch

_PREFIX_BYTES = 1 << 28


@dataclass(eq=False)
class _Request:
    row: BatchRow
    answer: "Future[Completion]"
    """Cancelled where nobody waits for it any more, which the row asks."""


@dataclass(eq=False)
class _Update:
    weights: Mapping[str, Any]
    version: int
    answer: "Future[None]" = field(default_factory=Future)


class Sampler:
    """Starts its thread with the first request; `close` ends it."""

    def __init__(self, model: Any, name: str, *, max_batch: int, gather_s: float) -> None:
        """See `TransformersPolicy`."""
        self.version = 0
        self._model = model.eval()
        self._name = name
        self._max_batch = max_batch
        self._gather_s = gather_s
        self._prefixes = PrefixCache(_PREFIX_BYTES)
        self._batch = SamplingBatch(model, self._prefixes)
        self._asked: list[_Request] = []
        """What is being sampled."""
        self._update: _Update | None = None
        """Next, as soon as nothing is being sampled."""
        self._queue: queue.SimpleQueue[_Request | _Update | None] = queue.SimpleQueue()
        self._closed = False
        self._thread: threading.Thread | None = None

    def submit(self, prompt_ids: Sequence[int], params: SamplingParams) -> "Future[Completion]":
        """Cancel the future to have it sampled no further."""
        answer: Future[Completion] = Future()
        self._put(_Request(BatchRow(list(prompt_ids), params, answer.cancelled), answer))
        return answer

    def update(self, weights: Mapping[str, Any], version: int) -> "Future[None]":
        """Done when the weights are loaded; the mapping is read until then."""
        update = _Update(weights, version)
        self._put(update)
        return update.answer

    def close(self) -> None:
        """Wait for the thread to end; whatever has no answer yet gets a `PolicyError`."""
        self._closed = True
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()

    def _put(self, item: _Request | _Update) -> None:
        if self._closed:
            raise PolicyError(f"the policy {self._name} is closed")
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="sampling", daemon=True)
            self._thread.start()
        self._queue.put(item)

    def _serve(self) -> None:
        torch.set_num_threads(min(torch.get_num_threads(), max(1, _cores() - 1)))  # of this thread alone
        while not self._closed:
            fresh = self._arrivals() if self._update is None else []
            try:
                self._go_on(fresh)
            except Exception as error:  # whatever the model raises belongs to the callers, and the thread goes on
                self._fail("failed", error)
        self._fail("was closed")
        while not self._queue.empty():
            if (item := self._queue.get()) is not None:
                self._refuse(item, "was closed")

    def _arrivals(self) -> list[BatchRow]:
        """What may join now, up to the next update. Where nothing is being sampled, waits for a first one and a little
        for others to be read together with it."""
        rows: list[BatchRow] = []
        until_s = time.monotonic() if self._batch.rows else None
        while len(self._batch.rows) + len(rows) < self._max_batch:
            try:
                item = self._queue.get(timeout=None if until_s is None else max(0.0, until_s - time.monotonic()))
            except queue.Empty:
                break
            if until_s is None:
                until_s = time.monotonic() + self._gather_s
            if not isinstance(item, _Request):
                self._update = item
                break
            self._asked.append(item)
            rows.append(item.row)
        return rows

    def _go_on(self, fresh: list[BatchRow]) -> None:
        """A token for every row, or the update if there are none."""
        if fresh:
            self._batch.join(fresh)
        elif self._batch.rows:
            self._batch.step()
        elif self._update is not None:
            self._load(self._update)
            self._update = None
        for request in [one for one in self._asked if one.row.done]:
            self._asked.remove(request)
            self._answer(request)

    def _load(self, update: _Update) -> None:
        self._prefixes.clear()
        try:
            self._model.load_state_dict(update.weights)
        except Exception as error:
            self._refuse(update, "did not take the weights", error)
            return
        self.version = update.version
        with suppress(InvalidStateError):
            update.answer.set_result(None)

    def _answer(self, request: _Request) -> None:
        row = request.row
        if request.answer.cancelled():
            return
        completion = Completion(
            token_ids=tuple(row.token_ids),
            logprobs=tuple(row.logprobs),
            finish_reason="stop" if row.stopped else "length",
            version=self.version,
        )
        with suppress(InvalidStateError):  # cancelled just now
            request.answer.set_result(completion)

    def _fail(self, what: str, cause: Exception | None = None) -> None:
        """End what is being sampled."""
        self._batch = SamplingBatch(self._model, self._prefixes)
        while self._asked:
            self._refuse(self._asked.pop(), what, cause)
        if self._closed and self._update is not None:
            self._refuse(self._update, what)

    def _refuse(self, item: _Request | _Update, what: str, cause: Exception | None = None) -> None:
        error = PolicyError(f"the policy {self._name} {what}{f': {cause!r}' if cause else ''}")
        error.__cause__ = cause
        with suppress(InvalidStateError):
            item.answer.set_exception(error)


def _cores() -> int:
    """That this process may use. One of them is for the event loop and what runs in sandboxes."""
    return len(os.sched_getaffinity(0))
