"""Probes of what a sandbox permits. None of them can act: one that is too open is reported, and nothing is changed.

They ask for permission only: a file is opened and not written to, a system call gets arguments that can succeed for
nobody. So a new backend can be tried with them first, before any command that would harm a host which it does not
shield.
"""

import json
import os
import tempfile
from pathlib import Path

from swe_aem.core import Sandbox, SandboxBackend, SandboxSpec

_OF_THE_HOST = ("/", "/bin", "/dev", "/etc", "/home", "/opt", "/root", "/run", "/tmp", "/usr", "/usr/bin", "/var")
_NAMESPACES = ("mnt", "net", "pid")

_PROBE = r"""
import ctypes, errno, json, os, signal, socket, sys

host = json.loads(sys.argv[1])
found = []
status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\t" in line)
wanted = {**dict.fromkeys(("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"), 0), "NoNewPrivs": 1, "Seccomp": 2}
for name, expected in wanted.items():
    if int(status[name], 16) != expected:
        found.append(f"{name} is {status[name]}, not {expected}")

for name, number in host["namespaces"].items():
    if os.readlink(f"/proc/self/ns/{name}") == number:
        found.append(f"the {name} namespace is the host's")

for path, (device, inode) in host["directories"].items():
    try:
        seen = os.stat(path)
    except OSError:
        continue
    if (seen.st_dev, seen.st_ino) == (device, inode) and os.access(path, os.W_OK):
        found.append(f"the host's {path} can be written to")


def opens(path, mode):
    try:
        os.close(os.open(path, mode | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def allowed(call, *arguments):
    try:
        call(*arguments)
    except OSError:
        return False
    return True


for path in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger"):
    if opens(path, os.O_WRONLY):
        found.append(f"{path} can be opened for writing")
for path in ("/proc/1/environ", "/proc/1/mem"):
    if opens(path, os.O_RDONLY):
        found.append(f"{path} can be opened")
if allowed(os.readlink, "/proc/1/fd/0"):
    found.append("the files that process 1 has open can be reached")

libc = ctypes.CDLL(None, use_errno=True)
# Permission is looked at before the type of the file system, which nobody has.
if libc.mount(b"none", b"/tmp", b"no-such-file-system", 0, None) == 0 or ctypes.get_errno() != errno.EPERM:
    found.append("mount is permitted")

if allowed(socket.socket, 40, socket.SOCK_STREAM):  # AF_VSOCK, in no network namespace
    found.append("sockets to the host of a virtual machine can be made")
if host["no_network"]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
        if allowed(datagram.connect, ("192.0.2.1", 9)):  # looks for a route and sends nothing
            found.append("there is a route out of the sandbox")

children = []
try:
    for _ in range((host["processes"] or 0) + 1):
        child = os.fork()
        if child == 0:
            signal.pause()
        children.append(child)
    if host["processes"]:
        found.append(f"{len(children)} processes at once are more than the limit of {host['processes']}")
except OSError:
    pass
finally:
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

if libc.unshare(0x10000000) == 0:  # CLONE_NEWUSER, of this process alone
    found.append("a user namespace can be made")
for line in found:
    print(line)
"""


async def breaches(sandbox: Sandbox, *, processes: int | None, network: bool = False) -> tuple[str, ...]:
    """What the sandbox permits that it must not, one sentence each; empty for a sound one.

    `processes` is its limit of processes at once (None: not tried), `network` whether it may have a route out. Needs
    `python3` in the sandbox's image.
    """
    own = (str(Path.home()), str(Path.cwd()), tempfile.gettempdir())
    facts = {
        "namespaces": {name: os.readlink(f"/proc/self/ns/{name}") for name in _NAMESPACES},
        "directories": {
            path: (found.st_dev, found.st_ino) for path in (*_OF_THE_HOST, *own) if (found := _stat(path)) is not None
        },
        "processes": processes,
        "no_network": not network,
    }
    path = "/tmp/swe-aem-containment.py"
    await sandbox.write_file(path, _PROBE.encode())
    try:
        result = await sandbox.run(f"python3 {path} '{json.dumps(facts)}'", timeout_s=60)
    finally:
        await sandbox.run(f"rm -f {path}", timeout_s=60)
    if result.exit_code != 0:
        return (f"the probe ended with exit code {result.exit_code}: {result.output.strip()[-500:]}",)
    return tuple(result.output.splitlines())


async def require_containment(backend: SandboxBackend, spec: SandboxSpec) -> None:
    """Raise `AssertionError` if a sandbox of `spec` permits what could harm the host: for before hostile commands."""
    async with backend.open(spec) as sandbox:
        found = await breaches(sandbox, processes=spec.limits.pids, network=spec.network != "none")
    if found:
        raise AssertionError(f"{backend.name} does not shield the host: {'; '.join(found)}")


def _stat(path: str) -> os.stat_result | None:
    return Path(path).stat() if Path(path).exists() else None
