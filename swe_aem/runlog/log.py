"""`RunLog`: the open `run.log` of this process, and what reaches it by itself."""

import faulthandler
import logging
import os
import platform
import re
import shlex
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TextIO

from swe_aem.runlog.appended import AppendedFile
from swe_aem.runlog.secrets import masked
from swe_aem.runlog.text import one_word, traceback_of, utc_now, visible

FILE = "run.log"
MOST_BYTES = 64 << 20
"""A file that has grown so large is renamed to `run.log.1`, in the place of an earlier one of that name."""
_LEVELS = {logging.INFO: "INFO ", logging.WARNING: "WARN ", logging.ERROR: "ERROR"}
_MOST_WAITING = 1000
_ENDED = "ended: "
_TAIL_BYTES = 65_536
_SIGNALS = {
    signal.SIGTERM: "asked to end by SIGTERM, as a scheduler or `kill` sends it",
    signal.SIGHUP: "the terminal went away (SIGHUP), as at the end of an ssh session; start long runs in tmux",
}
_about: ContextVar[str] = ContextVar("about", default="-")
_current: ContextVar["RunLog | None"] = ContextVar("run_log", default=None)
_open: list["RunLog"] = []
"""The logs of this process; threads that carry no context write to the last one."""


class RunLog:
    """Lines of one process. They are kept in memory until the run's directory is known."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._waiting: list[str] = []
        self._file: AppendedFile | None = None
        self._refused: set[Path] = set()
        self._told_lost = 0
        self._began_s = time.monotonic()
        self._enabled_faulthandler = False
        self._last_error = ""
        self.exit_code: int | None = None
        """Exit code of the process, once known; a call from Python has none."""

    def keep_in(self, directory: Path) -> None:
        """Write into this directory from now on, what was said so far first. Only the first call counts. What cannot be
        written is told of once, and ends nothing."""
        with self._lock:
            if self._file is not None or directory in self._refused:
                return
            try:
                directory.mkdir(parents=True, exist_ok=True)
                self._file = AppendedFile(directory / file_name())
            except OSError as error:
                self._refused.add(directory)
                show(f"no {FILE} in {directory}: {error.strerror}")
                return
            waiting, self._waiting = self._waiting, []
            if self._file.size_bytes:
                self._write(line(logging.INFO, "-", _resumes(self._file)))
            for one in waiting:
                self._write(one)
            if not faulthandler.is_enabled():  # a crash of native code, such as a segmentation fault, is written too
                faulthandler.enable(self._file.fd)
                self._enabled_faulthandler = True

    def say(self, level: int, about: str, text: str) -> None:
        """Write a line; the later ones of a text of several stand behind spaces."""
        made = line(level, about, text)
        with self._lock:
            if level >= logging.ERROR and about == "-":
                self._last_error = masked(text).partition("\n")[0]
            if self._file is None:
                self._waiting = [*self._waiting[-_MOST_WAITING:], made]
            else:
                self._write(made)

    def end(self, how: str) -> None:
        """Write the last line; of a run that failed it has the last error, so that `tail -1` says why."""
        why = f": {self._last_error}" if self.exit_code != 0 and self._last_error else ""
        self.say(logging.INFO, "-", f"{_ENDED}{how} after {time.monotonic() - self._began_s:.1f} s{why}")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._file is not None:
                if self._enabled_faulthandler:
                    faulthandler.disable()
                self._file.close()
            self._file, self._waiting = None, []

    def forked(self) -> None:
        """This is a forked child: whoever held the lock is not here and will not release it."""
        self._lock = threading.RLock()

    def _write(self, made: str) -> None:
        assert self._file is not None
        file = self._file
        if file.size_bytes >= MOST_BYTES and file.move_aside(file.path.with_name(f"{file.path.name}.1")):
            file.append(line(logging.INFO, "-", f"continues {file.path.name}.1").encode())
        if file.lost > self._told_lost:
            made = (
                line(logging.WARNING, "-", f"{file.lost - self._told_lost} lines are missing: {file.why_lost}") + made
            )
        if file.append(made.encode()):
            self._told_lost = file.lost
        elif file.lost == 1:
            show(f"{file.path} cannot be written: {file.why_lost}")


def _in_forked_child() -> None:
    for log in _open:
        log.forked()


os.register_at_fork(after_in_child=_in_forked_child)


@contextmanager
def run_log(directory: Path | None = None) -> Iterator[RunLog]:
    """The log of a run, from its first line to its last. Inside another one's context it is that one, and `directory`
    is where it is kept if nobody has said that before; `keep_in` says it later."""
    if (outer := _current.get()) is not None:
        if directory is not None:
            outer.keep_in(directory)
        yield outer
        return
    log = RunLog()
    with ExitStack() as stack:
        stack.callback(log.close)
        token = _current.set(log)
        stack.callback(_current.reset, token)
        stack.callback(_about.reset, _about.set("-"))
        stack.enter_context(_everything(log))
        log.say(logging.INFO, "-", _started())
        if directory is not None:
            log.keep_in(directory)
        try:
            yield log
        except BaseException as error:
            if not isinstance(error, SystemExit):
                note(f"{_kind(error)}: {error}\n{traceback_of(error)}", level=logging.ERROR)
            log.end(f"with {_kind(error)}" if log.exit_code is None else f"exit code {log.exit_code}")
            raise
        log.end("well" if log.exit_code is None else f"exit code {log.exit_code}")


class _ForwardedLog(RunLog):
    """A log without a file."""

    def __init__(self, say: Callable[[int, str, str], None]) -> None:
        super().__init__()
        self._say = say

    def say(self, level: int, about: str, text: str) -> None:
        self._say(level, about, masked(text))


@contextmanager
def forwarded_log(say: Callable[[int, str, str], None]) -> Iterator[None]:
    """The log of a process whose lines another one writes: `say` gets the level, the attempt and the text of each, and
    raises nothing."""
    log = _ForwardedLog(say)
    token = _current.set(log)
    try:
        with _everything(log):
            yield
    finally:
        _current.reset(token)


def keep_in(directory: Path) -> None:
    """The open log, if there is one, belongs into this directory, unless it has one already."""
    if (log := _log()) is not None:
        log.keep_in(directory)


def note(text: str, *, level: int = logging.INFO, about: str | None = None) -> None:
    """Write a line into the open log, if there is one. `about` is the attempt, by default that of the context."""
    if (log := _log()) is not None:
        log.say(level, _about.get() if about is None else about, text)


def tell(text: str, *, level: int = logging.INFO, log: str = "") -> None:
    """Show a line to a person, on stderr, and write it into the open log, there with `log` behind it. A terminal that
    is gone ends nothing."""
    note(f"{text}\n{log}" if log else text, level=level)
    show(text)


def show(text: str) -> None:
    """Show a line on stderr."""
    with suppress(OSError):  # the terminal is gone, e.g. with its ssh session
        print(text, file=sys.stderr, flush=True)


def now_about(attempt: str) -> None:
    """Lines that this asyncio task writes from now on, whatever it calls, are about this attempt:
    `TASK.SAMPLE#ATTEMPT`."""
    _about.set(attempt)


def line(level: int, about: str, text: str) -> str:
    """A line as it stands in the file: time, level, attempt, text."""
    return f"{utc_now()} {_LEVELS[_level(level)]} {one_word(visible(about))} {masked(text)}\n"


def file_name() -> str:
    """`run.log`; of the further processes of a launcher such as accelerate `run.rank1.log` and so on."""
    rank = os.environ.get("RANK", "0")
    return FILE if rank == "0" or not rank.isdigit() else f"run.rank{rank}.log"


def _level(level: int) -> int:
    return logging.ERROR if level >= logging.ERROR else logging.WARNING if level >= logging.WARNING else logging.INFO


def _log() -> RunLog | None:
    return _current.get() or (_open[-1] if _open else None)


def _kind(error: BaseException) -> str:
    return type(error).__name__


def _started() -> str:
    program, *arguments = sys.argv or [""]
    path = Path(program)
    name = "swe-aem" if path.parts[-2:] == ("swe_aem", "__main__.py") else path.name
    return (
        f"started: swe-aem {_version()}, Python {platform.python_version()}, host {socket.gethostname()}, pid "
        f"{os.getpid()}, in {_directory()}: {shlex.join([name, *arguments])}"
    )


def _directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "a directory that is gone"


def _version() -> str:
    from swe_aem import __version__

    return __version__


def _resumes(file: AppendedFile) -> str:
    """What the first line of another process says of the one before it."""
    tail = os.pread(file.fd, _TAIL_BYTES, max(0, file.size_bytes - _TAIL_BYTES)).decode("utf-8", "replace")
    last = next((one for one in reversed(tail.splitlines()) if one[:1].isdigit()), "")
    if f" {_ENDED}" in last:
        return "resumes this file"
    if launcher := os.environ.get("SWE_AEM_LAUNCHER"):
        return f"continues this file, beside process {launcher}, which has launched this one"
    return (
        "resumes this file. The process before it wrote no end: it was killed (kill -9, out of memory), its host "
        "stopped, or it still runs"
    )


@contextmanager
def _everything(log: RunLog) -> Iterator[None]:
    """While the body runs, what is logged, warned of and raised in threads reaches the log, and so do signals that end
    the process."""
    handler = _Handler(logging.WARNING)
    with ExitStack() as stack:
        _open.append(log)
        stack.callback(_open.remove, log)
        if len(_open) == 1:
            logging.getLogger().addHandler(handler)
            stack.callback(logging.getLogger().removeHandler, handler)
            stack.enter_context(_warnings())
            stack.enter_context(_threads())
        if threading.current_thread() is threading.main_thread():
            stack.enter_context(_ending_signals(log))
        yield


class _Handler(logging.Handler):
    """Python's `logging` into the open run log. A record that no other handler takes is shown on stderr as Python does
    it without handlers."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = f"{record.name}: {record.getMessage()}"
            if record.exc_info and record.exc_info[1] is not None:
                text += f"\n{traceback_of(record.exc_info[1])}"
            note(text, level=record.levelno)
        except Exception:
            self.handleError(record)
        if logging.lastResort is not None and not self._others(record.name):
            logging.lastResort.handle(record)

    def _others(self, name: str) -> bool:
        logger: logging.Logger | None = logging.getLogger(name)
        while logger is not None:
            if any(not isinstance(one, _Handler) for one in logger.handlers):
                return True
            logger = logger.parent if logger.propagate else None
        return False


@contextmanager
def _warnings() -> Iterator[None]:
    shown = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        note(f"{filename}:{lineno}: {category.__name__}: {message}", level=logging.WARNING)
        shown(message, category, filename, lineno, file, line)

    warnings.showwarning = show
    try:
        yield
    finally:
        if warnings.showwarning is show:
            warnings.showwarning = shown


@contextmanager
def _threads() -> Iterator[None]:
    shown = threading.excepthook

    def show(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            name = args.thread.name if args.thread else "?"
            note(f"in thread {name}: {traceback_of(args.exc_value)}", level=logging.ERROR)
        shown(args)

    threading.excepthook = show
    try:
        yield
    finally:
        if threading.excepthook is show:
            threading.excepthook = shown


@contextmanager
def _ending_signals(log: RunLog) -> Iterator[None]:
    """Signals that would end the process without a word are written first. What handles one already is left alone."""
    pid = os.getpid()

    def end(number: int, frame: Any) -> None:
        if os.getpid() == pid:  # and not a forked child
            log.say(logging.ERROR, "-", _SIGNALS[signal.Signals(number)])
            log.end(f"by {signal.Signals(number).name}")
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    taken = [number for number in _SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            if signal.getsignal(number) is end:
                signal.signal(number, signal.SIG_DFL)


def is_log(name: str) -> bool:
    """Is that the name of a log of a run, or of a part of one?"""
    return re.fullmatch(r"run(\.rank\d+)?\.log(\.1)?", name) is not None


def holds_only_log(directory: Path) -> bool:
    """Is nothing in a directory but the log of a run that wrote nothing else?"""
    return all(is_log(path.name) for path in directory.iterdir())


def move_log(directory: Path, place: Path) -> None:
    """Move a directory's log to one that takes its name; what is open stays so."""
    for path in directory.iterdir():
        if is_log(path.name):
            path.rename(place / path.name)
