"""How fast the viewer is on a large store.

    python benchmarks/viewer.py make DIR [--trajectories 10000] [--tokens 32000]
    python benchmarks/viewer.py index DIR [--json FILE]
    python benchmarks/viewer.py pages DIR [--json FILE]
    python benchmarks/viewer.py longest DIR [--turns 5000] [--json FILE]
    python benchmarks/viewer.py all [--trajectories 10000] [--tokens 32000] [--json FILE]

`make` writes a training run whose store is `DIR/rollouts`: about 1.2 MB per trajectory of 32,000 tokens. `index`
indexes it in the cache folder (SWE_AEM_CACHE), times the queries of lists, and reads how much memory indexing took.
`pages` starts `swe-aem view DIR` and fetches every kind of page from it: milliseconds until a page is there, and of
the server's processor, which a busy machine changes little. The store should be indexed before. `longest` writes a
store of one trajectory into DIR, by default of 5,000 turns with 100,000 tests and a line of 10 MB, and times its
pages. `all` does the first three in a temporary directory.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
from viewer_store import make, make_longest, task_id

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
            most_bytes = max(most_bytes, memory_bytes(indexer.pid, "VmHWM"))
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


def pages(directory: Path, paths: Iterable[tuple[str, str]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Times of pages through the real server, and how much memory that took."""
    command = [sys.executable, "-m", "swe_aem", "view", str(directory), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        url = httpx.URL(server.stdout.readline().strip())
        with httpx.Client(base_url=url.copy_with(path="/", query=None), follow_redirects=True, timeout=120) as client:
            client.get(url).raise_for_status()
            before = memory_bytes(server.pid)
            times = [fetched(client, server.pid, name, path) for name, path in paths]
        return {"memory_before_bytes": before, "most_memory_bytes": memory_bytes(server.pid, "VmHWM")}, times
    finally:
        server.terminate()
        server.wait()


def _paths(run: str) -> Iterator[tuple[str, str]]:
    """Every kind of page of a run's store, by what it is."""
    store = f"/{run}+rollouts"
    yield "runs", "/"
    for name, query in (
        ("list", ""),
        ("list, by tokens", "?sort=tokens"),
        ("list, last page", "?page=999999"),
        ("list, unresolved with edit_file", "?outcome=unresolved&tool=edit_file"),
        ("list, searched, all have it", "?q=parse_header"),
        ("list, searched, few have it", "?q=parse_header_1"),
        ("list, 250 rows", "?size=250"),
    ):
        yield name, f"{store}/trajectories{query}"
    yield "groups", f"{store}/groups"
    yield "task by step", f"{store}/matrix"
    yield "task by step, what got worse", f"{store}/matrix?pivot=8&sort=change"
    for name in ("", "/tokens", "/log"):
        yield f"trajectory{name}", f"{store}/trajectory/{task_id(0)}/0{name}"


def _paths_of_longest(run: str, turns: int) -> Iterator[tuple[str, str]]:
    """Every kind of page of the longest trajectory."""
    one = f"/{run}/trajectory/longest/0"
    yield "trajectory, first turns", one
    yield "trajectory, turns in the middle", f"{one}?from={turns // 2 + 1}"
    yield "trajectory, last turns", f"{one}?from={turns}"
    yield "tokens", f"{one}/tokens"
    yield "a text of 10 MB", f"{one}/text?place=t2.c1.code"


def fetched(client: httpx.Client, pid: int, name: str, path: str) -> dict[str, Any]:
    """Milliseconds of one page: until it is there, and of the server's processor."""
    statuses: set[int] = set()
    began_s = cpu_s(pid)
    times = measured(name, lambda: statuses.add(client.get(path).status_code))
    return {**times, "cpu_ms": 1000 * (cpu_s(pid) - began_s) / ROUNDS, "status": max(statuses)}


def cpu_s(pid: int) -> float:
    """Processor seconds that a process took so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_bytes(pid: int, what: str = "VmRSS") -> int:
    """Memory of a process: now, or with `VmHWM` the most that it had."""
    return 1024 * int(Path(f"/proc/{pid}/status").read_text().partition(f"{what}:")[2].split()[0])


def main() -> None:
    """Run one of the five."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    making = verbs.add_parser("make", help="write a store")
    making.add_argument("directory", type=Path)
    making.add_argument("--trajectories", type=int, default=10_000)
    making.add_argument("--tokens", type=int, default=32_000)
    for verb, what in (("index", "index a store and time its queries"), ("pages", "time pages through the server")):
        timing = verbs.add_parser(verb, help=what)
        timing.add_argument("directory", type=Path)
        timing.add_argument("--json", type=Path)
    everything = verbs.add_parser("all", help="write a store into a temporary directory, index it and time its pages")
    everything.add_argument("--trajectories", type=int, default=10_000)
    everything.add_argument("--tokens", type=int, default=32_000)
    everything.add_argument("--json", type=Path)
    longest = verbs.add_parser("longest", help="write a store of one very long trajectory, and time its pages")
    longest.add_argument("directory", type=Path)
    longest.add_argument("--turns", type=int, default=5_000)
    longest.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.verb == "make":
        total = make(given.directory, given.trajectories, given.tokens)
        print(f"{given.directory / 'rollouts'}: {total / 1e9:.2f} GB")
        return
    if given.verb == "all":
        found = everything_of(given.trajectories, given.tokens)
        for one in found.values():
            show(**one)
    else:
        found = one_of(given)
        show(**found)
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=2) + "\n")


def everything_of(trajectories: int, tokens: int) -> dict[str, dict[str, Any]]:
    """Figures of the index and of the pages of a store that is written for it."""
    with tempfile.TemporaryDirectory(prefix="swe-aem-viewer-") as place:
        os.environ["SWE_AEM_CACHE"] = str(Path(place) / "cache")
        directory = Path(place) / "big"
        make(directory, trajectories, tokens)
        return {"index": figures_of_index(directory), "pages": figures_of_pages(directory)}


def one_of(given: argparse.Namespace) -> dict[str, Any]:
    """Figures of the index, of the pages, or of the pages of one very long trajectory."""
    if given.verb == "index":
        return figures_of_index(given.directory)
    if given.verb == "pages":
        return figures_of_pages(given.directory)
    make_longest(given.directory, given.turns)
    StoreIndex(given.directory).build()
    return _figures(*pages(given.directory, _paths_of_longest(given.directory.resolve().name, given.turns)))


def figures_of_index(directory: Path) -> dict[str, Any]:
    """Index the store of a run and time its queries."""
    index, facts = indexed(directory / "rollouts")
    return _figures(facts, queries(index))


def figures_of_pages(directory: Path) -> dict[str, Any]:
    """Time the pages of a run."""
    return _figures(*pages(directory, _paths(directory.resolve().name)))


def _figures(facts: dict[str, Any], times: list[dict[str, Any]]) -> dict[str, Any]:
    return {"facts": {**facts, "load_average": os.getloadavg()[0]}, "times": times}


def show(facts: dict[str, Any], times: list[dict[str, Any]]) -> None:
    """Print the times as a table, and the facts."""
    columns = [name for name in times[0] if name != "name"]
    rows = [(one["name"], *(f"{one[column]:.0f}" for column in columns)) for one in times]
    print(*table(rows, head=("", *(column.replace("_", " ") for column in columns)), align="<>"), sep="\n")
    for name, value in facts.items():
        print(f"{name}: {value:,.0f}")


if __name__ == "__main__":
    main()
