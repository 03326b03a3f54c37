"""Every benchmark that this host can run, one after the other; and the page that is made of their results.

    uv run --all-extras --group bench python benchmarks/all.py --list
    uv run --all-extras --group bench python benchmarks/all.py [--only NAME,NAME] [--quick] [--minutes N]
    python benchmarks/all.py --write

Within a benchmark what is compared takes turns, round by round. Each result is a file of benchmarks/results/, kept as
soon as it is there, with date, commit, host, versions and load averages. A rerun makes what is missing, was not quiet,
or was measured from other code. A result that is not quiet never replaces a quiet one, unless with --replace. --write
renders docs/performance.md from the results; nothing is measured then. Quick results are rough, and have a directory
of their own.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from suite.declared import Benchmark, Run, read_benchmarks
from suite.page import Page
from suite.results import Results
from suite.running import Runner, make_all

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "benchmarks"
RESULTS = FOLDER / "results"
PAGE = ROOT / "docs" / "performance.md"
_RUNS = ROOT / "runs" / "benchmarks"


def main(words: Sequence[str] | None = None) -> int:
    """List, run or write. Returns the exit code: 1 where a run failed or could not be made."""
    benchmarks = read_benchmarks(FOLDER)
    every = {name: run for benchmark in benchmarks for name, run in benchmark.runs.items()}
    options = _options(every, words)
    results = Results(options.results or (_RUNS / "quick" if options.quick else RESULTS))
    if options.write:
        PAGE.write_text(page(benchmarks, results), encoding="utf-8")
        return 0
    runs = {name: run for name, run in every.items() if name in options.only}
    runner = Runner(ROOT, results, quick=options.quick, over_quiet=options.replace, logs=_RUNS / "logs")
    if options.list:
        _list(runner, runs)
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # so that a benchmark removes what it made
    reasons = make_all(runner, runs, minutes=options.minutes, again=options.again)
    results.not_run(reasons)
    shown = Page(FOLDER, benchmarks, results)
    print(f"\n{shown.goals()}\n\n{shown.not_run()}")
    return 1 if reasons else 0


def page(benchmarks: Sequence[Benchmark], results: Results) -> str:
    """The text of docs/performance.md."""
    return Page(FOLDER, benchmarks, results).text()


def _list(runner: Runner, runs: dict[str, Run]) -> None:
    for name, run in runs.items():
        state = "up to date" if runner.is_up_to_date(name) else runner.why_not(run, None) or "can run"
        print(f"{name:24} {run.minutes:5g} minutes  {state}")
    print(f"{'all':24} {sum(run.minutes for run in runs.values()):5g} minutes")


def _options(every: dict[str, Run], words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="say what there is, and what this host lacks")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md from the results, and end")
    parser.add_argument("--only", default=",".join(every), help="names, as --list says them (default: all)")
    parser.add_argument("--quick", action="store_true", help="rough figures, in a few minutes")
    parser.add_argument("--minutes", type=float, help="make no run that would end later than this")
    parser.add_argument("--again", action="store_true", help="make runs whose results are up to date, too")
    parser.add_argument("--replace", action="store_true", help="let a result that is not quiet replace a quiet one")
    parser.add_argument("--results", type=Path, help="directory of the results (default: benchmarks/results)")
    options = parser.parse_args(words)
    options.only = options.only.split(",")
    if unknown := set(options.only) - set(every):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(every)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
