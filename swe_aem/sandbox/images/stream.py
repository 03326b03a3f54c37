"""A program that reads a stream: an archive goes into it, and what it complained about comes out if it fails."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence

from swe_aem.errors import InfrastructureError

_TOLD_LINES = 3


async def feed(command: Sequence[str], stream: AsyncIterator[bytes], what: str) -> None:
    """Run a program with a stream as its standard input, to the end of both.

    Raises `InfrastructureError` that begins with `what` and ends with the program's last lines, if it fails: its reason
    is seldom the very last. The program is killed if anything else ends the stream.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.defpath, "LC_ALL": "C"},
    )
    assert process.stdin is not None
    assert process.stderr is not None
    said = asyncio.ensure_future(process.stderr.read())
    try:
        async for chunk in stream:
            process.stdin.write(chunk)
            await process.stdin.drain()
        process.stdin.close()
        code = await process.wait()
    except (BrokenPipeError, ConnectionResetError):
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        complaints = (await said).decode("utf-8", "replace").strip()
    if code != 0:
        raise InfrastructureError(f"{what}: {'; '.join(complaints.splitlines()[-_TOLD_LINES:]) or code}")


def tar_command(tar: str, into: str, *, as_root: bool) -> list[str]:
    """A command that unpacks an archive below a directory; owners, devices and attributes are kept only as root."""
    command = [tar, "-x", "-f", "-", "-C", into, "--numeric-owner", "--xattrs", "--xattrs-include=*"]
    if not as_root:
        command += ["--no-same-owner", "--delay-directory-restore", "--exclude=dev/*", "--no-xattrs"]
    return command
