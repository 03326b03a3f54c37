"""Simulated servers in a process of their own: `python benchmarks/simulated_server.py answer|converse|simulate`.

Each prints its URL, and serves until standard input ends. `simulate LEAST MOST`: seconds that a response takes.
"""

import asyncio
import heapq
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CLIENT_RESPONSE_TOKENS = 340
TURNS = 6
"""Responses of a trajectory that `simulate` serves."""
Seconds = tuple[float, float]
"""The least and the most that a response of `simulate` takes."""
LATENCY_S: Seconds = (4.0, 12.0)


def latency_s(trajectory: int, turn: int, between_s: Seconds) -> float:
    """Seconds of one response of `simulate`; client and server compute the same."""
    return random.Random(f"{trajectory}.{turn}").uniform(*between_s)


def ideal_s(trajectories: int, places: int, between_s: Seconds = LATENCY_S) -> float:
    """Seconds of the same trajectories in `places` slots, one after the other in each, with nothing in between."""
    free = [0.0] * places
    for number in range(trajectories):
        start = heapq.heappop(free)
        heapq.heappush(free, start + sum(latency_s(number, turn, between_s) for turn in range(TURNS)))
    return max(free)


@contextmanager
def served(what: str, between_s: Seconds = LATENCY_S) -> Iterator[str]:
    """URL of a simulated server in another process, which ends with the block."""
    command = [sys.executable, __file__, what, *map(str, between_s)]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        yield server.stdout.readline().strip()
    finally:
        server.stdin.close()
        server.wait(10)


async def answer() -> None:
    """Answers at once, with alternatives if they are asked for."""
    from swe_aem.testing.vllm import SimulatedVllm

    response = random.Random(0).choices(range(150_000), k=CLIENT_RESPONSE_TOKENS)
    async with SimulatedVllm(tokens=lambda body: response, top_logprobs=True) as server:
        print(server.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def converse() -> None:
    """Answers at once, with a command."""
    from in_memory import command_response

    from swe_aem.testing.vllm import SimulatedVllm

    response = command_response(CLIENT_RESPONSE_TOKENS)
    async with SimulatedVllm(tokens=lambda body: response) as server:
        print(server.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def simulate() -> None:
    """Answers with a command after `latency_s` of the trajectory, whose number is in its statement."""
    from swe_aem.policy import load_tokenizer
    from swe_aem.testing.vllm import SimulatedVllm

    tokenizer = load_tokenizer(None)
    call = '<tool_call>\n{"name": "bash", "arguments": {"command": "ls"}}\n</tool_call><|im_end|>'
    response = tokenizer.encode(call)
    between_s = (float(sys.argv[2]), float(sys.argv[3])) if sys.argv[2:] else LATENCY_S
    turns: Counter[int] = Counter()
    number = re.compile(r"trajectory number (\d+)\.")

    def latency(body: dict[str, Any]) -> float:
        match = number.search(bytes(one for one in body["prompt"] if one < 256).decode("utf-8", "replace"))
        assert match is not None
        trajectory = int(match[1])
        turns[trajectory] += 1
        return latency_s(trajectory, turns[trajectory] - 1, between_s)

    async with SimulatedVllm(tokens=lambda body: response, latency_s=latency, top_logprobs=True) as server:
        print(server.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run({"answer": answer, "converse": converse, "simulate": simulate}[sys.argv[1]]())
