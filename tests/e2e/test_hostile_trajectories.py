"""Agents that misbehave in whole rollouts: the trajectory goes on or ends rightly, and neighbours do not notice.

Each misdeed is followed by the gold patch, so a trajectory that went on is resolved.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swe_aem.agent import TurnRenderer
from swe_aem.core import Completion, Outcome, SandboxSpec, TaskRecord
from swe_aem.core.settings import check
from swe_aem.policy.scripted import call, gold, scripted
from swe_aem.policy.tokenizer import load_tokenizer
from swe_aem.rollout import RolloutComponents, RolloutConfig, RolloutRun, chosen_tasks, open_components
from swe_aem.rollout.manifest import read_manifest
from swe_aem.sandbox import open_backend
from swe_aem.store import Store
from swe_aem.tasks import TaskSet
from swe_aem.testing.containment import require_containment

BOMB = "bomb() { bomb | bomb & }; bomb"
FILL = "dd if=/dev/zero of={}/fill bs=1M count=3000"
MISDEEDS = {
    "well-behaved": "true",
    "fork bomb": f"{BOMB} & exec sleep 60",  # exec: the command must not need a fork that the bomb denies it
    "fills its disk": f"{FILL.format('/tmp')}; rm -f /tmp/fill",
    "prints 1 GB": "yes | head -c 1073741824",
    "sleeps in a setsid child": "setsid sleep 1000 & sleep 1000",
    "kills its own shell": "kill -9 $$; kill -9 -1",
    "writes invalid UTF-8": r"printf 'caf\351 \377\376' | tee /testbed/latin1.txt",
    "eats all memory": "python3 -c \"x = b'x' * (4 << 30)\"",
}
SELF_HARM = {
    "leaves its disk full": f"{FILL.format('/tmp')}; {FILL.format('/testbed')}",
    "leaves a fork bomb behind": BOMB,
}
"""What the next commands may fail from: the trajectory's own doing, never a fault of ours."""


class Rude:
    """A policy that commits a deed and then plays the gold script."""

    name = "rude"

    def __init__(self, record: TaskRecord, deed: str, renderer: TurnRenderer) -> None:
        self._scripts = [scripted("rude", [call("Now.", "bash", {"command": deed})], renderer), gold(record, renderer)]

    async def sample(self, *args: Any, **kwargs: Any) -> Completion:
        script = self._scripts.pop(0) if len(self._scripts) == 2 else self._scripts[0]
        return await script.sample(*args, **kwargs)

    async def close(self) -> None:
        pass


@pytest.mark.slow
async def test_misdeeds_hurt_nobody_else(kind: str, tmp_path: Path) -> None:
    misdeeds = {**MISDEEDS, **SELF_HARM}
    config = check(
        RolloutConfig,
        {
            "limit": len(misdeeds),
            "sandbox": kind,
            "twins": False,
            "limits": {"memory_bytes": 2 << 30, "cpus": 1.0, "pids": 128, "disk_bytes": 2 << 30},
            "native": {"command_timeout_s": 20},
            "scheduling": {"concurrency": 4, "max_attempts": 2},
        },
    )
    tasks = chosen_tasks(config)
    deeds = {record.task.id: deed for record, deed in zip(tasks, misdeeds.values(), strict=True)}
    renderer = TurnRenderer(load_tokenizer(None), config.renderer)

    @asynccontextmanager
    async def rude_components(config: RolloutConfig, tasks: TaskSet) -> AsyncIterator[RolloutComponents]:
        async with open_components(config, tasks) as opened:
            yield replace(opened, policies=lambda record, _: Rude(record, deeds[record.task.id], renderer))

    backend = open_backend(kind)
    (tmp_path / "empty").mkdir()
    spec = SandboxSpec(image=next(iter(tasks)).task.image, workspace=tmp_path / "empty", limits=config.limits)
    await require_containment(backend, spec)
    store = Store(tmp_path / "out")
    with RolloutRun(config, tasks, store, backend=backend, open_components=rude_components) as rollout:
        await rollout.run()
    outcomes = {trajectory.task_id: trajectory.outcome for trajectory in store.trajectories()}
    of_deed = {name: outcomes[id] for id, name in zip(deeds, misdeeds, strict=True)}
    assert {name: of_deed[name] for name in MISDEEDS} == dict.fromkeys(MISDEEDS, Outcome.RESOLVED)
    assert {of_deed[name] for name in SELF_HARM} <= {Outcome.RESOLVED, Outcome.UNRESOLVED, Outcome.EMPTY_PATCH}
    manifest = read_manifest(tmp_path / "out")
    assert manifest is not None
    assert [info.labels for info in await backend.ls() if info.labels.get("run") == manifest.run] == []
