"""Time that the gateway adds to a turn, and throughput that it costs.

    python benchmarks/gateway.py [--sessions 1 16 64] [--turns 20] [--sample-s 0.5] [--json FILE]

The policy takes half to one and a half times `--sample-s` per response and always gives the same one. It is measured
*direct*, by tasks of this process that render, sample and parse as the native agent does; and through the gateway in
each protocol, by HTTP clients in another process that send the whole conversation each turn. Each turn adds a response
with a tool call and 1.5 kB of observation to a first prompt of 8 kB. Rounds alternate. The added time is the time of a
turn minus the time that the policy took; `cpu` is this process's processor time per turn, without the clients', which
other work on the machine changes little.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from swe_aem.agent import TurnLimits, TurnRenderer
from swe_aem.core import Completion, Deadline, SamplingParams, Task
from swe_aem.gateway import Gateway
from swe_aem.policy import load_tokenizer

SMALL = Path(__file__).parents[1] / "configs" / "quickstart" / "policy"
SYSTEM = "You fix bugs in Python packages. Look before you change anything. " * 120
OBSERVATION = "src/package/module.py:120:    return value if value is not None else default\n" * 20
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "bash",
            "description": "Run a command line.",
            "parameters": {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
        },
    }
]
SCHEMA = TOOLS[0]["function"]["parameters"]
DESCRIBED = {"name": "bash", "description": "Run a command line."}
LIMITS = TurnLimits(max_turns=1 << 20, max_context_tokens=1 << 30)
TASK = Task(id="o__r-1", repo="o/r", base_commit="c", problem_statement="It fails.", image="i")
START = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "It fails."}]


class Timed:
    """Policy that always gives the same response after a delay; keeps the seconds of each response by trajectory."""

    name = "timed"

    def __init__(self, renderer: TurnRenderer, sample_s: float) -> None:
        call = {
            "type": "function",
            "function": {"name": "bash", "arguments": {"command": "grep -rn default src | head"}},
        }
        self._ids = tuple(renderer.render_assistant({"content": "I look for it.", "tool_calls": [call]}))
        self._sample_s = sample_s
        self._dice = random.Random(0)
        self.took_s: dict[str, list[float]] = defaultdict(list)

    async def sample(self, prompt_ids: Sequence[int], params: SamplingParams, *, trajectory_id: str) -> Completion:
        """Sample the one response."""
        began_s = time.perf_counter()
        await asyncio.sleep(self._sample_s * self._dice.uniform(0.5, 1.5))
        self.took_s[trajectory_id].append(time.perf_counter() - began_s)
        return Completion(token_ids=self._ids, logprobs=(-0.1,) * len(self._ids), finish_reason="stop")

    async def close(self) -> None:
        """Nothing to release."""


async def direct(renderer: TurnRenderer, sessions: int, turns: int, sample_s: float) -> dict[str, float]:
    """Seconds per turn and turns per second without a gateway."""
    policy = Timed(renderer, sample_s)
    took_s: dict[str, list[float]] = defaultdict(list)

    async def play(id: str) -> None:
        prompt = renderer.start(START, TOOLS)
        for _ in range(turns):
            began_s = time.perf_counter()
            completion = await policy.sample(prompt, SamplingParams(max_tokens=1), trajectory_id=id)
            renderer.parse(completion.token_ids, prompt)
            observation = {"role": "tool", "tool_call_id": "x", "content": OBSERVATION}
            bridged = renderer.bridge(prompt, completion.token_ids, [observation])
            assert bridged is not None
            prompt = bridged
            took_s[id].append(time.perf_counter() - began_s)

    began_s, used_s = time.perf_counter(), time.process_time()
    await asyncio.gather(*(play(f"{TASK.id}.{n}") for n in range(sessions)))
    cpu_s = (time.process_time() - used_s) / (sessions * turns)
    return _figures(took_s, policy, sessions * turns / (time.perf_counter() - began_s), cpu_s)


async def through_gateway(
    protocol: str, renderer: TurnRenderer, sessions: int, turns: int, sample_s: float
) -> dict[str, float]:
    """Seconds per turn and turns per second through the gateway, with the clients in another process."""
    policy = Timed(renderer, sample_s)
    async with Gateway(renderer) as gateway:
        deadline = Deadline.after(3600)
        opened = [gateway.session(TASK, n, policy, LIMITS, deadline) for n in range(sessions)]
        urls = [(await session.__aenter__()).url for session in opened]
        used_s = time.process_time()
        clients = await asyncio.create_subprocess_exec(
            sys.executable, __file__, "--clients", protocol, str(turns), *urls, stdout=asyncio.subprocess.PIPE
        )
        said, _ = await clients.communicate()
        cpu_s = (time.process_time() - used_s) / (sessions * turns)
        for session in opened:
            await session.__aexit__(None, None, None)
    result = json.loads(said)
    took_s = {f"{TASK.id}.{n}": one for n, one in enumerate(result["took_s"])}
    return _figures(took_s, policy, sessions * turns / result["wall_s"], cpu_s)


def _figures(took_s: dict[str, list[float]], policy: Timed, per_s: float, cpu_s: float) -> dict[str, float]:
    pairs = [pair for id, took in took_s.items() for pair in zip(took, policy.took_s[id], strict=True)]
    added_ms = [1000 * (took - sampled) for took, sampled in pairs]
    cuts = statistics.quantiles(added_ms, n=20)
    added = {"added_p50_ms": statistics.median(added_ms), "added_p95_ms": cuts[18]}
    return {**added, "cpu_ms": 1000 * cpu_s, "turns_per_s": per_s}


class ChatClient:
    """A client's side of a conversation in chat completions."""

    path = "chat/completions"

    def __init__(self) -> None:
        self._messages: list[dict[str, Any]] = list(START)

    def body(self) -> dict[str, Any]:
        """The next request."""
        return {"messages": self._messages, "tools": TOOLS}

    def take(self, answer: Any) -> None:
        """Take an answer, and add it and an observation to the conversation."""
        message = answer["choices"][0]["message"]
        call = message["tool_calls"][0]["id"]
        self._messages += [message, {"role": "tool", "tool_call_id": call, "content": OBSERVATION}]


class ResponsesClient:
    """The same in responses."""

    path = "responses"

    def __init__(self) -> None:
        self._items: list[dict[str, Any]] = [{"role": "user", "content": "It fails."}]

    def body(self) -> dict[str, Any]:
        """The next request."""
        tools = [{"type": "function", **DESCRIBED, "parameters": SCHEMA}]
        return {"instructions": SYSTEM, "input": self._items, "tools": tools, "store": False}

    def take(self, answer: Any) -> None:
        """Take an answer, and add it and an observation to the conversation."""
        call = answer["output"][-1]["call_id"]
        self._items += [*answer["output"], {"type": "function_call_output", "call_id": call, "output": OBSERVATION}]


class MessagesClient:
    """The same in Anthropic's messages."""

    path = "messages"

    def __init__(self) -> None:
        self._messages: list[dict[str, Any]] = [{"role": "user", "content": "It fails."}]

    def body(self) -> dict[str, Any]:
        """The next request."""
        tools = [{**DESCRIBED, "input_schema": SCHEMA}]
        return {"system": SYSTEM, "messages": self._messages, "tools": tools, "max_tokens": 1000}

    def take(self, answer: Any) -> None:
        """Take an answer, and add it and an observation to the conversation."""
        result = {"type": "tool_result", "tool_use_id": answer["content"][-1]["id"], "content": OBSERVATION}
        self._messages.append({"role": "assistant", "content": answer["content"]})
        self._messages.append({"role": "user", "content": [result]})


CLIENTS = {client.path: client for client in (ChatClient, ResponsesClient, MessagesClient)}


async def _converse(protocol: str, turns: int, urls: list[str]) -> None:
    """Clients of the gateway: one conversation per URL."""
    import aiohttp

    async def play(http: aiohttp.ClientSession, url: str) -> list[float]:
        took_s: list[float] = []
        client = CLIENTS[protocol]()
        for _ in range(turns):
            body = json.dumps({"model": "timed", **client.body()}).encode()
            began_s = time.perf_counter()
            async with http.post(f"{url}/{protocol}", data=body) as answer:
                received = await answer.read()
            took_s.append(time.perf_counter() - began_s)
            client.take(json.loads(received))
        return took_s

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        began_s = time.perf_counter()
        took_s = await asyncio.gather(*(play(http, url) for url in urls))
        print(json.dumps({"took_s": took_s, "wall_s": time.perf_counter() - began_s}))


async def measure(sessions: int, turns: int, sample_s: float, rounds: int) -> dict[str, dict[str, float]]:
    """Medians over the rounds, direct and through the gateway in each protocol."""
    renderer = TurnRenderer(load_tokenizer(str(SMALL)))
    ways: dict[str, Callable[..., Awaitable[dict[str, float]]]] = {"direct": direct}
    ways |= {protocol: partial(through_gateway, protocol) for protocol in CLIENTS}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append(await way(renderer, sessions, turns, sample_s))
    return {
        name: {key: statistics.median(one[key] for one in results) for key in results[0]}
        for name, results in found.items()
    }


def main() -> None:
    """Measure, print a table, write JSON."""
    if sys.argv[1:2] == ["--clients"]:
        asyncio.run(_converse(sys.argv[2], int(sys.argv[3]), sys.argv[4:]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 16, 64], help="conversations at once")
    parser.add_argument("--turns", type=int, default=20, help="turns of each")
    parser.add_argument("--sample-s", type=float, default=0.5, help="seconds that the policy takes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    chosen = parser.parse_args()
    results = {}
    for sessions in chosen.sessions:
        found = asyncio.run(measure(sessions, chosen.turns, chosen.sample_s, chosen.rounds))
        results[sessions] = found
        for name, figures in found.items():
            added = f"added p50 {figures['added_p50_ms']:6.2f} ms  p95 {figures['added_p95_ms']:7.2f} ms"
            share = figures["turns_per_s"] / found["direct"]["turns_per_s"]
            of_direct = "" if name == "direct" else f"  {share:.1%} of direct"
            added += f"  cpu {figures['cpu_ms']:5.2f} ms"
            print(f"{sessions:4} {name:16} {added}  {figures['turns_per_s']:7.1f} turns/s{of_direct}")
    if chosen.json:
        chosen.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
