"""`ProbePool`: several probe servers over copies of one package."""

import json
import os
import queue
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from swe_aem.core.scratch import scratch_directory
from swe_aem.errors import InfrastructureError
from swe_aem.tasks.synthesis import probe
from swe_aem.tasks.synthesis.codebase import Codebase
from swe_aem.tasks.synthesis.mutate import Mutation
from swe_aem.tasks.synthesis.probe_result import ProbeResult
from swe_aem.tasks.tree import write_files

TEST_ENVIRONMENT = {
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
    "TZ": "UTC",
}
"""Environment that makes test runs repeatable; evaluation scripts set the same."""


class _Server:
    """One running `probe.py` and its copy of the package."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, mutation: Mutation) -> ProbeResult | None:
        """Run the suite with the mutation in place; None if it hung or crashed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"path": mutation.path, "text": mutation.text}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the empty answer below reports it
        line = self._process.stdout.readline()
        if not line:
            raise InfrastructureError(f"the probe server ended with code {self._process.wait()}")
        answer = json.loads(line)
        return None if answer is None else ProbeResult.model_validate(answer)


@contextmanager
def _server(codebase: Codebase) -> Iterator[_Server]:
    with scratch_directory("probe") as directory:
        write_files(directory, codebase.files)
        process = subprocess.Popen(
            [sys.executable, "-P", probe.__file__, *codebase.tests],
            cwd=directory,
            env={**os.environ, **TEST_ENVIRONMENT},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield _Server(process)
        finally:
            process.kill()
            process.communicate()


class ProbePool:
    """Runs mutations in parallel and gives the results in the order asked for."""

    def __init__(self, servers: list[_Server], executor: ThreadPoolExecutor) -> None:
        self.batch = 2 * len(servers)
        self._executor = executor
        self._free: queue.Queue[_Server] = queue.Queue()
        for server in servers:
            self._free.put(server)

    def map(self, mutations: Sequence[Mutation]) -> list[ProbeResult | None]:
        """Results of the mutations, in their order."""
        return list(self._executor.map(self._ask, mutations))

    def _ask(self, mutation: Mutation) -> ProbeResult | None:
        server = self._free.get()
        try:
            return server.ask(mutation)
        finally:
            self._free.put(server)


@contextmanager
def open_pool(codebase: Codebase, size: int) -> Iterator[ProbePool]:
    """A pool of `size` servers over copies of the package."""
    with ExitStack() as stack:
        servers = [stack.enter_context(_server(codebase)) for _ in range(size)]
        yield ProbePool(servers, stack.enter_context(ThreadPoolExecutor(size)))
