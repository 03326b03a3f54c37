"""In accelerate's place: two ranks in sessions of their own, as torchrun starts them. Each writes `NAME PID` and what
it was sent to the file that is given, and ends at a second signal. Ends with them.

    agent.py FILE [rank]
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from swe_aem.train.launch.ranks import end_with_accelerate

told = Path(sys.argv[1])


def tell(text: str) -> None:
    """A line of this process, in one write."""
    with told.open("a") as file:
        file.write(f"{text}\n")


def rank() -> None:
    end_with_accelerate()
    name = f"rank{os.environ['RANK']}"
    seen: list[int] = []

    def received(number: int, frame: Any) -> None:
        seen.append(number)
        tell(f"{name} {signal.Signals(number).name}")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, received)
    tell(f"{name} {os.getpid()}")
    while len(seen) < 2:
        signal.pause()


def main() -> None:
    if len(sys.argv) > 2:
        rank()
        return
    tell(f"agent {os.getpid()}")
    ranks = []
    for number in (1, 0):
        environment = {**os.environ, "RANK": str(number), "TORCHELASTIC_RUN_ID": "none"}
        ranks.append(subprocess.Popen([*sys.orig_argv, "rank"], env=environment, start_new_session=True))
    code = ranks[1].wait()
    ranks[0].kill()
    sys.exit(code)


main()
