"""What a process may use of its host, from files as kernels and containers have them."""

import os
from pathlib import Path

import pytest

from swe_aem.sandbox.allowance import free_memory_bytes, processors

GIB = 1 << 30
JOB = "slurm/uid_1000/job_7"
V1 = "11:cpu,cpuacct:/{job}\n4:memory:/{job}\n0::/\n"


def made(place: Path, own: str, files: dict[str, str], meminfo: str) -> tuple[Path, Path]:
    (place / "self").mkdir()
    (place / "self" / "cgroup").write_text(own)
    (place / "meminfo").write_text(meminfo)
    for name, text in files.items():
        (place / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "cgroup" / name).write_text(f"{text}\n")
    return place, place / "cgroup"


EIGHT = f"MemTotal: 1 kB\nMemFree: 9 kB\nMemAvailable: {8 * GIB >> 10} kB\n"
ALL = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("own", "files", "memory_bytes"),
    [
        ("0::/\n", {}, 8 * GIB),
        ("0::/\n", {"memory.max": "max"}, 8 * GIB),
        ("0::/\n", {"memory.max": str(2 * GIB)}, 2 * GIB),
        ("", {"memory.max": str(2 * GIB)}, 2 * GIB),
        ("0::/../other\n", {"memory.max": str(2 * GIB)}, 2 * GIB),
        ("0::/\n", {"memory/memory.limit_in_bytes": str(3 * GIB)}, 3 * GIB),
        (f"0::/{JOB}\n", {f"{JOB}/memory.max": "max", "slurm/uid_1000/memory.max": str(4 * GIB)}, 4 * GIB),
        (V1.format(job=JOB), {f"memory/{JOB}/memory.limit_in_bytes": str(3 * GIB)}, 3 * GIB),
        # A container of an engine without namespaces of groups: its group is the root, and it is told another name.
        (V1.format(job="docker/1f"), {"memory/memory.limit_in_bytes": str(3 * GIB)}, 3 * GIB),
        (
            f"0::/{JOB}\n",
            {
                f"{JOB}/memory.max": str(6 * GIB),
                f"{JOB}/memory.current": str(5 * GIB),
                f"{JOB}/memory.stat": f"anon 7\ninactive_file {GIB}\nactive_file 9",
            },
            2 * GIB,
        ),
        (
            V1.format(job=JOB),
            {
                f"memory/{JOB}/memory.limit_in_bytes": str(2 * GIB),
                f"memory/{JOB}/memory.usage_in_bytes": str(3 * GIB),
                f"memory/{JOB}/memory.stat": "inactive_file 9\ntotal_inactive_file 0",
            },
            0,
        ),
    ],
)
def test_free_memory_is_what_the_tightest_group_leaves(
    tmp_path: Path, own: str, files: dict[str, str], memory_bytes: int
) -> None:
    assert free_memory_bytes(*made(tmp_path, own, files, EIGHT)) == memory_bytes


@pytest.mark.parametrize(
    ("own", "files", "count"),
    [
        ("0::/\n", {}, ALL),
        ("0::/\n", {"cpu.max": "max 100000"}, ALL),
        ("0::/\n", {"cpu.max": "50000 100000"}, 1),
        ("0::/\n", {"cpu.max": "100000 0"}, ALL),
        (f"0::/{JOB}\n", {"slurm/cpu.max": "100000 100000"}, 1),
        ("1:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, ALL),
        ("1:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
    ],
)
def test_processors_are_no_more_than_a_group_allows(
    tmp_path: Path, own: str, files: dict[str, str], count: int
) -> None:
    assert processors(*made(tmp_path, own, files, EIGHT)) == count


def test_a_host_that_tells_little_has_memory_all_the_same(tmp_path: Path) -> None:
    assert free_memory_bytes(tmp_path, tmp_path) > 0
    assert free_memory_bytes(*made(tmp_path, "odd\n", {}, "odd\nMemFree: 5 kB\n")) == 5 << 10
