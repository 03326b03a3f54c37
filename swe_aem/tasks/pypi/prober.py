"""`SandboxProber`: runs the probe (`tasks/synthesis/probe.py`) in sandboxes, for third-party code."""

import asyncio
import json
import shlex
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from swe_aem.core import Sandbox, SandboxBackend, SandboxSpec
from swe_aem.errors import InfrastructureError
from swe_aem.tasks.synthesis import probe
from swe_aem.tasks.synthesis.codebase import Codebase
from swe_aem.tasks.synthesis.mutate import Mutation
from swe_aem.tasks.synthesis.probe_pool import TEST_ENVIRONMENT
from swe_aem.tasks.synthesis.probe_result import ProbeResult

_PER_SANDBOX = 4
"""Mutations that one sandbox tries per call: starting pytest takes about as long as one run."""
_HOME = "/tmp/probe"
_SLACK_S = 60.0
_TTL_S = 24 * 3600.0
"""Limit in seconds after which a sandbox ends itself, for builds that were killed."""


class SandboxProber:
    """Runs the suite twice for each mutation: different results count as none.

    `map` is called from another thread than that of the event loop, which runs the sandboxes.
    """

    def __init__(self, codebase: Codebase, sandboxes: Sequence[Sandbox], cpu_s: float) -> None:
        self.batch = _PER_SANDBOX * len(sandboxes)
        self._sandboxes = sandboxes
        self._loop = asyncio.get_running_loop()
        self._run_limit_s = probe.WALL_PER_CPU * cpu_s
        self._env = {**TEST_ENVIRONMENT, "PROBE_CPU_S": str(cpu_s)}
        server = f"python3 -P {_HOME}/probe.py {shlex.join(codebase.tests)}"
        self._command = f"{server} < {_HOME}/requests > {_HOME}/answers 2> {_HOME}/complaints"

    def map(self, mutations: Sequence[Mutation]) -> list[ProbeResult | None]:
        """Results of the mutations, in their order; None where the suite hung, crashed or had two results."""
        return asyncio.run_coroutine_threadsafe(self.ask(mutations), self._loop).result()

    async def ask(self, mutations: Sequence[Mutation]) -> list[ProbeResult | None]:
        """The same as `map`, for callers on the event loop."""
        count = len(self._sandboxes)
        shares = [mutations[index::count] for index in range(count)]
        answers = await asyncio.gather(*map(self._ask_one, self._sandboxes, shares))
        return [answers[index % count][index // count] for index in range(len(mutations))]

    async def _ask_one(self, sandbox: Sandbox, mutations: Sequence[Mutation]) -> list[ProbeResult | None]:
        first = await self._run(sandbox, mutations)
        again = [mutation for mutation, answer in zip(mutations, first, strict=True) if answer is not None]
        second = iter(await self._run(sandbox, again))
        return [answer if answer is not None and answer == next(second) else None for answer in first]

    async def _run(self, sandbox: Sandbox, mutations: Sequence[Mutation]) -> list[ProbeResult | None]:
        if not mutations:
            return []
        requests = "".join(json.dumps({"path": one.path, "text": one.text}) + "\n" for one in mutations)
        await sandbox.write_file(f"{_HOME}/requests", requests.encode())
        limit_s = _SLACK_S + self._run_limit_s * (len(mutations) + 1)
        done = await sandbox.run(self._command, timeout_s=limit_s, env=self._env)
        answers = (await sandbox.read_file(f"{_HOME}/answers")).decode().splitlines()
        if done.exit_code != 0 or len(answers) != len(mutations):
            said = (await sandbox.read_file(f"{_HOME}/complaints")).decode("utf-8", "replace").strip()
            raise InfrastructureError(f"the probe ended with code {done.exit_code}: {said[-500:] or 'it said nothing'}")
        return [None if line == "null" else ProbeResult.model_validate_json(line) for line in answers]


@asynccontextmanager
async def open_prober(
    codebase: Codebase, tree: Path, backend: SandboxBackend, size: int, cpu_s: float
) -> AsyncIterator[SandboxProber]:
    """A prober with `size` sandboxes; `tree` is a directory with the clean package."""
    labels = {"purpose": f"build of {codebase.name}"}
    spec = SandboxSpec(image=codebase.image, workspace=tree, labels=labels, ttl_s=_TTL_S)
    async with AsyncExitStack() as stack:
        sandboxes = [await stack.enter_async_context(backend.open(spec)) for _ in range(size)]
        for sandbox in sandboxes:
            await sandbox.write_file(f"{_HOME}/probe.py", Path(probe.__file__).read_bytes())
        yield SandboxProber(codebase, sandboxes, cpu_s)
