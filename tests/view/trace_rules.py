"""The rules of Chrome's trace event format, as far as what we write needs them."""

from collections import defaultdict
from typing import Any

Event = dict[str, Any]


def check(trace: Event) -> None:
    """Raise `AssertionError` where a viewer would drop an event or draw it somewhere else."""
    assert trace["displayTimeUnit"] in ("ms", "ns")
    tracks: dict[tuple[int, int], list[Event]] = defaultdict(list)
    named: set[tuple[str, int, int]] = set()
    for event in trace["traceEvents"]:
        assert event["ph"] in ("X", "M", "C")
        assert isinstance(event["name"], str)
        assert event["name"]
        assert isinstance(event["args"], dict)
        for number in ("pid", "tid"):
            assert type(event[number]) is int
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "process_sort_index", "thread_name", "thread_sort_index")
            named.add((event["name"], event["pid"], event["tid"]))
            continue
        assert type(event["ts"]) is int
        assert event["ts"] >= 0
        if event["ph"] == "C":
            (value,) = event["args"].values()
            assert type(value) is int
            assert value >= 0, "nothing is fewer than none"
            continue
        assert type(event["dur"]) is int
        assert event["dur"] >= 0
        tracks[event["pid"], event["tid"]].append(event)
    for pid, tid in tracks:
        assert ("process_name", pid, 0) in named
        assert ("thread_name", pid, tid) in named
    for events in tracks.values():
        _check_nesting(events)


def _check_nesting(events: list[Event]) -> None:
    """Slices of one track lie inside of each other or apart."""
    open_until: list[int] = []
    for event in sorted(events, key=lambda event: (event["ts"], -event["dur"])):
        end = event["ts"] + event["dur"]
        while open_until and open_until[-1] <= event["ts"]:
            open_until.pop()
        assert not open_until or end <= open_until[-1], f"{event} ends after what it lies in"
        open_until.append(end)


def slices(trace: Event, process: str) -> list[Event]:
    """The slices of the process of that name."""
    pids = [
        event["pid"]
        for event in trace["traceEvents"]
        if event["ph"] == "M" and event["name"] == "process_name" and event["args"]["name"] == process
    ]
    return [event for event in trace["traceEvents"] if event["ph"] == "X" and event["pid"] in pids]
