"""The process of the rollouts: `python -m swe_aem.train.rollout_side SOCKET WEIGHTS`, as `RolloutChild` starts it. A
`RolloutWorker` answers the requests of the trainer, each in a thread of its own.

It ends when it is asked to, when its socket is closed, or with the process that started it: trajectories are
cancelled, sandboxes closed, and the store is unlocked.
"""

import ctypes
import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

from swe_aem.runlog import forwarded_log
from swe_aem.train.directory import rollouts_claimed
from swe_aem.train.rollout_child import CLOSE_S
from swe_aem.train.rollout_messages import Line, Messages, Opening, Reply, Request, pickled_error
from swe_aem.train.rollout_process import share_cores
from swe_aem.train.rollout_worker import RolloutWorker
from swe_aem.train.start import quiet

_PR_SET_PDEATHSIG = 1


class _Side:
    """Answers requests until the trainer is gone or says that it is enough."""

    def __init__(self, messages: Messages, weights_fd: int) -> None:
        self._messages = messages
        self._weights_fd = weights_fd
        self._lifetime = ExitStack()
        self._opening: threading.Thread | None = None
        self._worker: RolloutWorker | None = None
        self._closing = False

    def run(self) -> None:
        """Answer requests to the end, and close what is open then."""
        end: Request | None = None
        for message, carried in self._messages:
            assert isinstance(message, Request)
            if message.method == "close":
                end = message
                break
            answering = threading.Thread(target=self._answer, args=(message, carried), daemon=True)
            if message.method == "open":
                self._opening = answering
            answering.start()
        _end_within(CLOSE_S)
        if end is None:
            self._close()
        else:
            self._reply(end, self._close)

    def open(self, opening: Opening) -> None:
        """Open sandboxes, store and policy; the store of a run that was killed is waited for."""
        sys.path[:] = opening.python_path
        config = opening.config

        def model() -> Any:
            quiet()
            import torch

            from swe_aem.train.models import load_trained

            if opening.torch_threads is not None:
                torch.set_num_threads(opening.torch_threads)
            share_cores(config)
            return load_trained(config)

        self._lifetime.enter_context(rollouts_claimed(opening.directory))
        worker = RolloutWorker(config, opening.directory, model, patient=opening.replaces, first=opening.first)
        self._worker = worker
        if self._closing:  # `_close` saw no worker
            worker.begin_closing()
        self._lifetime.enter_context(worker)

    def load(self, version: int) -> None:
        """Load the weights that are in the file."""
        import torch

        weights = torch.load(f"/proc/self/fd/{self._weights_fd}", mmap=True, map_location="cpu", weights_only=True)
        self._opened.load(weights, version)

    @property
    def _opened(self) -> RolloutWorker:
        assert self._worker is not None, "`open` comes first"
        return self._worker

    def _method(self, name: str) -> Callable[..., Any]:
        """A method of this object, of the worker, or of the control plane."""
        if name in ("open", "load"):
            return getattr(self, name)
        return getattr(self._opened if hasattr(RolloutWorker, name) else self._opened.control, name)

    def _answer(self, request: Request, carried: bytes) -> None:
        self._reply(request, lambda: self._method(request.method)(*pickle.loads(carried)))

    def _reply(self, request: Request, work: Callable[[], Any]) -> None:
        try:
            failed, carried = False, pickle.dumps(work())
        except BaseException as error:
            failed, carried = True, pickled_error(error)
        with suppress(OSError):  # nobody waits for it any more
            self._messages.send(Reply(request.number, failed), carried)

    def _close(self) -> None:
        self._closing = True
        if self._worker is not None:
            self._worker.begin_closing()
        if self._opening is not None:
            self._opening.join()
        self._lifetime.close()


def _end_within(limit_s: float) -> None:
    """Have this process gone by then, whatever hangs."""
    timer = threading.Timer(limit_s, os._exit, args=(1,))
    timer.daemon = True
    timer.start()


def main(socket_fd: str, weights_fd: str) -> None:
    """Serve the process that started this one."""
    for fd in (int(socket_fd), int(weights_fd)):
        os.set_inheritable(fd, False)  # the trainer has to see the end of this process, whatever that has started
    messages = Messages(socket.socket(fileno=int(socket_fd)))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: messages.close())
    # The socket alone does not do: processes that the trainer forks have it open too.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    def say(level: int, about: str, text: str) -> None:
        with suppress(OSError):
            messages.send(Line(level, about, text))

    with forwarded_log(say):
        _Side(messages, int(weights_fd)).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
