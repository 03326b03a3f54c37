"""Run the suite of a package with a bug in it, in a forked child: `python probe.py TEST_FILE...`.

The server imports pytest once. For each request (one JSON object per line on stdin: `path` and `text` of the changed
file, relative to the current directory) it writes the file, forks, runs the tests in the child, puts the clean file
back and answers with one JSON object per line on stdout: a `ProbeResult`, or null if the child did not live to tell.

It stands on pytest alone, any version from 7 on, because it also runs inside sandboxes, where nothing else is.
"""

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import pytest

CPU_LIMIT_S = 3.0
"""Processor seconds of one run, unless `PROBE_CPU_S` says otherwise. Not wall time: the set must not depend on how busy
the machine is."""
WALL_PER_CPU = 10
"""Seconds that may pass for each processor second allowed, for code that waits for ever without computing."""
MEMORY_LIMIT_BYTES = 1 << 30
REPR_LIMIT = 300
"""Longest text of a value that is kept, in characters."""


class _Recorder:
    """Pytest plugin that notes outcomes and the reasons of failures."""

    def __init__(self) -> None:
        self.passed: list[str] = []
        self.failed: list[str] = []
        self.failures: list[dict[str, Any]] = []
        self.collected = True
        self.exhausted = False
        self._compared: tuple[str, str] | None = None

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.collected = self.collected and not report.failed

    def pytest_runtest_setup(self) -> None:
        self._compared = None

    def pytest_assertrepr_compare(self, op: str, left: object, right: object) -> None:
        self._compared = (_describe(left), _describe(right)) if op == "==" else None

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
        report: pytest.TestReport = (yield).get_result()
        if report.passed and report.when == "call" and not hasattr(report, "wasxfail"):
            self.passed.append(item.nodeid)
        elif report.failed:
            self.failed.append(item.nodeid)
            if call.excinfo is not None:
                self.exhausted = self.exhausted or call.excinfo.errisinstance(MemoryError)
                self.failures.append({**self._explain(item, call.excinfo), "parameters": _parameters(item)})

    def _explain(self, item: pytest.Item, info: "pytest.ExceptionInfo[BaseException]") -> dict[str, Any]:
        own = [entry for entry in info.traceback if Path(str(entry.path)) == Path(str(item.fspath))]
        told = {"test": item.nodeid, "line": own[0].lineno + 1 if own else 0}
        if info.errisinstance(pytest.fail.Exception) or _unittest_missed(info.tb):
            return {**told, "how": "not_raised"}
        inside = Path(str(info.traceback[-1].path)) == Path(str(item.fspath))
        compared = (self._compared if inside else None) or _unittest_compared(info.tb)
        if info.errisinstance(AssertionError) and compared is not None:
            return {**told, "how": "compared", "observed": compared[0], "expected": compared[1]}
        if info.errisinstance(AssertionError):
            return {**told, "how": "asserted"}
        return {**told, "how": "raised", "observed": _describe_error(info.value)}

    def result(self) -> dict[str, Any]:
        """Everything noted, in the order of the tests, as the fields of a `ProbeResult`."""
        return {
            "collected": self.collected,
            "passed": self.passed,
            "failed": list(dict.fromkeys(self.failed)),
            "failures": self.failures,
            "exhausted": self.exhausted,
        }


def _parameters(item: pytest.Item) -> "dict[str, str]":
    """Arguments that `parametrize` gives to the test itself, not to its fixtures, as `repr` gives them."""
    call = getattr(item, "callspec", None)
    names: set[str] = set()
    for mark in item.iter_markers("parametrize"):
        arguments = mark.args[0] if mark.args else mark.kwargs["argnames"]
        if not mark.kwargs.get("indirect"):
            names |= {name.strip() for name in arguments.split(",")} if isinstance(arguments, str) else set(arguments)
    return {name: _describe(value) for name, value in call.params.items() if name in names} if call else {}


def _unittest_frames(traceback: "types.TracebackType | None") -> "list[types.FrameType]":
    """The frames of unittest's assertions on the way to the error."""
    frames = []
    while traceback is not None:
        if "__unittest" in traceback.tb_frame.f_globals:
            frames.append(traceback.tb_frame)
        traceback = traceback.tb_next
    return frames


def _unittest_compared(traceback: "types.TracebackType | None") -> "tuple[str, str] | None":
    """The two values that `assertEqual` found to differ."""
    for frame in _unittest_frames(traceback):
        if frame.f_code.co_name == "assertEqual":
            return _describe(frame.f_locals["first"]), _describe(frame.f_locals["second"])
    return None


def _unittest_missed(traceback: "types.TracebackType | None") -> bool:
    """Did `assertRaises` wait for an exception that did not come?"""
    frames = _unittest_frames(traceback)
    return any(frame.f_code.co_name == "__exit__" and frame.f_locals.get("exc_type") is None for frame in frames)


def _describe(value: object) -> str:
    """The value as text, without addresses, which differ from run to run."""
    try:
        text = repr(value)
    except Exception as error:  # the bug may be in `__repr__`
        text = f"<unprintable {type(value).__name__}: {type(error).__name__}>"
    text = re.sub(r" at 0x[0-9a-f]+", "", text)
    return text if len(text) <= REPR_LIMIT else text[:REPR_LIMIT] + " ..."


def _describe_error(error: BaseException) -> str:
    """Type and first line of an exception; the depth of a recursion is no property of the bug."""
    name = type(error).__name__
    first_line = "" if isinstance(error, RecursionError) else (str(error).splitlines() or [""])[0]
    return f"{name}: {first_line}" if first_line else name


def test_arguments(test_files: "list[str]") -> "list[str]":
    """Arguments of pytest that keep every configuration file and cache out; evaluation scripts use the same."""
    return ["-p", "no:cacheprovider", "-c", os.devnull, "--rootdir=.", *test_files]


def _run_tests(test_files: "list[str]", answer: int) -> None:
    """In the child: run the suite and write the result to the file."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The signals of both clocks end the process, whatever the code is doing.
    cpu_limit_s = float(os.environ.get("PROBE_CPU_S", CPU_LIMIT_S))
    signal.setitimer(signal.ITIMER_PROF, cpu_limit_s)
    signal.setitimer(signal.ITIMER_REAL, WALL_PER_CPU * cpu_limit_s)
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)
    sys.path.insert(0, os.getcwd())
    recorder = _Recorder()
    pytest.main([*test_arguments(test_files), "--tb=no", "-q"], plugins=[recorder])
    with os.fdopen(answer, "wb", closefd=False) as stream:
        stream.write(json.dumps(recorder.result()).encode())


def _fork_and_run(test_files: "list[str]") -> Any:
    """Run the suite in a child; its result as JSON values, None if the child was killed or crashed."""
    # A file and not a pipe: processes that the tests left running would keep a pipe open.
    with tempfile.TemporaryFile() as answer:
        child = os.fork()
        if child == 0:
            os.setsid()
            code = 1
            try:
                _run_tests(test_files, answer.fileno())
                code = 0
            finally:
                os._exit(code)  # the server's loop must not run twice
        _, status = os.waitpid(child, 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        answer.seek(0)
        said = answer.read()
    return json.loads(said) if status == 0 and said else None


def _warm_up(test_files: "list[str]") -> None:
    """Leave the test files in the cache as pytest has rewritten them, which halves the time of a run.

    What python itself compiled is removed: only its time and size are checked, which a mutation may leave as they were.
    """
    sys.dont_write_bytecode = False
    _fork_and_run(test_files)
    sys.dont_write_bytecode = True
    for compiled in Path().rglob("*.pyc"):
        if "-pytest-" not in compiled.name:
            compiled.unlink()


def serve(test_files: "list[str]") -> None:
    """Answer requests until stdin ends."""
    clean = _snapshot()
    _warm_up(test_files)
    for line in sys.stdin:
        request = json.loads(line)
        _restore(clean)
        Path(request["path"]).write_bytes(request["text"].encode())
        try:
            answer = _fork_and_run(test_files)
        finally:
            _restore(clean)
        print(json.dumps(answer), flush=True)


def _snapshot() -> "dict[Path, bytes]":
    """The files of the current directory, compiled ones left out."""
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file() and path.suffix != ".pyc"}


def _restore(clean: "dict[Path, bytes]") -> None:
    """Undo what a run did to the tree: what is left of one bug must not decide about the next."""
    for path, content in clean.items():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        if path.is_symlink():
            path.unlink()
        if not path.exists() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    for path in [path for path in Path().rglob("*") if path.is_file() or path.is_symlink()]:
        if path not in clean and path.suffix != ".pyc":
            path.unlink()


if __name__ == "__main__":
    serve(sys.argv[1:])
