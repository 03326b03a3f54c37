"""`KeptServer`: a vLLM server that is started again when it ends, by a thread of its own.

The trainer notices a server that is gone, sends requests elsewhere, and brings a server that has come back to the right
weights (`swe_aem.serve.sync`). So here it is only started again, at the same URL.
"""

import threading
from contextlib import ExitStack
from pathlib import Path

from swe_aem.errors import UserError
from swe_aem.runlog import tell
from swe_aem.serve import ServeCommandConfig, Served

MOST_FAILED_STARTS = 3
"""Starts that may fail one after the other before a server that once worked is given up."""
_PAUSE_S = 5.0
"""Seconds between the end of a server and its next start."""


class KeptServer:
    """One server, kept running from `start` to `end`."""

    def __init__(self, config: ServeCommandConfig, directory: Path, start_limit_s: float) -> None:
        """`directory` gets the server's logs, as `Served` says."""
        self.url = config.url
        self.ready = threading.Event()
        """Set while the server answers, as far as is known."""
        self.losses = 0
        """How often it ended after it had answered."""
        self.error: UserError | None = None
        """Why it is not started again: its first start failed, or too many later ones did."""
        self._config = config
        self._directory = directory
        self._start_limit_s = start_limit_s
        self._server: Served | None = None
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._keep, name=f"server {config.url}")

    def start(self) -> None:
        """Begin to start the server, and return."""
        self._thread.start()

    def ask_to_end(self) -> None:
        """End the server and start it no more; returns at once."""
        with self._lock:
            self._ending.set()
            if self._server is not None:
                self._server.end()

    def end(self) -> None:
        """End the server with all of its processes."""
        self.ask_to_end()
        self._thread.join()

    def _keep(self) -> None:
        worked, failed = False, 0
        while not self._ending.is_set():
            try:
                with ExitStack() as stack:
                    server = self._started(stack)
                    if server is None:
                        return
                    server.wait_ready(lambda line: tell(f"{self.url}: {line}"), self._start_limit_s)
                    worked, failed = True, 0
                    self.ready.set()
                    server.wait()
            except UserError as error:
                if self._ending.is_set():
                    return
                if self.ready.is_set():
                    self.ready.clear()
                    self.losses += 1
                else:
                    failed += 1
                if not worked or failed >= MOST_FAILED_STARTS:
                    self.error = error
                    return
                tell(f"{self.url} is started again: {error}")
            self._ending.wait(_PAUSE_S)

    def _started(self, stack: ExitStack) -> Served | None:
        """The server, which ends with `stack`; None if it is no longer wanted."""
        with self._lock:
            if self._ending.is_set():
                return None
            self._server = stack.enter_context(Served(self._config, self._directory))
            return self._server
