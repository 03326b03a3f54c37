"""A fair test of AEM at a size that anybody can run: nine arms, three success rates at the start, sixteen paired seeds.

    uv run --all-extras python benchmarks/aem_study.py --pilot      # what can the design see? before any arm runs
    uv run --all-extras python benchmarks/aem_study.py              # every run that is missing, one after the other
    uv run --all-extras python benchmarks/aem_study.py --report     # the page, its table and figures, of what is there

A policy of 50,000 weights hunts bugs (`benchmarks/study/hunts.py`): it looks, chooses a file, edits, tests, and looks
again. It is trained by the loop, the trainer and the estimators of `swe-aem train`. A run takes some 20 s of one
core and leaves one file of a few kilobytes in `benchmarks/aem_study/`, named by a hash of its settings. Whatever is
killed, a rerun makes only what is missing. Arms of one seed share the policy at the start, tasks and random numbers.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # one core; read when torch is imported

from study.settings import ARMS, REGIMES, RESULTS, SEEDS, Run, pilot, plan, read_result  # noqa: E402

PILOT_SEEDS = 4


def main() -> None:
    """Do what the options ask for."""
    options = _options()
    if options.report:
        from study.report import write

        write(options.results, options.json)
        return
    if options.pilot:
        _make(pilot(options.seeds or PILOT_SEEDS), options)
        from study.pilot import conclude

        conclude(options.results, options.seeds or PILOT_SEEDS)
        return
    if not (options.results / "pilot.json").exists():
        sys.exit("what the design can see has to be known before arms run: give --pilot first")
    chosen = (one for one in plan(options.seeds or SEEDS) if one.arm in options.arm and one.regime in options.regime)
    _make(chosen, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pilot", action="store_true", help="run plain GRPO twice per seed, and say what can be seen")
    parser.add_argument("--report", action="store_true", help="write the page and its figures")
    parser.add_argument("--seeds", type=int, help=f"(default: {SEEDS}; of the pilot {PILOT_SEEDS})")
    parser.add_argument("--arm", action="append", choices=ARMS, help="may be repeated (default: all)")
    parser.add_argument("--regime", action="append", choices=REGIMES, help="may be repeated (default: all)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no run after so many")
    parser.add_argument("--work", type=Path, default=Path("runs/aem-study"), help="keeps the policies at the start")
    parser.add_argument("--results", type=Path, default=RESULTS, help="(default: benchmarks/aem_study)")
    parser.add_argument("--json", type=Path, help="file for the figures of the report")
    options = parser.parse_args()
    options.arm, options.regime = options.arm or list(ARMS), options.regime or list(REGIMES)
    return options


def _make(runs: Iterable[Run], options: argparse.Namespace) -> None:
    """Make the runs that are missing, one after the other."""
    until_s = time.monotonic() + 60 * options.minutes
    for run in missing(runs, options.results):
        if time.monotonic() > until_s:
            print("the minutes are over; repeat the command for the rest", file=sys.stderr)
            return
        from study.runs import made

        result = made(run, options.work, options.results)
        rates = [
            sum(map(int, result[when]["solved"])) / len(result[when]["solved"]) / 8 for when in ("before", "after")
        ]
        print(f"{run.file}: {rates[0]:.1%} -> {rates[1]:.1%}, {result['seconds']:.0f} s", file=sys.stderr, flush=True)


def missing(runs: Iterable[Run], results: Path) -> Iterator[Run]:
    """The runs without a result, in their order."""
    return (run for run in runs if read_result(run, results) is None)


if __name__ == "__main__":
    main()
