"""docker-compose.yml on a real engine: a person at a terminal in the sandbox that an agent gets."""

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from swe_aem.rollout.human import RUN

REPOSITORY = Path(__file__).parents[2]
TASK = "micro__almanac-comparison-0f71c626"
PROJECT = "swe-aem-compose-test"

pytestmark = [pytest.mark.slow, pytest.mark.docker, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def compose(require_docker: None, compose_program: str) -> Iterator[list[str]]:
    """The compose command, its image built from the bundled tasks' image; what it made is removed."""
    # The base image trusts no proxy's certificate; what is installed is checked against the lock's hashes.
    os.environ.update(SWE_AEM_BASE="swe-aem/micro:1", SWE_AEM_INSECURE_HOST="pypi.org files.pythonhosted.org")
    command = [compose_program, "-p", PROJECT]
    built = subprocess.run([*command, "build"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    yield command
    subprocess.run([*command, "down", "--volumes"], cwd=REPOSITORY, capture_output=True, check=True)


class Terminal:
    """A person's terminal with a program on it."""

    def __init__(self, command: list[str], *, rows: int, columns: int) -> None:
        self.keys, theirs = pty.openpty()
        fcntl.ioctl(self.keys, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        self.seen = ""

    def expect(self, pattern: str, limit_s: float = 120.0) -> None:
        """Read until the pattern shows; what was read before it is forgotten."""
        end_s = time.monotonic() + limit_s
        while (found := re.search(pattern, self.seen)) is None:
            ready, _, _ = select.select([self.keys], [], [], max(0.0, end_s - time.monotonic()))
            assert ready, f"no {pattern!r} within {limit_s:.0f} s, but {self.seen[-2000:]!r}"
            try:
                self.seen += os.read(self.keys, 65536).decode("utf-8", "replace")
            except OSError:  # the program has ended
                raise AssertionError(f"it ended without {pattern!r}: {self.seen[-2000:]!r}") from None
        self.seen = self.seen[found.end() :]

    def type(self, text: str) -> None:
        os.write(self.keys, text.encode())

    def end(self, limit_s: float = 120.0) -> int:
        """The exit code, once everything that it says has been read."""
        end_s = time.monotonic() + limit_s
        with contextlib.suppress(OSError):  # raised when the program has ended
            while os.read(self.keys, 65536):
                assert time.monotonic() < end_s
                assert select.select([self.keys], [], [], max(0.0, end_s - time.monotonic()))[0], "it does not end"
        os.close(self.keys)
        return self.process.wait(timeout=60)


def sandboxes() -> set[str]:
    filters = {"label": ["swe-aem.role=agent", f"swe-aem.run={RUN}"]}
    return {container.name for container in docker.from_env().containers.list(all=True, filters=filters)}


def test_a_person_works_in_the_sandbox_and_is_graded(compose: list[str]) -> None:
    before = sandboxes()
    terminal = Terminal([*compose, "run", "--rm", "sandbox", TASK, "--apply", "gold", "--grade"], rows=31, columns=97)
    terminal.expect(r"leave with exit or Ctrl-D")
    terminal.expect(r"[#$] ")
    terminal.type("echo size:$(stty size) dir:$(pwd) commits:$(git log --oneline | wc -l)\r")
    terminal.expect(r"size:31 97 dir:/testbed commits:1")
    terminal.type("sleep 100\r")
    time.sleep(1)
    terminal.type("\x03")
    terminal.type("echo after:$?\r")
    terminal.expect(r"after:130")
    assert sandboxes() - before, "the sandbox is beside the service's container"
    terminal.type("exit\r")
    terminal.expect(r"resolved: 100% of the failing tests")
    assert terminal.end() == 0
    assert sandboxes() <= before


def test_the_exit_code_of_the_shell_is_the_services(compose: list[str]) -> None:
    terminal = Terminal([*compose, "run", "--rm", "sandbox", TASK], rows=24, columns=80)
    terminal.expect(r"leave with exit or Ctrl-D")
    terminal.expect(r"[#$] ")
    terminal.type("exit 7\r")
    assert terminal.end() == 7


def test_an_unknown_task_names_the_fix(compose: list[str]) -> None:
    done = subprocess.run(
        [*compose, "run", "--rm", "-T", "sandbox", "no-such-task", "-c", "true"],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "swe-aem tasks list" in done.stdout + done.stderr
