"""Two trajectories side by side."""

from pathlib import Path

import pytest

from swe_aem.core import Response, TestStatus, ToolCall, Trajectory, Verdict
from swe_aem.testing.builders import make_trajectory
from swe_aem.view.site import NotThere
from tests.view.pages import Parsed, page, store_with


def of(sample: int, *commands: str, status: TestStatus) -> Trajectory:
    responses = tuple(
        Response(
            start=2 * n + 1,
            end=2 * n + 2,
            logprobs=(-1.0,),
            version=0,
            finish_reason="stop",
            sample_s=1.0,
            tool_calls=(ToolCall(name="bash", arguments={"command": command}, observation="<o>", exit_code=0),),
        )
        for n, command in enumerate(commands)
    )
    verdict = Verdict(resolved=status is TestStatus.PASSED, patch_applied=True, fail_to_pass={"t::a": status})
    ids = tuple(range(20))
    reward = float(status is TestStatus.PASSED)
    return make_trajectory("t", sample, token_ids=ids, responses=responses, messages=(), verdict=verdict, reward=reward)


@pytest.mark.parametrize(
    ("rewards", "says", "other"),
    [
        ((0.0, 0.0, 0.0), "another", 1),
        ((None, None, None), "another", 1),
        ((None, 1.0, 1.0), "another", 1),
        ((0.0, 0.0, 1.0), "the best", 2),
        ((1.0, 1.0, 0.0), "the worst", 2),
        ((None, 0.0, 1.0), "the best", 2),
    ],
)
def test_it_is_compared_with_one_that_tells_something(
    tmp_path: Path, rewards: tuple[float | None, ...], says: str, other: int
) -> None:
    members = [make_trajectory("t", n, reward=reward) for n, reward in enumerate(rewards)]
    html = page(store_with(tmp_path / "run", *members), "trajectory", task="t", sample="0")
    assert f"compare with {says} of its group" in html
    assert f"b=run%2Ft%2F{other}" in html


def test_turns_are_shared_up_to_where_they_part(tmp_path: Path) -> None:
    a = of(0, "ls", "cat x", "edit", status=TestStatus.FAILED)
    b = of(1, "ls", "cat x", "other", "more", status=TestStatus.PASSED)
    directory = store_with(tmp_path / "run", a, b)
    html = page(directory, "trajectory", task="t", sample="0")
    assert "/compare?a=run%2Ft%2F0&amp;b=run%2Ft%2F1" in html
    pair = {"a": "run/t/0", "b": "run/t/1"}
    found = Parsed(page(directory, "compare", pair))
    text = " ".join(found.text.split())
    assert "the first 2 turns are the same" in text
    assert {"a-t3", "b-t3", "b-t4"} <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))
    assert "t::aFAILEDPASSED" in text
    for wrong in ("", "run", "run/t", "run/t/x", "nothing/t/0"):
        with pytest.raises(NotThere):
            page(directory, "compare", {**pair, "b": wrong})
