"""`swe-aem inspect`: a table, one trajectory as text, and nothing that controls the terminal."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from swe_aem.cli.inspect import app
from swe_aem.core import Branch, Outcome, Response, TestStatus, ToolCall, Verdict
from swe_aem.errors import UserError
from swe_aem.store import Store
from swe_aem.testing.builders import make_trajectory


@pytest.fixture
def store(tmp_path: Path) -> Path:
    call = ToolCall(
        name="bash", arguments={"command": "ls \x1b]0;owned\x07"}, observation="\x1b[2J\x1b[31mred\u202e\0", exit_code=1
    )
    response = Response(
        start=2, end=4, logprobs=(-0.25, -1.5), version=3, finish_reason="stop", sample_s=2.0, tool_calls=(call,)
    )
    branch = Branch(token_ids=(1, 2, 3, 4), responses=(response,))
    verdict = Verdict(resolved=False, patch_applied=True, fail_to_pass={"t::a": TestStatus.FAILED})
    changes: dict[str, Any] = {"responses": (response,), "branches": (branch,), "verdict": verdict, "reward": 0.0}
    with Store(tmp_path / "run").writer() as writer:
        writer.append(make_trajectory("task.x", 0, outcome=Outcome.UNRESOLVED, **changes))
        writer.append(make_trajectory("task.x", 1))
    return tmp_path / "run"


def output(*arguments: object) -> str:
    found = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)
    assert found.exit_code == 0
    return found.stdout


def test_a_table_of_trajectories(store: Path) -> None:
    lines = output(store).splitlines()
    assert lines[0].split() == ["id", "outcome", "reward", "turns", "tokens", "step", "notes"]
    assert [line.split()[:3] for line in lines[1:]] == [["task.x.1", "resolved", "1"], ["task.x.0", "unresolved", "0"]]
    assert "task.x.1" not in output(store, "--outcome", "unresolved")
    with pytest.raises(UserError, match="that ended so"):
        output(store, "--outcome", "malformed")


def test_a_trajectory_as_text_that_controls_no_terminal(store: Path) -> None:
    text = output(store, "task.x.0")
    assert "unresolved: 1 of 1 FAIL_TO_PASS tests still fail: t::a. Its reward is 0." in text
    for wanted in ("  > bash\n    ls ", "< exit code 1, 0.0 s", "    red[U+202E]␀", "branch 1, turn 1", "FAILED t::a"):
        assert wanted in text
    assert "\x1b" not in text
    assert "\x1b[31mFAILED t::a\x1b[0m" in output(store, "task.x.0", "--colour")


def test_one_that_is_not_there(store: Path) -> None:
    with pytest.raises(UserError, match=r"no trajectory task\.x\.7 \(did you mean task\.x\.\d"):
        output(store, "task.x.7")
