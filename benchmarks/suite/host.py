"""Facts about the machine, and how busy it is."""

import os
import platform
import subprocess
import time
from typing import Any


def busy_cpus(seconds: float = 0.5) -> float:
    """CPUs that are busy now. Call it while the benchmark itself is idle."""

    def idle_ticks() -> int:
        with open("/proc/stat") as file:
            fields = file.readline().split()
        return int(fields[4]) + int(fields[5])

    before, began_s = idle_ticks(), time.perf_counter()
    time.sleep(seconds)
    idle_s = (idle_ticks() - before) / os.sysconf("SC_CLK_TCK")
    return round(max(0.0, (os.cpu_count() or 1) - idle_s / (time.perf_counter() - began_s)), 2)


def host_facts() -> dict[str, Any]:
    """Processor, cores, memory, kernel, Python, and the GPU where there is one."""
    with open("/proc/cpuinfo") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory_bytes / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "gpu": gpu(),
    }


def gpu() -> str | None:
    """Name of the first GPU, without an import of torch."""
    try:
        asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        told = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(told.splitlines()), None)
