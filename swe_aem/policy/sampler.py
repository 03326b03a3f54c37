"""`Sampler`: a thread that samples a model in this process, with a queue of requests and updates of the weights.

    queue: request request UPDATE request ...      loop: join waiting requests, sample a token per row, answer done rows

Requests join and leave between two tokens (continuous batching). Requests before an update in the queue are finished
with the old weights; requests after it begin with the new ones. So no response has two versions.
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
from swe_aem.policy.row_cache import keeps_rows
from swe_aem.policy.sampling import BatchRow, OneByOneBatch, SamplingBatch

_PREFIX_BYTES = 1 << 28
"""Bound of the prefix cache."""


@dataclass(eq=False)
class _Request:
    row: BatchRow
    answer: "Future[Completion]"
    """The future of the caller. A caller that stops waiting cancels it, and the row checks that."""


@dataclass(eq=False)
class _Update:
    weights: Mapping[str, Any]
    version: int
    answer: "Future[None]" = field(default_factory=Future)


class Sampler:
    """Samples in a thread, which starts with the first request; `close` ends it."""

    def __init__(self, model: Any, name: str, *, max_batch: int, gather_s: float) -> None:
        """`max_batch` bounds the requests sampled together. `gather_s` is how long the first request waits for
        others."""
        self.version = 0
        self._model = model.eval()
        self._name = name
        self._max_batch = max_batch
        self._gather_s = gather_s
        self._prefixes = PrefixCache(_PREFIX_BYTES)
        self._side_by_side = keeps_rows(self._model)
        self._batch = self._new_batch()
        self._asked: list[_Request] = []
        """Requests that are being sampled."""
        self._update: _Update | None = None
        """The next update of the weights, applied as soon as nothing is being sampled."""
        self._queue: queue.SimpleQueue[_Request | _Update | None] = queue.SimpleQueue()
        self._closed = False
        self._thread: threading.Thread | None = None

    def submit(self, prompt_ids: Sequence[int], params: SamplingParams) -> "Future[Completion]":
        """Queue a request. Cancelling the future stops its sampling."""
        answer: Future[Completion] = Future()
        self._put(_Request(BatchRow(list(prompt_ids), params, answer.cancelled), answer))
        return answer

    def update(self, weights: Mapping[str, Any], version: int) -> "Future[None]":
        """Queue an update of the weights. The future is done when they are loaded; the mapping is read until then."""
        update = _Update(weights, version)
        self._put(update)
        return update.answer

    def close(self) -> None:
        """Wait for the thread to end. Requests and updates without an answer get a `PolicyError`."""
        self._closed = True
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()

    def _new_batch(self) -> SamplingBatch | OneByOneBatch:
        return SamplingBatch(self._model, self._prefixes) if self._side_by_side else OneByOneBatch(self._model)

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
                self._step(fresh)
            except Exception as error:  # the callers get whatever the model raises, and the thread continues
                self._fail("failed", error)
        self._fail("was closed")
        while not self._queue.empty():
            if (item := self._queue.get()) is not None:
                self._refuse(item, "was closed")

    def _arrivals(self) -> list[BatchRow]:
        """Requests that may join now, up to the next update. If nothing is being sampled, wait for a first request, and
        then for `gather_s` for others whose prompts are read together with it."""
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

    def _step(self, fresh: list[BatchRow]) -> None:
        """Sample a token for every row, or load the update if there are no rows."""
        if fresh:
            self._batch.join(fresh)
        elif self._batch.rows:
            self._batch.step()
        elif self._update is not None:
            self._load(self._update)
            self._update = None
        for request in [request for request in self._asked if request.row.done]:
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
        """Fail every request that is being sampled."""
        self._batch = self._new_batch()
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
    """CPU cores that this process may use. The caller leaves one to the event loop and to sandboxes."""
    return len(os.sched_getaffinity(0))
