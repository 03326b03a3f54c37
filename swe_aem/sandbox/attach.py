"""A person's terminal on a shell in a running container, over the engine's socket: no docker client needed.

    python -m swe_aem.sandbox.attach ENGINE CONTAINER WORKDIR MASK NAME=VALUE...

Started by `DockerBackend.shell_command`. Exits with the shell's code.
"""

import os
import select
import shutil
import signal
import socket
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import docker

from swe_aem.sandbox.engines import DOCKER, PODMAN, EngineKind

WARDEN_DIR = "/.swe-aem"
"""Where containers see the warden."""
_CHUNK_BYTES = 1 << 16


def attach(engine: EngineKind, container: str, workdir: str, mask: str, environment: list[str]) -> int:
    """Run bash in the engine's container on this process's terminal until it ends; returns its exit code.

    The warden confines it to the capabilities of the bit mask `mask` and to the system calls of every command.
    """
    api = docker.APIClient(**engine.client_settings(), version="auto")
    shell = [f"{WARDEN_DIR}/warden", "confine", mask, "/bin/bash", "--norc"]
    started = api.exec_create(container, shell, stdin=True, tty=True, workdir=workdir, environment=environment)["Id"]
    stream = api.exec_start(started, tty=True, socket=True)
    connection: Any = getattr(stream, "_sock", stream)

    def resize(*_: object) -> None:
        size = shutil.get_terminal_size()
        api.exec_resize(started, height=size.lines, width=size.columns)

    with _raw(sys.stdin.fileno()):
        before = signal.signal(signal.SIGWINCH, resize)
        try:
            resize()
            _pump(connection, sys.stdin.fileno(), sys.stdout.fileno())
        finally:
            signal.signal(signal.SIGWINCH, before)
            stream.close()
    return api.exec_inspect(started)["ExitCode"]


@contextmanager
def _raw(terminal: int) -> Iterator[None]:
    """Put the terminal into raw mode: keys go to the shell as they are pressed, Ctrl-C included."""
    before = termios.tcgetattr(terminal)
    tty.setraw(terminal, termios.TCSADRAIN)  # keeps what was typed before
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _pump(connection: socket.socket, keys: int, screen: int) -> None:
    """Carry bytes both ways until the shell closes its end."""
    watched: list[int] = [connection.fileno(), keys]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if connection.fileno() in ready:
            data = connection.recv(_CHUNK_BYTES)
            if not data:
                return
            while data:
                data = data[os.write(screen, data) :]
        if keys in ready:
            pressed = os.read(keys, _CHUNK_BYTES)
            if pressed:
                connection.sendall(pressed)
            else:
                connection.shutdown(socket.SHUT_WR)
                watched.remove(keys)


if __name__ == "__main__":
    sys.exit(
        attach(DOCKER if sys.argv[1] == DOCKER.name else PODMAN, sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:])
    )
