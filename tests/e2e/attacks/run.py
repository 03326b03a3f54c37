"""Plays the attacks of the corpus, or of a JSON file, beside the gold patch, and says what each was paid.

    python -m tests.e2e.attacks.run [bubblewrap|docker] [--file attacks.json] [--only NAME,NAME]

A JSON file is `{group: {name: [{"bash": command} or {"edit": arguments}, ..]}}`, where a group's name begins with
`micro` or `nano`; a group that ends in `_docker` is for docker alone. PAID and MASKED are faults: the reward of each
must be 0, and that of the gold patch 1.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from tests.e2e.attacks.play import BACKENDS, Case, attacks, golds, play


def of_file(path: Path) -> dict[str, dict[str, Case]]:
    """Groups of cases by name."""
    return {
        group: {
            name: Case(
                bundled="nano" if group.startswith("nano") else "almanac",
                backends=("docker",) if group.endswith("_docker") else BACKENDS,
                calls=tuple(calls),
            )
            for name, calls in cases.items()
        }
        for group, cases in json.loads(path.read_text("utf-8")).items()
    }


def of_corpus() -> dict[str, dict[str, Case]]:
    """All cases, grouped by the task that they attack."""
    groups: dict[str, dict[str, Case]] = {}
    for name, case in attacks().items():
        groups.setdefault("own" if case.task else case.bundled, {})[name] = case
    return groups


def main() -> None:
    """Play what was asked for, one attack after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backend", nargs="?", choices=BACKENDS, default="bubblewrap")
    parser.add_argument("--file", type=Path)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    only = set(filter(None, given.only.split(",")))
    bad = total = 0
    for group, cases in (of_file(given.file) if given.file else of_corpus()).items():
        for name, case in cases.items():
            if given.backend not in case.backends or (only and name not in only):
                continue
            with tempfile.TemporaryDirectory() as directory:
                played = asyncio.run(play(given.backend, {name: case}, Path(directory)))
            outcome, reward, trajectory = played[name]
            word = "MASKED" if reward is None else "PAID" if reward else "paid 0"
            (honest,) = set(golds(played).values())
            evidence = trajectory.verdict.integrity[:1] if trajectory and trajectory.verdict else ()
            total += 1
            bad += word != "paid 0" or honest != 1.0
            print(f"{group:13s} {name:40s} {word:7s} {outcome:24s} gold={honest} {evidence}", flush=True)
    print(f"{bad} of {total} attacks paid, masked, or hurt the gold beside them")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
