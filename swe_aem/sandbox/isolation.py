"""The command lines that isolate an embedded sandbox: bubblewrap's, or the same plan carried out with util-linux.

A plan is written once, in bubblewrap's vocabulary (`--ro-bind FROM TO` and so on). Where bubblewrap is not installed,
`util_linux` translates it into a shell script that runs in namespaces made by `unshare`.
"""

import resource
import shlex
from collections.abc import Callable, Sequence
from typing import Literal

from swe_aem.core import Limits
from swe_aem.errors import UserError

Launcher = Literal["bubblewrap", "util-linux"]
LAUNCHERS: dict[Launcher, tuple[str, ...]] = {
    "bubblewrap": ("bwrap",),
    "util-linux": ("unshare", "mount", "pivot_root"),
}
"""What can isolate a sandbox, best first, and the programs that each needs."""

HOSTNAME = "sandbox"
"""The host name of every sandbox; it resolves to 127.0.0.1."""
NAMESPACES = ["--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
"""Those of mounts and IPC the warden's launcher makes."""
_LEAST_SHARED_BYTES = 16 << 20
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


def ipc_settings(limits: Limits) -> dict[str, str]:
    """Kernel settings of a sandbox's IPC namespace, by their names in sysctl.

    Shared memory, messages and semaphores of System V belong to no process. Without these bounds they could fill the
    memory limit so that ending every process frees nothing.
    """
    if limits.memory_bytes is None:
        return {}
    shared = max(_LEAST_SHARED_BYTES, limits.memory_bytes // 4)
    return {
        "kernel.shmall": str(shared // resource.getpagesize()),
        "kernel.shmmni": "1024",
        "kernel.msgmni": "256",
        "kernel.msgmnb": "16384",
        "kernel.sem": "32000 64000 500 1024",
    }


def bubblewrap(program: str, plan: Sequence[str], capabilities: Sequence[str], command: Sequence[str]) -> list[str]:
    """bubblewrap's own command line. The command becomes PID 1 and loses all capabilities but those named."""
    keep = [argument for name in capabilities for argument in ("--cap-add", f"CAP_{name}")]
    flags = ["--die-with-parent", "--as-pid-1", "--hostname", HOSTNAME, *NAMESPACES, "--cap-drop", "ALL", *keep]
    return [program, *flags, *plan, "--", *command]


def util_linux(program: str, root: str, plan: Sequence[str], command: Sequence[str]) -> list[str]:
    """The same isolation made with unshare(1), mount(8) and pivot_root(8), below the directory `root`.

    The warden drops the capabilities and detaches the old root, so nothing runs in between.
    """
    script = ["set -e", f"R={shlex.quote(root)}", 'mkdir -p "$R" && mount --bind "$R" "$R"', *_translate(plan)]
    script += [f"hostname {HOSTNAME} 2>/dev/null || true"]
    script += ['mkdir -p "$R/.old-root" && cd "$R" && pivot_root . .old-root', f"exec {shlex.join(command)}"]
    flags = ["--pid", "--fork", "--kill-child", "--net", "--uts", "--cgroup"]
    return [program, *flags, "/bin/sh", "-c", "\n".join(script)]


def _translate(plan: Sequence[str]) -> list[str]:
    """Shell lines for a plan, in its order."""
    steps: dict[str, tuple[int, Callable[..., str]]] = {
        "--bind": (2, lambda source, to: _bind(source, to)),
        "--ro-bind": (2, lambda source, to: _bind(source, to, read_only=True)),
        "--ro-bind-try": (2, lambda source, to: f"[ ! -e {_q(source)} ] || {{ {_bind(source, to, read_only=True)}; }}"),
        "--symlink": (2, lambda target, to: f'mkdir -p "$R"{_q(_parent(to))}; ln -sfn {_q(target)} "$R"{_q(to)}'),
        "--tmpfs": (1, lambda to: f'mkdir -p "$R"{_q(to)}; mount -t tmpfs none "$R"{_q(to)}'),
        "--proc": (1, _proc),
        "--dev": (1, _dev),
        "--remount-ro": (1, lambda at: f'mkdir -p "$R/.old-root"; mount -o remount,bind,ro "$R"{_q(at.rstrip("/"))}'),
    }
    lines = []
    at = 0
    while at < len(plan):
        count, translate = steps[plan[at]]
        lines.append(translate(*plan[at + 1 : at + 1 + count]))
        at += 1 + count
    return lines


def _q(path: str) -> str:
    return shlex.quote(path)


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _bind(source: str, to: str, *, read_only: bool = False) -> str:
    if to == "/":  # the overlay of an unpacked root: recursive, since it becomes the root itself
        return f'mount --rbind {_q(source)} "$R"; cd "$R"'
    at = f'"$R"{_q(to)}'
    make = (
        f'if [ -d {_q(source)} ]; then mkdir -p {at}; else mkdir -p "$R"{_q(_parent(to))}; [ -e {at} ] || : >{at}; fi'
    )
    lines = [make, f"mount --bind {_q(source)} {at}"]
    if read_only:
        lines.append(f"mount -o remount,bind,ro,nosuid,nodev {at}")
    return "; ".join(lines)


def _proc(to: str) -> str:
    return f'mkdir -p "$R"{to}; mount -t proc -o nosuid,nodev,noexec proc "$R"{to}'


def _dev(to: str) -> str:
    lines = [f'mkdir -p "$R"{to}; mount -t tmpfs -o mode=0755,size=1m dev "$R"{to}; mkdir "$R"{to}/shm']
    lines += [f': >"$R"{to}/{name}; mount --bind /dev/{name} "$R"{to}/{name}' for name in DEVICES]
    pts = f'"$R"{to}/pts'
    lines += [f"mkdir {pts}; mount -t devpts -o newinstance,ptmxmode=0666,mode=620,nosuid,noexec devpts {pts}"]
    links = {
        "ptmx": "pts/ptmx",
        "fd": "/proc/self/fd",
        "stdin": "/proc/self/fd/0",
        "stdout": "/proc/self/fd/1",
        "stderr": "/proc/self/fd/2",
    }
    lines += [f'ln -s {target} "$R"{to}/{name}' for name, target in links.items()]
    return "\n".join(lines)


def missing_tools() -> UserError:
    """The error where neither bubblewrap nor util-linux is installed."""
    return UserError(
        "neither bubblewrap nor util-linux's unshare, mount and pivot_root are installed: `apt-get install bubblewrap` "
        "(Debian, Ubuntu), `dnf install bubblewrap` (Fedora), or use the sandbox docker. Commands never run without "
        "isolation."
    )
