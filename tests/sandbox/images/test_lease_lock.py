"""The lock of images, and holds, on a disk that several hosts share."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from swe_aem.core.owner import Lease, Owner
from swe_aem.sandbox.images.holds import SILENT_S, Hold, Renewer, read_holds
from swe_aem.sandbox.images.lease_lock import LEASE_S, lease_lock
from swe_aem.sandbox.images.ledger import Ledger

ELSEWHERE = Owner(host="elsewhere", pid=1, start_ticks=1, boot="b")


def token(lock: Path, deadline_s: float) -> None:
    """Let a process on another host have a lock."""
    lock.mkdir()
    (lock / f"{deadline_s:.0f},{ELSEWHERE.pid},1,b,0123456789ab,{ELSEWHERE.host}").touch()


@pytest.mark.parametrize("stale", [False, True])
def test_of_many_one_at_a_time_has_it(tmp_path: Path, stale: bool) -> None:
    lock, inside, most = tmp_path / "x.lock", 0, 0
    if stale:
        token(lock, time.time() - 1)

    def work() -> None:
        nonlocal inside, most
        for _ in range(10):
            with lease_lock(lock, 60):
                inside += 1
                most = max(most, inside)
                os.sched_yield()
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert not list(tmp_path.iterdir())


def test_a_killed_process_does_not_keep_it(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from swe_aem.sandbox.images.lease_lock import lease_lock
with lease_lock(Path({str(tmp_path)!r}) / "x.lock", 60):
    print("taken", flush=True)
    input()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"taken\n"
        with pytest.raises(TimeoutError), lease_lock(tmp_path / "x.lock", 0):
            pass
        process.send_signal(signal.SIGKILL)
    with lease_lock(tmp_path / "x.lock", 60):
        assert len(list((tmp_path / "x.lock").iterdir())) == 1


def test_another_hosts_holder_has_it_until_its_lease_is_over(tmp_path: Path) -> None:
    token(tmp_path / "x.lock", time.time() + LEASE_S)
    with pytest.raises(TimeoutError, match="has been locked"), lease_lock(tmp_path / "x.lock", 0):
        pass


def hold(directory: Path, owner: Owner, name: str) -> Path:
    """A hold that an owner made just now."""
    path = directory / f"{name.encode().hex()}.json"
    lease = Lease(owner=owner, created_s=time.time(), deadline_s=time.time() + 1e6)
    path.write_text(Hold(name=name, lease=lease).model_dump_json())
    return path


def test_holds_of_other_hosts_count_until_they_are_not_renewed(tmp_path: Path) -> None:
    here = Owner.this_process()
    old_s = time.time() - SILENT_S - 60
    for owner in (here, ELSEWHERE):
        hold(tmp_path, owner, f"fresh {owner.host}")
        os.utime(hold(tmp_path, owner, f"silent {owner.host}"), (old_s, old_s))
    dead = here.model_copy(update={"start_ticks": 1})
    hold(tmp_path, dead, "dead")
    expected = {f"fresh {here.host}", f"silent {here.host}", "fresh elsewhere"}
    assert {one.name for one in read_holds(tmp_path)} == expected
    assert len(list(tmp_path.iterdir())) == 3


async def test_a_process_renews_its_holds_and_only_those(own_cache: Path) -> None:
    renewer, ledger = Renewer(), Ledger.of_roots()
    async with ledger.hold("a"):
        (path,) = (ledger.directory / "holds").glob("*.json")
        renewer.add(path)
        os.utime(path, (1000.0, 1000.0))
        renewer.renew()
        assert path.stat().st_mtime > 1000.0
        renewer.remove(path)
        os.utime(path, (1000.0, 1000.0))
        renewer.renew()
        assert path.stat().st_mtime == 1000.0
