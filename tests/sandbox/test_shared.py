"""Directories of the host that a sandbox sees, and a Unix socket in one of them."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from swe_aem.core import SandboxBackend, SandboxSpec
from swe_aem.sandbox.warden import warden_binary


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A directory with the forwarder, and a socket that answers each line in capitals."""
    directory = tmp_path / "shared"
    directory.mkdir()
    (directory / "forward").write_bytes(warden_binary().read_bytes())
    (directory / "forward").chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(directory / "socket"))
        (directory / "socket").chmod(0o666)
        listening.listen()
        threading.Thread(target=answer, args=(listening,), daemon=True).start()
        yield directory


def answer(listening: socket.socket) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        with connection:
            connection.sendall(connection.recv(100).upper())


async def test_a_shared_directory_is_read_only_and_its_socket_can_be_reached(
    backend: SandboxBackend, spec: SandboxSpec, shared: Path
) -> None:
    asked = spec.model_copy(update={"shared": {"/.shared": shared}})
    talk = 'exec 3<>/dev/tcp/127.0.0.1/8377 && echo hello >&3 && read -r said <&3 && echo "$said"'
    async with backend.open(asked) as sandbox:
        written = await sandbox.run("touch /.shared/x", timeout_s=60)
        forwarded = await sandbox.run(
            f"/.shared/forward forward 8377 /.shared/socket /bin/bash -c '{talk}; exit 7'", timeout_s=60
        )
        without = await sandbox.run(talk, timeout_s=60)
        busy = await sandbox.run(
            "/.shared/forward forward 8378 /.shared/socket /.shared/forward forward 8378 /.shared/socket /bin/true",
            timeout_s=60,
        )
        # The kernel ends a forwarder by a signal when its command has ended, which takes a moment.
        ended = await sandbox.run("while grep -qs forward /proc/[0-9]*/comm; do sleep 0.1; done", timeout_s=60)
        killed = await sandbox.settle()
    assert "Read-only" in written.output
    assert (forwarded.exit_code, forwarded.output) == (7, "HELLO\n")
    assert without.exit_code != 0, "connections end with the command"
    assert (busy.exit_code, "the port" in busy.output) == (125, True)
    assert (ended.exit_code, killed) == (0, 0)
    assert sorted(path.name for path in shared.iterdir()) == ["forward", "socket"]
