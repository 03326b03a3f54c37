"""Runs benchmarks one after the other, and keeps each result as soon as it is there."""

import contextlib
import datetime
import importlib.metadata
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from suite.declared import Run
from suite.host import busy_cpus, host_facts
from suite.needs import lacking
from suite.results import Result, Results, is_quiet

CODE = ("swe_aem", "benchmarks/*.py", "configs/quickstart", "uv.lock")
"""What a figure depends on: a result is up to date while these are as they were at its commit."""
_ALWAYS = ("torch", "transformers", "trl", "swebench")
_LEAST_LIMIT_S = 900.0


class Runner:
    """Runs benchmarks of a checkout."""

    def __init__(self, root: Path, results: Results, *, quick: bool, over_quiet: bool, logs: Path) -> None:
        self._root, self._results = root, results
        self._quick, self._over_quiet, self._logs = quick, over_quiet, logs

    def why_not(self, run: Run, left_minutes: float | None) -> str | None:
        """Why a run cannot be made here and now; None if it can."""
        if run.by_hand:
            return f"by hand only: {run.by_hand}"
        needs = [*run.needs, *(f"package {peer}" for peer in run.peers)]
        reasons = [reason for need in needs if (reason := lacking(need))]
        if not reasons and left_minutes is not None and run.minutes > left_minutes:
            reasons = [f"takes {run.minutes:g} minutes, and {max(0.0, left_minutes):.0f} were left"]
        return "; ".join(reasons) or None

    def is_up_to_date(self, name: str) -> bool:
        """Whether a quiet result was measured from the code as it is now."""
        result = self._results.get(name)
        if result is None or result.source != "measured" or not result.quiet or result.quick != self._quick:
            return False
        same = subprocess.run(["git", "diff", "--quiet", result.commit, "--", *CODE], cwd=self._root, check=False)
        return same.returncode == 0

    def run(self, name: str, run: Run) -> str | None:
        """Make a run and keep its result. Returns why there is none."""
        words = run.words(quick=self._quick)
        self._logs.mkdir(parents=True, exist_ok=True)
        log = self._logs / f"{name}.log"
        load_before, others_before = _load(), busy_cpus()
        began_s = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="swe-aem-benchmarks-") as directory:
            file = Path(directory) / "figures.json"
            exit_code = self._child([sys.executable, *words, "--json", str(file)], log, run)
            if exit_code is None or not file.exists():
                ended = "not finished in time" if exit_code is None else f"exit code {exit_code}: {_last_line(log)}"
                return f"{ended}; {log} has its output"
            figures = json.loads(file.read_text(encoding="utf-8"))
        wall_s = time.monotonic() - began_s
        load_after, others_after = _load(), busy_cpus()
        facts = host_facts()
        result = Result(
            run=name,
            command=shlex.join(["python", *words]),
            date=datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
            commit=self._commit(),
            host=facts,
            load_before=load_before,
            load_after=load_after,
            others_before=others_before,
            others_after=others_after,
            quiet=run.virtual or is_quiet(facts["cores"], load_before, others_before, others_after),
            quick=self._quick,
            wall_s=round(wall_s, 1),
            versions=_versions([*run.peers, *_ALWAYS]),
            exit_code=exit_code,
            figures=figures,
        )
        path = self._results.put(result, over_quiet=self._over_quiet)
        loads = f"load average {load_before} before, {load_after} after"
        print(f"{name}: {wall_s / 60:.1f} minutes, {loads}{'' if result.quiet else ', NOT QUIET'}: {path}", flush=True)
        if path.stem != name:
            print(f"{name}: the quiet result before stays; --replace takes this one", flush=True)
        return None

    def _child(self, command: list[str], log: Path, run: Run) -> int | None:
        """Run a command with its output in a file. Whatever ends this process ends the command, which then removes what
        it made. Returns the exit code; None where it took too long."""
        limit_s = max(_LEAST_LIMIT_S, 5 * 60 * run.minutes)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(self._root), *_python_path()])}
        with log.open("wb") as output:
            child = subprocess.Popen(
                command, cwd=self._root, env=environment, stdout=output, stderr=output, start_new_session=True
            )
        try:
            return child.wait(limit_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end(child)

    def _commit(self) -> str:
        """The commit, marked where code differs from it; other files, as results, do not count."""
        git = {"cwd": self._root, "capture_output": True, "text": True, "check": False}
        head = subprocess.run(["git", "rev-parse", "--short=10", "HEAD"], **git)
        changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", *CODE], **git).returncode
        return head.stdout.strip() + ("-changed" if changed else "") if head.returncode == 0 else "unknown"


def _load() -> float:
    """The load average of the last minute."""
    return round(os.getloadavg()[0], 2)


def _python_path() -> list[str]:
    return [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]


def _end(child: subprocess.Popen[bytes], patience_s: float = 60.0) -> None:
    """End a process that may still run, and everything that it started."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            if child.poll() is None:
                os.killpg(child.pid, sent)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(patience_s)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)  # what it left behind


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "no output"


def _versions(names: list[str]) -> dict[str, str]:
    found = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def make_all(runner: Runner, runs: Mapping[str, Run], *, minutes: float | None, again: bool) -> dict[str, str]:
    """Make every run that this host can make, and say what each does. Returns why others were not made."""
    reasons: dict[str, str] = {}
    end_s = None if minutes is None else time.monotonic() + 60 * minutes
    for number, (name, run) in enumerate(runs.items(), start=1):
        if not again and runner.is_up_to_date(name):
            print(f"[{number}/{len(runs)}] {name}: is up to date", flush=True)
            continue
        why = runner.why_not(run, None if end_s is None else (end_s - time.monotonic()) / 60)
        if why is None:
            print(f"[{number}/{len(runs)}] {name}: about {run.minutes:g} minutes", flush=True)
            why = runner.run(name, run)
        if why is not None:
            reasons[name] = why
            print(f"[{number}/{len(runs)}] {name}: NOT RUN: {why}", flush=True)
    return reasons
