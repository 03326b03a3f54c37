"""How fast the viewer is on a large store.

    python benchmarks/viewer.py make DIR [--trajectories 10000] [--tokens 32000]
    python benchmarks/viewer.py index DIR [--json FILE]

`make` writes a training run whose store is `DIR/rollouts`: about 1.2 MB per trajectory of 32,000 tokens. `index`
indexes it in the cache folder (SWE_AEM_CACHE), times the queries of lists, and reads how much memory indexing took.
"""

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from viewer_store import make, task_id

from swe_aem.core import Outcome, TrajectoryKey
from swe_aem.table import table
from swe_aem.view.index import Filter, Indexer, Order, StoreIndex

ROUNDS = 5


def measured(name: str, call: Callable[[], Any]) -> dict[str, Any]:
    """Milliseconds of a call: of the first one, the median and the longest of several."""
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - began))
    return {"name": name, "first_ms": times[0], "median_ms": statistics.median(times), "longest_ms": max(times)}


def queries(index: StoreIndex) -> list[dict[str, Any]]:
    """Times of what pages ask."""
    key = TrajectoryKey(task_id(0), 0)
    searched = Filter(text="_parse_header")
    calls: dict[str, Callable[[], Any]] = {
        "how far it is indexed": index.refresh,
        "list, newest first": index.page,
        "list, last page by tokens": lambda: index.page(order=Order(by="tokens"), number=10**9),
        "list, unresolved with a tool": lambda: index.page(
            Filter(outcomes=(Outcome.UNRESOLVED,), tools=("edit_file",))
        ),
        "list, searched": lambda: index.page(searched),
        "list, a rare word": lambda: index.page(Filter(text='"raises KeyError" parse_header_1')),
        "facets": lambda: index.facets(("outcome", "tool", "label", "agent", "model", "stop", "step", "cause")),
        "facets, searched": lambda: index.facets(("outcome", "tool", "label", "step"), searched),
        "groups": index.groups,
        "task by step": index.matrix,
        "neighbours": lambda: index.neighbours(key),
        "a trajectory's row": lambda: index.load(key),
        "its snippets": lambda: index.snippets(key, "parse_header"),
    }
    return [measured(name, call) for name, call in calls.items()]


def indexed(store: Path) -> tuple[StoreIndex, dict[str, Any]]:
    """The index of a store, filled by a process of its own, and what that took."""
    began = time.perf_counter()
    indexer = Indexer()
    index = StoreIndex(store, indexer)
    most_bytes = 0
    while not (progress := index.refresh()).complete:
        if progress.failure is not None:
            sys.exit(progress.failure)
        if indexer.pid is not None:
            status = Path(f"/proc/{indexer.pid}/status").read_text()
            most_bytes = max(most_bytes, 1024 * int(status.partition("VmHWM:")[2].split()[0]))
        time.sleep(1)
    indexer.close()
    return index, {
        "rows": progress.rows,
        "store_bytes": progress.bytes_total,
        "index_bytes": sum(path.stat().st_size for path in index.files()),
        "indexing_s": time.perf_counter() - began,
        "most_memory_of_the_indexer_bytes": most_bytes,
        "most_memory_of_the_reader_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    making = verbs.add_parser("make", help="write a store")
    making.add_argument("directory", type=Path)
    making.add_argument("--trajectories", type=int, default=10_000)
    making.add_argument("--tokens", type=int, default=32_000)
    indexing = verbs.add_parser("index", help="index a store and time its queries")
    indexing.add_argument("directory", type=Path)
    indexing.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.verb == "make":
        total = make(given.directory, given.trajectories, given.tokens)
        print(f"{given.directory / 'rollouts'}: {total / 1e9:.2f} GB")
        return
    index, facts = indexed(given.directory / "rollouts")
    times = queries(index)
    if given.json is not None:
        given.json.write_text(json.dumps({"facts": facts, "times": times}, indent=2) + "\n")
    rows = [(one["name"], *(f"{one[key]:.1f}" for key in ("first_ms", "median_ms", "longest_ms"))) for one in times]
    print(*table(rows, head=("query", "first ms", "median ms", "longest ms"), align="<>"), sep="\n")
    for name, value in facts.items():
        print(f"{name}: {value:,.0f}")


if __name__ == "__main__":
    main()
