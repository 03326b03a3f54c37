"""Seconds until a command does what it is for: help, the first command in a sandbox, the first rollout of a training.

    uv run --all-extras python benchmarks/startup.py [--rounds 5] [--only help,rollout,train,imports] [--json FILE]

`help`     `swe-aem --help`, until it has ended
`rollout`  `swe-aem rollout` of the bundled tasks' own patches, until its first agent has a sandbox
`train`    `swe-aem train` of the quickstart, until its first agent has a sandbox
`imports`  Python that imports torch and what transformers needs to load any model, and ends: no token comes sooner

Each is a process of its own, ended as soon as run.log says `phase agent`; they take turns, and figures are medians. The
bytecode of all packages is in a cache, as after an installation: a round before the others makes it.
"""

import argparse
import contextlib
import datetime
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = {
    "help": ["-m", "swe_aem", "--help"],
    "rollout": ["-m", "swe_aem", "rollout", "--limit", "4", "--out"],
    "train": ["-m", "swe_aem", "train", "configs/quickstart.yaml", "--out"],
    "imports": ["-c", "import torch, transformers.modeling_utils"],
}
_FIRST = " phase agent"
_LIMIT_S = 600.0
_LOOK_S = 0.02


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="(default: 5)")
    parser.add_argument("--only", default=",".join(COMMANDS), help=f"of {','.join(COMMANDS)}")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    chosen = options.only.split(",")
    if unknown := set(chosen) - set(COMMANDS):
        parser.error(f"--only is of {', '.join(COMMANDS)}, not {', '.join(sorted(unknown))}")
    seconds: dict[str, list[float]] = {name: [] for name in chosen}
    with tempfile.TemporaryDirectory(prefix="swe-aem-startup-") as place:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": f"{place}/bytecode"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for number in range(options.rounds + 1):
            for name, taken in seconds.items():
                took_s = measure(name, Path(place) / f"{name}-{number}", environment)
                print(f"{name}, round {number}: {took_s:.2f} s", file=sys.stderr, flush=True)
                taken += [took_s] if number else []
    found = {name: {"wall_s": statistics.median(taken), "rounds_s": taken} for name, taken in seconds.items()}
    for name, figures in found.items():
        print(f"{name:8} {figures['wall_s']:6.2f} s")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def measure(name: str, out: Path, environment: dict[str, str]) -> float:
    """Seconds that a command takes to do what it is for."""
    words = COMMANDS[name]
    command = [sys.executable, *words, *([str(out)] if words[-1] == "--out" else [])]
    output = out.with_suffix(".output")
    began = time.time()
    with output.open("wb") as file:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file, start_new_session=True)
    try:
        if words[-1] != "--out":
            process.wait(_LIMIT_S)
            return time.time() - began
        return _first(out / "run.log", process, output) - began
    finally:
        _end(process)


def _first(log: Path, process: subprocess.Popen[bytes], output: Path) -> float:
    """When the first agent began, as the log says it."""
    end_s = time.monotonic() + _LIMIT_S
    while time.monotonic() < end_s:
        ended = process.poll() is not None
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        found = next((line for line in lines if line.endswith(_FIRST)), None)
        if found:
            return datetime.datetime.fromisoformat(found.partition(" ")[0]).timestamp()
        if ended:
            break
        time.sleep(_LOOK_S)
    raise SystemExit(f"no agent began: {output.read_text(errors='replace')[-2000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command, which then removes what it made; one that takes too long is killed with all that it started."""
    tries: tuple[tuple[signal.Signals, float], ...] = (
        (signal.SIGTERM, 1.0), (signal.SIGTERM, 60.0), (signal.SIGKILL, 60.0),
    )  # fmt: skip
    for sent, patience_s in tries:
        if process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, sent)
            process.wait(patience_s)


if __name__ == "__main__":
    main()
