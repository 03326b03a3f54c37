"""A fair test of AEM at a size that anybody can run: nine arms, three success rates at the start, sixteen paired seeds.

    uv run --all-extras python benchmarks/aem_study.py --pilot      # what can the design see? before any arm runs
    uv run --all-extras python benchmarks/aem_study.py              # every run that is missing, one after the other
    uv run --all-extras python benchmarks/aem_study.py --sandboxes  # GRPO and AEM on the quickstart, in real sandboxes
    uv run --all-extras python benchmarks/aem_study.py --report     # the page, its table and figures, of what is there

A policy of 50,000 weights hunts bugs (`benchmarks/study/hunts.py`): it looks, chooses a file, edits, tests, and looks
again. It is trained by the loop, the trainer and the estimators of `swe-aem train`. A run takes some 20 s of one
core and leaves one file of a few kilobytes in `benchmarks/aem_study/`, named by a hash of its settings. Whatever is
killed, a rerun makes only what is missing. Arms of one seed share the policy at the start, tasks and random numbers.
A run in sandboxes takes both cores for some ten minutes.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # one core; read when torch is imported

from study.settings import (  # noqa: E402
    ARMS,
    REGIMES,
    RESULTS,
    SAMPLES,
    SEEDS,
    Run,
    pilot,
    plan,
    read_result,
)

PILOT_SEEDS = 4
_R = TypeVar("_R")


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
    if options.sandboxes:
        _make_in_sandboxes(options)
        return
    if not (options.results / "pilot.json").exists():
        sys.exit("what the design can see has to be known before arms run: give --pilot first")
    chosen = (one for one in plan(options.seeds or SEEDS) if one.arm in options.arm and one.regime in options.regime)
    _make(chosen, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pilot", action="store_true", help="run plain GRPO twice per seed, and say what can be seen")
    parser.add_argument("--sandboxes", action="store_true", help="the study's part in real sandboxes, with four seeds")
    parser.add_argument("--report", action="store_true", help="write the page and its figures")
    parser.add_argument("--seeds", type=int, help=f"(default: {SEEDS}; of the pilot {PILOT_SEEDS})")
    parser.add_argument("--arm", action="append", choices=ARMS, help="may be repeated (default: all)")
    parser.add_argument("--regime", action="append", choices=REGIMES, help="may be repeated (default: all)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no run after so many")
    parser.add_argument("--work", type=Path, default=Path("runs/aem-study"), help="keeps what is unfinished")
    parser.add_argument("--results", type=Path, default=RESULTS, help="(default: benchmarks/aem_study)")
    parser.add_argument("--json", type=Path, help="file for the figures of the report")
    options = parser.parse_args()
    options.arm, options.regime = options.arm or list(ARMS), options.regime or list(REGIMES)
    return options


def _make(runs: Iterable[Run], options: argparse.Namespace) -> None:
    """Make the runs that are missing, one after the other."""
    for run in _in_time(missing(runs, options.results), options.minutes):
        from study.runs import made

        _tell(run.file, made(run, options.work, options.results))


def _make_in_sandboxes(options: argparse.Namespace) -> None:
    """Make the runs in sandboxes that are missing, one after the other."""
    from study import sandboxes

    runs = sandboxes.plan(options.seeds or sandboxes.SEEDS)
    lacking = (run for run in runs if run.arm in options.arm and sandboxes.read_run(run, options.results) is None)
    for run in _in_time(lacking, options.minutes):
        try:
            _tell(run.file, sandboxes.make(run, options.work, options.results))
        except subprocess.CalledProcessError as error:  # the command has said why
            sys.exit(f"{run.file}: training ended with exit code {error.returncode}; repeat the command, it resumes")


def _in_time(runs: Iterable[_R], minutes: float) -> Iterator[_R]:
    """The runs that begin before so many minutes are over."""
    until_s = time.monotonic() + 60 * minutes
    for run in runs:
        if time.monotonic() > until_s:
            print("the minutes are over; repeat the command for the rest", file=sys.stderr)
            return
        yield run


def _tell(file: str, result: Mapping[str, Any]) -> None:
    solved = [[int(digit) for digit in result[when]["solved"]] for when in ("before", "after")]
    rates = [sum(one) / len(one) / SAMPLES for one in solved]
    print(f"{file}: {rates[0]:.1%} -> {rates[1]:.1%}, {result['seconds']:.0f} s", file=sys.stderr, flush=True)


def missing(runs: Iterable[Run], results: Path) -> Iterator[Run]:
    """The runs without a result, in their order."""
    return (run for run in runs if read_result(run, results) is None)


if __name__ == "__main__":
    main()
