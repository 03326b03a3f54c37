"""Many conversations of a harness at once: whether any is lost, memory per conversation, CPU time per turn.

    swe-aem harness install openhands
    python benchmarks/conversations.py [--agent openhands] [--at-once 64] [--turns 12] [--sample-s 5] [--json FILE]

Each conversation has a bubblewrap sandbox of its own, in which a scripted policy runs a command per turn through the
harness's own tools. Memory is the resident memory of the harness's processes half-way through all conversations, minus
that of a process that has only imported the harness. CPU time is that of its processes, and of this one (gateway,
policy, sandboxes' channels), per turn; the start is not counted.
"""

import argparse
import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from swe_aem.agent import TurnLimits, TurnRenderer
from swe_aem.core import Completion, Deadline, SamplingParams, SandboxSpec, Stop, Task, Trajectory
from swe_aem.harness import HarnessAgent, HarnessConfig, open_harness, read_harness_spec
from swe_aem.policy import load_tokenizer
from swe_aem.sandbox.bubblewrap import BubblewrapBackend
from swe_aem.sandbox.host_system import HOST_IMAGE

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_LIMIT_S = 1800.0
TASK = Task(id="o__r-1", repo="o/r", base_commit="HEAD", problem_statement="P", image=HOST_IMAGE, workdir="/tmp")


class Working:
    """Policy that runs a command per turn, then finishes; each response takes a given time."""

    name = "working"

    def __init__(self, script: list[list[int]], sample_s: float, progress: list[int]) -> None:
        self._script, self._sample_s, self._progress = script, sample_s, progress
        self._asked = 0

    async def sample(self, prompt_ids: Sequence[int], params: SamplingParams, *, trajectory_id: str) -> Completion:
        """Sample the next response."""
        await asyncio.sleep(self._sample_s)
        ids = self._script[min(self._asked, len(self._script) - 1)]
        self._asked += 1
        self._progress.append(self._asked)
        return Completion(token_ids=tuple(ids), logprobs=(-0.1,) * len(ids), finish_reason="stop")

    async def close(self) -> None:
        """Nothing to release."""


async def measure(agent: str, at_once: int, turns: int, sample_s: float) -> dict[str, Any]:
    """Run once and return the figures."""
    recipe, renderer = read_harness_spec(agent), TurnRenderer(load_tokenizer(None))
    ((finish, arguments),) = recipe.finish.items()
    calls = [(recipe.shell, {"command": f"seq {n} {n + 99}"}) for n in range(turns - 1)] + [(finish, arguments)]
    script = [renderer.render_assistant(_said(tool, arguments)) for tool, arguments in calls]
    progress: list[int] = []
    limits = TurnLimits(max_turns=turns + 5, max_context_tokens=1 << 30)
    async with open_harness(recipe, HarnessConfig(), renderer) as agents:
        harness = agents(limits)
        pool = harness.pool
        idle_bytes = _resident_bytes(pool.workers[0].pid)
        playing = [asyncio.create_task(_play(harness, Working(script, sample_s, progress))) for _ in range(at_once)]
        await _until(lambda: sum(len(worker.conversations) for worker in pool.workers) == at_once)
        pids = [worker.pid for worker in pool.workers]
        await _until(lambda: len(progress) >= at_once)
        before_s, ours_s, begun = [_cpu_s(pid) for pid in pids], _cpu_s(os.getpid()), len(progress)
        await _until(lambda: len(progress) >= at_once * turns // 2)
        resident = sum(_resident_bytes(pid) for pid in pids)
        peak = max(len(worker.conversations) for worker in pool.workers)
        await _until(lambda: len(progress) >= at_once * (turns - 1))
        spent_s = sum(_cpu_s(pid) - before for pid, before in zip(pids, before_s, strict=True))
        ours_s, counted = _cpu_s(os.getpid()) - ours_s, len(progress) - begun
        played = await asyncio.gather(*playing, return_exceptions=True)
    whole = [one for one in played if isinstance(one, Trajectory) and one.stop is Stop.SUBMITTED]
    return {
        "conversations": at_once,
        "finished": len(whole),
        "exact": sum(len(one.responses) == turns and not one.branches for one in whole),
        "processes": len(pids),
        "most_in_a_process": peak,
        "process_mb": idle_bytes / 1e6,
        "conversation_mb": (resident - len(pids) * idle_bytes) / at_once / 1e6,
        "harness_cpu_ms_per_turn": 1000 * spent_s / counted,
        "rollout_cpu_ms_per_turn": 1000 * ours_s / counted,
    }


async def _play(harness: HarnessAgent, policy: Working) -> Trajectory:
    async with BubblewrapBackend().open(SandboxSpec(image=HOST_IMAGE, workdir="/tmp")) as sandbox:
        return await harness.run(TASK, sandbox, policy, sample=0, deadline=Deadline.after(_LIMIT_S))


async def _until(happened: Any) -> None:
    async with asyncio.timeout(_LIMIT_S):
        while not happened():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def _said(tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    function = {"name": tool, "arguments": arguments}
    return {"content": "", "tool_calls": [{"type": "function", "function": function}]}


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agent", default="openhands")
    parser.add_argument("--at-once", type=int, default=64, help="conversations")
    parser.add_argument("--turns", type=int, default=12, help="turns of each")
    parser.add_argument("--sample-s", type=float, default=5.0, help="seconds that the policy takes")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    chosen = parser.parse_args()
    figures = asyncio.run(measure(chosen.agent, chosen.at_once, chosen.turns, chosen.sample_s))
    for name, value in figures.items():
        print(f"{name:26} {value:.1f}" if isinstance(value, float) else f"{name:26} {value}")
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
