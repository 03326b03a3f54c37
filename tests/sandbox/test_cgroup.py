"""What a control group says of its processes is not always a process that this one can see."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from pathlib import Path
from swe_aem.sandbox.cgroup import Cgroup
print(Cgroup((Path(sys.argv[1]),), unified=True).remove(timeout_s=0.1))
"""


def test_removing_a_group_with_a_process_of_another_pid_namespace_spares_its_own(tmp_path: Path) -> None:
    """The kernel gives 0 for such a process, and 0 is the caller's process group to `kill`."""
    (tmp_path / "cgroup.procs").write_text("0\n")
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, start_new_session=True, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
