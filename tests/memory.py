"""Memory of this process as the kernel counts it. `ru_maxrss` would not do: a process inherits it from the one that
started it, and it never falls."""

from pathlib import Path


def resident_bytes() -> int:
    """Memory that it has now."""
    return _bytes("VmRSS")


def peak_bytes() -> int:
    """The most that it has had since its program began, or since `begin_peak`."""
    return _bytes("VmHWM")


def begin_peak() -> None:
    """Forget the peak so far."""
    Path("/proc/self/clear_refs").write_text("5")


def _bytes(figure: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{figure}:"))
