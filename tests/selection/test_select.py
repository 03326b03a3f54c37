"""`swe-aem select` on stores of real tasks, with real sandboxes and a scripted verifier."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from swe_aem.core import Outcome, Stop, Trajectory
from swe_aem.errors import UserError
from swe_aem.rollout import RolloutConfig, claim
from swe_aem.selection.answers import FILE
from swe_aem.store import Store
from swe_aem.tasks import load_tasks

TASK = load_tasks("micro", split="train", limit=1)[0]  # almanac: parse_date
UNLIMITED = {"memory_bytes": None, "cpus": None, "pids": None, "disk_bytes": None}


def new_file(path: str, *lines: str) -> str:
    """A diff that makes a file."""
    added = "".join(f"+{line}\n" for line in lines)
    head = f"diff --git a/{path} b/{path}\nnew file mode 100644\n--- /dev/null\n+++ b/{path}\n"
    return f"{head}@@ -0,0 +1,{len(lines)} @@\n{added}"


RIGHT = f"diff --git a/almanac/dates.py b/almanac/dates.py\n{TASK.key.gold_patch.partition(chr(10))[2]}"
WRONG = new_file("almanac/notes.py", "NOTE = 1")
GOOD_TEST = new_file(
    "tests/test_mine.py",
    "from almanac import Date, parse_date",
    "def test_dots():",
    '    assert parse_date("1.12.2023") == Date(2023, 12, 1)',
)
EASY_TEST = new_file("tests/test_easy.py", "import almanac", "def test_import():", "    assert almanac")
BROKEN_TEST = new_file("tests/test_broken.py", "def test_nothing():", "    assert False")
SAMPLES = [WRONG + EASY_TEST, RIGHT + GOOD_TEST, WRONG + BROKEN_TEST, ""]
"""Two wrong ones are the majority; the right one is what tests of others like best."""

VERIFIER = """
import swe_aem as sa

TOKENIZER = sa.load_tokenizer(None)


class Reviewer(sa.Settings):
    name: str = "reviewer"

    async def sample(self, prompt_ids, params, *, trajectory_id):
        asked = TOKENIZER.decode(list(prompt_ids))
        with open({log!r}, "a") as file:
            file.write(trajectory_id + "\\n")
        ids = TOKENIZER.encode("YES" if "len(parts) == 3" in asked else "NO")
        return sa.Completion(token_ids=tuple(ids), logprobs=(-0.01,) * len(ids), finish_reason="stop")

    async def close(self):
        pass


def shortest(trajectory, verdict):
    assert not verdict.resolved and trajectory.reward is None
    return 1 / (1 + len(trajectory.patch)) if trajectory.patch else 0
"""


def store(directory: Path, patches: list[str], **settings: Any) -> Path:
    """A store with one task and these patches; the right one has resolved it."""
    config = RolloutConfig.model_validate(
        {"tasks": "micro", "split": "train", "limit": 1, "policy": "gold", "limits": UNLIMITED, **settings}
    )
    with Store(directory).writer() as writer:
        claim(directory, config, [TASK], stored_tasks=(), tokenizer="t")
        for sample, patch in enumerate(patches):
            right = "len(parts) == 3" in patch
            outcome = Outcome.RESOLVED if right else Outcome.UNRESOLVED if patch else Outcome.EMPTY_PATCH
            writer.append(
                Trajectory(
                    task_id=TASK.task.id, sample=sample, agent="native", model="m", stop=Stop.SUBMITTED, patch=patch,
                    outcome=outcome, reward=float(right),
                )
            )  # fmt: skip
    return directory


def select(*words: object) -> tuple[int, str, str]:
    """Run the command in this process."""
    from swe_aem.cli.select import app

    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.bubblewrap
@pytest.mark.slow
def test_each_way_chooses_and_an_interrupted_selection_asks_nothing_twice(
    require_bubblewrap: None, tmp_path: Path
) -> None:
    made, log = store(tmp_path / "runs", SAMPLES), tmp_path / "asked"
    code = tmp_path / "mine.py"
    code.write_text(VERIFIER.replace("{log!r}", repr(str(log))))
    words = [made, "--json", tmp_path / "report.json", "--test-command", "python -m pytest -q -p no:cacheprovider {}"]
    for way in ("tests", "majority", "verifier", "reward"):
        words += ["--by", way]
    words += ["--verifier", f"{code}:Reviewer", "--reward", f"{code}:shortest"]
    exit_code, out, err = select(*words)
    assert exit_code == 0, err
    report = json.loads((tmp_path / "report.json").read_text())
    chosen = {way["way"]: way["choices"][0]["sample"] for way in report["ways"]}
    assert chosen == {"tests": 1, "majority": 0, "verifier": 1, "reward": 2}
    assert report["ways"][0]["choices"][0]["scores"] == {"0": 0.0, "1": 1.0, "2": 0.5, "3": 0.5}
    best = {way["way"]: [one["estimate"]["value"] for one in way["best_at"]] for way in report["ways"]}
    assert best["tests"] == [0.25, pytest.approx(1 / 2), 1.0]
    assert best["verifier"] == best["tests"]
    assert best["majority"][-1] == 0.0
    assert [one["estimate"]["value"] for one in report["pass_at"]] == [0.25, 0.5, 1.0]
    assert "best@k by verifier" in out
    assert "all scores are equal" not in out
    rows = json.loads((made / "select" / "predictions-tests.json").read_text())
    assert rows[TASK.task.id] == {
        "model_name_or_path": "m", "instance_id": TASK.task.id, "model_patch": RIGHT + GOOD_TEST,
    }  # fmt: skip

    answers = (made / "select" / FILE).read_bytes()
    asked = log.read_text().splitlines()
    assert len(asked) == 3  # not about the empty patch
    lines = answers.splitlines(keepends=True)
    (made / "select" / FILE).write_bytes(b"".join(lines[:-1]) + lines[-1][:20])  # killed while it wrote
    assert select(*words)[0] == 0
    assert log.read_text().splitlines() == [*asked, asked[-1]]
    again = (made / "select" / FILE).read_bytes()
    assert again == answers
    assert select(*words)[0] == 0
    assert (made / "select" / FILE).read_bytes() == again


def test_wrong_use_names_the_fix(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such directory; name the --out of a rollout"):
        select(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no trajectories: name the --out of `swe-aem rollout --group-size 8`"):
        select(tmp_path / "empty")
    with pytest.raises(UserError, match=r"has one sample of each task.* with --group-size 8"):
        select(store(tmp_path / "one", [RIGHT]))
    with pytest.raises(UserError, match=r"no trajectory in .* has a patch: `swe-aem inspect"):
        select(store(tmp_path / "none", ["", ""]))
    two = store(tmp_path / "two", [RIGHT, WRONG])
    with pytest.raises(UserError, match="the way verifier needs a policy to ask: --verifier"):
        select(two, "--by", "verifier")
    with pytest.raises(UserError, match="the verifier is behind a URL: give --verifier-tokenizer"):
        select(two, "--by", "verifier", "--verifier", "http://host:8000")
    with pytest.raises(UserError, match="reward resolved pays for what the hidden tests said"):
        select(two, "--by", "reward", "--reward", "resolved")
    with pytest.raises(UserError, match=r"needs \{\} where the path of the test file goes"):
        select(two, "--test-command", "pytest")


def test_without_tests_nothing_is_run_and_samples_without_a_verdict_are_told(tmp_path: Path) -> None:
    made = store(tmp_path / "runs", [RIGHT, WRONG, WRONG])
    with Store(made).writer() as writer:
        failed = {"outcome": Outcome.GRADER_FAILURE, "reward": None, "sample": 3}
        writer.append(next(Store(made).trajectories()).model_copy(update=failed))
        writer.append(next(Store(made).trajectories()).model_copy(update={**failed, "sample": 4, "patch": ""}))
    exit_code, out, err = select(made, "--k", "1,3", "--out", tmp_path / "chosen")
    assert exit_code == 0, err
    assert "1 samples left out, for infrastructure failed or their task is broken" in err
    assert "1 samples have no verdict and can be chosen, but are in no rate" in err
    assert "tests: 0 samples wrote some; 0 of 0 trials are still to be run" in err
    assert "k=3" in out
    assert "tests: all scores are equal in 1 tasks: the rule for equal scores chose" in out
    assert json.loads((tmp_path / "chosen" / "predictions-majority.json").read_text())
