"""`run.log`: what reaches it by itself, and that nothing said can spoil it."""

import errno
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from swe_aem.errors import PolicyError
from swe_aem.runlog import keep_in, note, now_about, run_log, tell

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (INFO |WARN |ERROR) \S+ .*")


def lines(directory: Path) -> list[str]:
    """The entries of a log; each line is one, or belongs to the one before it."""
    text = (directory / "run.log").read_text(encoding="utf-8")
    assert text.endswith("\n")
    found = text.splitlines()
    assert all(LINE.fullmatch(line) or line.startswith("    ") for line in found), text
    return found


def said(directory: Path) -> list[str]:
    """What the entries say, without time and level, the first and the last one left out."""
    return [line[31:] for line in lines(directory)][1:-1]


def test_the_first_and_the_last_line(tmp_path: Path) -> None:
    with run_log(tmp_path / "new" / "run") as log:
        log.exit_code = 0
    first, last = lines(tmp_path / "new" / "run")
    assert re.search(r"INFO  - started: swe-aem \S+, Python \S+, host \S+, pid \d+, in /.*: ", first)
    assert re.search(r"INFO  - ended: exit code 0 after \d+\.\d s$", last)


def test_an_exception_is_written_with_its_traceback_and_causes(tmp_path: Path) -> None:
    def ask() -> None:
        raise PolicyError("no answer") from OSError(errno.ECONNRESET, "reset by peer")

    with pytest.raises(PolicyError), run_log(tmp_path):
        ask()
    text = (tmp_path / "run.log").read_text()
    assert "ERROR - PolicyError: no answer\n    " in text
    assert "\n    Traceback (most recent call last):\n" in text
    assert "    ConnectionResetError: [Errno 104] reset by peer" in text
    assert re.search(r"INFO  - ended: with PolicyError after \d+\.\d s: PolicyError: no answer$", lines(tmp_path)[-1])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_logging_warnings_and_threads_arrive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with run_log(tmp_path), warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.getLogger("another.library").warning("pool is %s", "full")
        logging.getLogger("another.library").info("nobody asked")
        warnings.warn("old argument", FutureWarning, stacklevel=1)
        thread = threading.Thread(target=lambda: 1 / 0, name="rollouts")
        thread.start()
        thread.join()
        now_about("task-1.0#2")
        tell("a line for a person")
    text = "\n".join(said(tmp_path))
    assert "- another.library: pool is full" in text
    assert "nobody asked" not in text
    assert "FutureWarning: old argument" in text
    assert "in thread rollouts: Traceback" in text
    assert "task-1.0#2 a line for a person" in text
    assert "a line for a person" in capsys.readouterr().err


def test_what_was_said_before_the_directory_is_known_is_not_lost(tmp_path: Path) -> None:
    with run_log():
        note("early")
        with run_log(tmp_path):  # an inner one
            note("late")
        keep_in(tmp_path / "too late")
    assert said(tmp_path) == ["- early", "- late"]
    assert not (tmp_path / "too late").exists()


def test_hostile_text_stays_one_entry_and_keys_are_masked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "correct-horse-battery")
    monkeypatch.setattr(sys, "argv", ["swe-aem", "--policy", "http://me:geheim@host", "--set", "api_key=abc123"])
    with run_log(tmp_path):
        note("one\r\n2026-11-29T15:40:12.123Z ERROR - forged\x1b[2J\x00\u202e\udcff")
        note("y" * 10_000_000)
        note("Authorization: Bearer abcdefgh12345 correct-horse-battery sk-abcdefghijklmnopqrstu")
    found = said(tmp_path)
    assert found[0] == "- one"
    assert lines(tmp_path)[2] == r"    2026-11-29T15:40:12.123Z ERROR - forged\x1b[2J\x00\u202e\udcff"
    assert (tmp_path / "run.log").stat().st_size < 100_000
    assert "characters are left out here" in (tmp_path / "run.log").read_text()
    assert found[-1] == "- Authorization: Bearer *** *** ***"
    assert "http://***@host --set api_key=***" in lines(tmp_path)[0]


def test_a_rerun_continues_the_file_and_says_how_the_last_one_ended(tmp_path: Path) -> None:
    for _ in range(2):
        with run_log(tmp_path):
            pass
    assert lines(tmp_path)[2].endswith("INFO  - resumes this file")
    with (tmp_path / "run.log").open("a") as file:
        file.write("2026-11-29T15:40:12.123Z INFO  - a line that a kill to")
    with run_log(tmp_path):
        pass
    assert "wrote no end: it was killed (kill -9, out of memory)" in lines(tmp_path)[-3]


def test_a_full_disk_ends_nothing_and_the_gap_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written, full = os.write, False

    def write(fd: int, data: memoryview) -> int:
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return written(fd, data)

    monkeypatch.setattr(os, "write", write)
    with run_log(tmp_path):
        full = True
        note("lost")
        note("lost too")
        full = False
        note("there again")
    assert said(tmp_path) == ["- 2 lines are missing: No space left on device", "- there again"]
    assert capsys.readouterr().err.count("cannot be written: No space left on device") == 1


def test_a_directory_that_cannot_be_written_ends_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    with run_log(tmp_path / "file"):
        note("nowhere")
    assert "no run.log in" in capsys.readouterr().err


def test_a_large_file_is_moved_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swe_aem.runlog.log.MOST_BYTES", 1000)
    with run_log(tmp_path):
        for number in range(50):
            note(f"line {number} {'x' * 50}")
    assert (tmp_path / "run.log").stat().st_size < 1200
    assert "line 49" in lines(tmp_path)[-2]
    assert "continues run.log.1" in lines(tmp_path)[0]
    assert (tmp_path / "run.log.1").stat().st_size < 1200


def test_another_process_of_a_launcher_has_its_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    with run_log(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["run.rank3.log"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_the_process_is_written(tmp_path: Path, number: signal.Signals) -> None:
    code = (
        "import os, pathlib, sys; from swe_aem.runlog import run_log\n"
        "with run_log(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), int(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path), str(int(number))]
    assert subprocess.run(command, check=False).returncode == -number
    assert f"ended: by {number.name} after" in lines(tmp_path)[-1]
    assert number.name in lines(tmp_path)[-2]


@pytest.mark.parametrize(
    "text",
    [
        "https://me:with@sign-{key}@host/x",
        "Authorization: Token {key}",
        "--set policy.env.AWS_SECRET_ACCESS_KEY={key}",
        "aws_secret_access_key = {key}",
        "--api-key {key}",
        '{{"OPENAI_KEY": "{key} with spaces {key}"}}',
        r"{{\"api_key\": \"{key}\"}}",
        "a key of GitLab: glpat-{key}{key}",
    ],
)
def test_what_looks_like_a_key_is_masked(tmp_path: Path, text: str) -> None:
    with run_log(tmp_path):
        note(text.format(key="hunter22hunter"))
    assert "***" in said(tmp_path)[0]
    assert "hunter" not in (tmp_path / "run.log").read_text()


@pytest.mark.parametrize("text", ["KeyError: 'x'", "unknown key: sandbox.typ", "max_tokens=5", "api_key_env=MY_KEY"])
def test_what_is_no_key_is_kept(tmp_path: Path, text: str) -> None:
    with run_log(tmp_path):
        note(text)
    assert said(tmp_path) == [f"- {text}"]


def test_a_key_of_several_lines_is_masked_and_so_is_one_where_a_text_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGNING_KEY", "hunter-begin\nhunter-middle\nhunter-end")
    monkeypatch.setenv("LONG_TOKEN", "hunter" * 10)
    with run_log(tmp_path):
        note(f"signed with\n{os.environ['SIGNING_KEY']}")
        note(os.environ["LONG_TOKEN"] * 10_000)
    assert "hunter" not in (tmp_path / "run.log").read_text()


def test_a_file_that_cannot_be_moved_aside_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swe_aem.runlog.log.MOST_BYTES", 1000)
    with run_log(tmp_path / "run"):
        (tmp_path / "run").rename(tmp_path / "moved")
        for number in range(50):
            note(f"line {number} {'x' * 50}")
    assert [line.split()[1] for line in said(tmp_path / "moved")] == ["line"] * 50


def test_a_directory_that_cannot_be_written_is_told_of_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    with run_log(tmp_path / "file"), run_log(tmp_path / "file"):
        keep_in(tmp_path / "file")
    assert capsys.readouterr().err.count("no run.log in") == 1


def test_a_forked_child_does_not_wait_for_a_lock_that_nobody_releases(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys, threading; from swe_aem.runlog import note, run_log\n"
        "held, done = threading.Event(), threading.Event()\n"
        "with run_log(pathlib.Path(sys.argv[1])) as log:\n"
        "    def hold():\n"
        "        with log._lock: held.set(); done.wait()\n"
        "    threading.Thread(target=hold).start(); held.wait()\n"
        "    child = os.fork()\n"
        "    if not child: note('of the child'); os._exit(0)\n"
        "    os.waitpid(child, 0); done.set()\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(tmp_path)], check=True, timeout=60)
    assert "- of the child" in said(tmp_path)


def test_a_run_from_a_directory_that_is_gone_has_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with run_log(tmp_path):
        pass
    assert "in a directory that is gone: " in lines(tmp_path)[0]
