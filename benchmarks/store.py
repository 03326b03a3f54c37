"""Processor time of the process that writes a store, per trajectory of 40 turns and 32,000 tokens.

    python benchmarks/store.py [--records 30] [--json FILE]

`sealed here`: the writer makes the line of a trajectory and renews the dataset card for each record, as it did before
lines were sealed where trajectories are rolled out. `sealed elsewhere`: it verifies a ready line and appends it. Both
append to stores of their own, one record each in turn. Waits for the disk are no processor time; `wall` has them.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from swe_aem.core import Outcome, Response, Stop, ToolCall, Trajectory
from swe_aem.store import Store, StoreWriter, seal_trajectory

TURNS, SAMPLED_TOKENS, OBSERVED_TOKENS = 40, 300, 500


def long_trajectory(number: int) -> Trajectory:
    """A trajectory as an agent makes it, with random ids and log-probabilities."""
    dice = random.Random(number)
    token_ids: list[int] = []
    responses: list[Response] = []
    for _ in range(TURNS):
        token_ids += dice.choices(range(150_000), k=OBSERVED_TOKENS + SAMPLED_TOKENS)
        call = ToolCall(name="bash", arguments={"command": "x" * 100}, observation="y" * 2000, exit_code=0)
        responses.append(
            Response(
                start=len(token_ids) - SAMPLED_TOKENS,
                end=len(token_ids),
                logprobs=tuple(-dice.random() for _ in range(SAMPLED_TOKENS)),
                version=3,
                finish_reason="stop",
                sample_s=1.0,
                tool_calls=(call,),
            )
        )
    spoken = [{"role": "assistant", "content": "z" * 900}, {"role": "tool", "content": "y" * 2000}]
    return Trajectory(
        task_id=f"t{number}",
        sample=0,
        agent="native",
        model="m",
        token_ids=tuple(token_ids),
        responses=tuple(responses),
        messages=tuple(spoken * TURNS),
        stop=Stop.SUBMITTED,
        patch="p" * 3000,
        outcome=Outcome.UNRESOLVED,
        reward=0.0,
    )


def sealed_here(writer: StoreWriter, trajectory: Trajectory, line: bytes) -> None:
    """What each record took before."""
    writer.append(trajectory)
    writer.write_card()


def sealed_elsewhere(writer: StoreWriter, trajectory: Trajectory, line: bytes) -> None:
    """What a ready line takes."""
    writer.append_line(line)


WAYS: dict[str, Callable[[StoreWriter, Trajectory, bytes], None]] = {
    "sealed here": sealed_here,
    "sealed elsewhere": sealed_elsewhere,
}


def main() -> None:
    """Measure, print, and write with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=30, help="records of each way")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    cpu_ms: dict[str, list[float]] = {name: [] for name in WAYS}
    wall_ms: dict[str, list[float]] = {name: [] for name in WAYS}
    line_bytes = 0
    with tempfile.TemporaryDirectory() as folder:
        stores = {name: Store(Path(folder) / str(number)) for number, name in enumerate(WAYS)}
        with stores["sealed here"].writer() as first, stores["sealed elsewhere"].writer() as second:
            writers = dict(zip(WAYS, (first, second), strict=True))
            for number in range(options.records):
                trajectory = long_trajectory(number)
                line = seal_trajectory(trajectory)
                line_bytes = len(line)
                for name, way in WAYS.items():
                    began_s, cpu_s = time.perf_counter(), time.process_time()
                    way(writers[name], trajectory, line)
                    cpu_ms[name].append(1e3 * (time.process_time() - cpu_s))
                    wall_ms[name].append(1e3 * (time.perf_counter() - began_s))
    result = {"records": options.records, "line_kb": line_bytes / 1000}
    for name in WAYS:
        result[f"{name}, processor ms"] = statistics.median(cpu_ms[name])
        result[f"{name}, wall ms"] = statistics.median(wall_ms[name])
    result["ratio of processor time"] = result["sealed elsewhere, processor ms"] / result["sealed here, processor ms"]
    for name, value in result.items():
        print(f"{name:32} {value:.3f}" if isinstance(value, float) else f"{name:32} {value}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
